"""Digits of files: found again by path, decoded on the workers, left out where damaged."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from kmdist.errors import KmdistError, UsageError
from kmdist.images import Found
from kmdist.job.job import NoUsableImageError
from kmdist.pictures.view import view
from kmdist.recipes.digits.recipe import digits
from kmdist.recipes.digits.stacks import files as folders
from kmdist.recipes.digits.stacks import open_stack
from kmdist.recipes.digits.tree import merge, split
from kmdist.recipes.predict import predict
from tests.support.runs import bytes_of

SAMPLE = open_stack("sample:digits")[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, image in enumerate(SAMPLE.read(0, 60)):
        path = tmp_path / "in" / str(SAMPLE.classes[number]) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
    return tmp_path / "in"


def damage(path: Path) -> None:
    """The header stays."""
    path.write_bytes(path.read_bytes()[:60])


def test_opening_reads_headers_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(folder / "3" / "3.png")
    decoded: list[str] = []
    monkeypatch.setattr(folders, "decoded_grey", lambda source: decoded.append(source.name))
    stack, rejected = open_stack(folder)
    assert (stack.n, rejected, decoded) == (60, [], [])


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["raw", "gradient"])
def test_damaged_files_are_left_out_whatever_the_workers(
    folder: Path, tmp_path: Path, preset: str
) -> None:
    for name in ("0/0.png", "3/3.png", "7/17.png"):
        damage(folder / name)
    options = {"k": 4, "preset": preset, "block_mpx": 0.01, "test": folder}
    runs = [digits(folder, tmp_path / f"{w}.zarr", workers=w, **options) for w in (1, 3)]
    assert bytes_of(runs[0].path) == bytes_of(runs[1].path)
    rejected = [one["image"] for one in runs[0].attributes["rejected"]]
    names = ["0/0.png", "3/3.png", "7/17.png"]
    assert rejected == [*(f"--test: {name}" for name in names), *names]
    assert runs[0].attributes["n_images"] == len(runs[0].names) == len(runs[0].labels()[:]) == 57
    assert runs[0].array("confusion_test").sum() == 57
    np.testing.assert_array_equal(runs[0].array("confusion_test"), runs[0].array("confusion"))
    for name in names:
        (folder / name).unlink()
    del options["test"]
    without = digits(folder, tmp_path / "without.zarr", **options)
    assert without.names == runs[0].names
    np.testing.assert_array_equal(without.labels()[:], runs[0].labels()[:])


def test_more_clusters_than_images_that_can_be_used(folder: Path, tmp_path: Path) -> None:
    damage(folder / "3" / "3.png")
    with pytest.raises(UsageError, match="k is 60; 59 images can be used"):
        digits(folder, tmp_path / "r.zarr", k=60, preset="raw")
    for path in folder.rglob("*.png"):
        damage(path)
    for polarity in ("auto", "light"):
        with pytest.raises(NoUsableImageError, match="image"):
            digits(folder, tmp_path / "r.zarr", k=2, preset="raw", polarity=polarity)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.slow
@pytest.mark.parametrize("one_by_one", [False, True])
def test_the_files_of_a_run_are_found_again(folder: Path, tmp_path: Path, one_by_one: bool) -> None:
    damage(folder / "3" / "3.png")
    found = [Found(str(p.relative_to(folder)), str(p)) for p in folder.rglob("*.png")]
    images = found if one_by_one else folder
    run = digits(images, tmp_path / "r.zarr", k=4, preset="gradient")
    assert sorted(run.paths) == sorted(one.path for one in found if "3/3.png" not in one.path)
    cv2.imwrite(str(folder / "0" / "more.png"), SAMPLE.read(70, 71)[0])
    finer = split(run, tmp_path / "s.zarr", cluster=0, k=2)
    assert finer.names == run.names
    assert finer.attributes["class_names"] == run.attributes["class_names"]
    assert [one["image"] for one in finer.attributes["rejected"]] == ["3/3.png"]
    joined = merge(finer, tmp_path / "m.zarr", to=4)
    assert joined.paths == run.paths
    view(joined, tmp_path / "members.png", what="members")
    again = predict(joined, found, tmp_path / "p.zarr")
    np.testing.assert_array_equal(again.labels()[:], joined.labels()[:])
    folder.rename(tmp_path / "moved")
    with pytest.raises(UsageError, match=r"not where they were.*--images"):
        merge(finer, tmp_path / "n.zarr", to=3)
    moved = merge(finer, tmp_path / "n.zarr", to=4, images=tmp_path / "moved")
    np.testing.assert_array_equal(moved.labels()[:], joined.labels()[:])


def test_labels_in_memory_name_a_damaged_file(folder: Path, tmp_path: Path) -> None:
    run = digits(folder, tmp_path / "r.zarr", k=4, preset="gradient")
    np.testing.assert_array_equal(run.predict(folder), run.labels()[:])
    damage(folder / "3" / "3.png")
    with pytest.raises(KmdistError, match=r"3/3\.png"):
        run.predict(folder)
    (folder / "3" / "3.png").write_bytes(b"nothing")
    with pytest.raises(KmdistError, match=r"3/3\.png"):
        run.predict(folder)


def test_an_array_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    for n, level in ((40, 3), (5, 9)):
        np.save(tmp_path / "x.npy", np.full((n, 8, 8), level, np.uint8))
        stack, _ = open_stack(tmp_path / "x.npy")
        assert stack.n == n
        assert (stack.read(0, n) == level).all()
