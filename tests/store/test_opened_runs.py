"""A reader keeps to the run it opened, or is told that it was replaced."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kmdist.errors import KmdistError, UsageError
from kmdist.pictures.export import export
from kmdist.store import FsspecTarget, LocalTarget, RunImage, RunWriter, open_run
from tests.support.writing import released

NAMES = [f"{i}.png" for i in range(12)]
PALETTE = np.arange(27, dtype=np.uint8).reshape(9, 3)


def publish(path: Any, value: int, k: int = 5, **options: Any) -> None:
    with released(
        RunWriter.create(
            path, recipe="quantize", parameters={"k": k}, fingerprint="f", images=NAMES, **options
        )
    ) as writer:
        for name in NAMES:
            writer.write_labels(name, np.full((3, 4), value), k=k)
        writer.write_array("centroids", PALETTE[:k].astype(np.float32), ("cluster", "feature"))
        writer.write_array("palette", PALETTE[:k], ("cluster", "channel"))
        writer.write_array("counts", np.full(k, value), ("cluster",))
        writer.publish({"k": k})


READS: dict[str, Callable[[Any], Any]] = {
    "image": lambda run: run.image("3.png"),
    "images": lambda run: list(run.images),
    "labels": lambda run: run.labels("3.png")[:],
    "counts": lambda run: run.counts,
    "palette": lambda run: run.palette,
    "info": lambda run: run.info(),
    "predict": lambda run: run.predict(np.zeros((4, 4, 3), np.uint8)),
}


@pytest.fixture(params=["folder", "store"])
def place(request: Any, tmp_path: Path) -> Any:
    if request.param == "folder":
        return tmp_path / "r.zarr"
    return f"memory://opened-{os.urandom(4).hex()}/r.zarr"


@pytest.mark.slow
@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_an_open_run_that_was_replaced_says_so(place: Any, read: Callable[[Any], Any]) -> None:
    publish(place, 1)
    run = open_run(place)
    publish(place, 8, k=9, overwrite=True)
    with pytest.raises(KmdistError, match="replaced, moved or removed since it was opened"):
        read(run)
    read(open_run(place))


def test_labels_opened_before_are_not_read_of_the_new_run(place: Any) -> None:
    publish(place, 1)
    labels = open_run(place).labels("3.png")
    publish(place, 8, k=9, overwrite=True)
    with pytest.raises(KmdistError, match="replaced"):
        np.asarray(labels[:])


def test_a_run_removed_while_it_is_open_is_not_read_as_zeros(tmp_path: Path) -> None:
    publish(tmp_path / "r.zarr", 1)
    labels = open_run(tmp_path / "r.zarr").labels("3.png")
    shutil.rmtree(tmp_path / "r.zarr")
    with pytest.raises(KmdistError, match="removed"):
        np.asarray(labels[:])


def test_one_k_of_a_run_that_was_replaced_says_so(tmp_path: Path) -> None:
    def several(value: int, **options: Any) -> None:
        writer = RunWriter.create(
            tmp_path / "r.zarr", recipe="quantize", parameters={}, fingerprint="f", images=["a"],
            **options,
        )  # fmt: skip
        for k in (5, 9):
            writer.write_labels("a", np.full((2, 2), value), k=k, prefix=f"k{k}")
        writer.publish({}, runs={5: {}, 9: {}})

    several(1)
    run, whole = open_run(tmp_path / "r.zarr/k5"), open_run(tmp_path / "r.zarr").runs[5]
    several(2, overwrite=True)
    for one in (run, whole):
        with pytest.raises(KmdistError, match="replaced"):
            np.asarray(one.labels("a")[:])


def test_one_k_whose_record_is_lost_is_told_in_a_folder_and_in_a_store(place: Any) -> None:
    writer = RunWriter.create(place, recipe="quantize", parameters={}, fingerprint="f")
    for k in (5, 9):
        writer.write_array(f"k{k}/counts", np.full(k, 1), ("cluster",))
    writer.publish({}, runs={5: {}, 9: {}})
    (FsspecTarget if "://" in str(place) else LocalTarget)(place).delete("k5/zarr.json")
    with pytest.raises(UsageError, match=r"r\.zarr/k5 is no run of kmdist: it has no zarr\.json"):
        _ = open_run(place).runs


def test_an_export_across_an_overwrite_is_of_one_run_or_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path / "r.zarr", 1)
    run = open_run(tmp_path / "r.zarr")
    labels = RunImage.labels

    def overwrite_at_the_sixth(self: RunImage, level: int = 0) -> Any:
        if self.name == run_names[5]:
            publish(tmp_path / "r.zarr", 8, k=9, overwrite=True)
        return labels(self, level)

    run_names = list(run.images)
    monkeypatch.setattr(RunImage, "labels", overwrite_at_the_sixth)
    with pytest.raises(KmdistError, match="replaced"):
        export(run, tmp_path / "out")
