"""Runs record where their images are in full, whatever folder they were made in."""

from pathlib import Path

import numpy as np
import pytest

from kmdist import open_run, quantize
from kmdist.recipes.digits.recipe import digits
from tests.support.corpus import encode, photo
from tests.support.runs import bytes_of


@pytest.mark.parametrize("shared", [True, False])
def test_bytes_do_not_depend_on_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(("a.png", "sub/b.png")):
        (folder / name).write_bytes(encode(photo(20, 30, seed=number), "PNG"))
    for place, named in ((tmp_path, "photos"), (folder, "."), (folder / "sub", "..")):
        monkeypatch.chdir(place)
        quantize(named, tmp_path / f"{place.name}.zarr", k=3, shared=shared)
    first, *others = (bytes_of(tmp_path / f"{place}.zarr") for place in (tmp_path.name, "photos"))
    assert all(other == first for other in others)
    monkeypatch.chdir("/")
    run = open_run(tmp_path / "photos.zarr")
    assert [image.source for image in run.images.values()] == [
        str(folder / "a.png"),
        str(folder / "sub" / "b.png"),
    ]


def test_digits_name_their_stack_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8))
    monkeypatch.chdir(tmp_path)
    run = digits("a.npy", k=2, preset="raw")
    assert run.parameters["images"] == str(tmp_path / "a.npy")
