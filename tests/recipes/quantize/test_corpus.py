"""A folder with every bad kind of file: each is named with its reason, the good ones are done."""

from pathlib import Path

import pytest

import kmdist
from kmdist.images import open_images
from tests.support.corpus import make_corpus

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("shared", [True, False])
def test_every_bad_file_is_listed_and_every_good_one_done(tmp_path: Path, shared: bool) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    corpus = make_corpus(folder)
    run = kmdist.quantize(folder, tmp_path / "r.zarr", k=4, shared=shared, max_pixels=50_000_000)
    rejected = {r["image"]: r["code"] for r in run.attributes["rejected"]}
    assert len(corpus.bad) >= 25
    assert rejected == corpus.bad
    assert set(run.images) == set(corpus.good)
    for name in corpus.good:
        assert run.labels(name).shape == open_images(folder)[name].shape[:2]
