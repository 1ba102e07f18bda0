"""Runs that were written by version 0.1.0 of kmdist, format 1, are readable for ever."""

from pathlib import Path

import numpy as np
import pytest

from kmdist.pictures.export import export
from kmdist.recipes.registry import recipe_names
from kmdist.store import Run, open_run
from tests.support.kept_runs import KEPT, unpack


@pytest.mark.parametrize("name", KEPT)
def test_a_kept_run_is_read_whole(name: str, tmp_path: Path) -> None:
    run = open_run(unpack(name, tmp_path))
    assert run.recipe == name.partition("-")[0]
    for one in run.runs.values() or [run]:
        info = one.info()
        assert info["k"] == one.k
        for image in one.images.values():
            labels = image.read_labels(k=image.attributes.get("k") or one.k)
            assert labels.shape == (image.height, image.width)
            for level in range(1, image.levels):
                assert image.read_labels(level, k=one.k).size
    assert [rejected["image"] for rejected in run.attributes["rejected"]] == []


def test_there_is_one_of_each_recipe() -> None:
    assert {name.partition("-")[0] for name in KEPT} == set(recipe_names())


def test_what_a_kept_run_says(tmp_path: Path) -> None:
    run = open_run(unpack("quantize", tmp_path))
    assert run.k == 4
    assert list(run.images) == ["a.png", "b.png"]
    assert int(run.counts.sum()) == 2 * 24 * 32
    assert np.bincount(run.image("a.png").read_labels().ravel()).sum() == 24 * 32
    several = open_run(unpack("quantize-several", tmp_path))
    assert sorted(several.runs) == [2, 3]
    transparent = open_run(unpack("quantize-transparent", tmp_path)).image("transparent.png")
    assert (transparent.read_labels() == transparent.unclustered).sum() == 24 * 5
    digits = open_run(unpack("digits", tmp_path))
    assert digits.info()["scores"]["accuracy_hungarian"] == 1.0
    assert len(digits.names) == digits.labels().shape[0] == 12


@pytest.mark.parametrize("name", [name for name in KEPT if name != "digits"])
def test_a_kept_run_is_exported(name: str, tmp_path: Path) -> None:
    rows = export(unpack(name, tmp_path), tmp_path / "out", workers=1)
    assert all(list((tmp_path / "out").rglob(row.file)) for row in rows)
    assert {row.image for row in rows} == set(next(iter(_fits(name, tmp_path))).images)


def _fits(name: str, folder: Path) -> list[Run]:
    run = open_run(folder / f"{name}.zarr")
    return list(run.runs.values()) or [run]


@pytest.mark.parametrize("name", ["quantize", "texture"])
def test_a_kept_run_labels_new_images(name: str, tmp_path: Path) -> None:
    run = open_run(unpack(name, tmp_path))
    image = np.full((40, 50, 3), 200, np.uint8)
    assert run.predict(image).shape == (40, 50)
