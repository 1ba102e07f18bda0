"""The quantize recipe end to end: right, complete, the same bytes however it runs."""

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import kmdist
from kmdist.cli.printing import say_run
from kmdist.errors import KmdistError, UsageError
from kmdist.images import ImageSource
from kmdist.job import work
from kmdist.job.progress import Event
from kmdist.store import Run, RunWriter
from tests.support.dask_processes import DaskProcesses
from tests.support.runs import bytes_of, on_white, recomputed_inertia


def test_shared_palette(photographs: Path, tmp_path: Path) -> None:
    run = kmdist.quantize(photographs, tmp_path / "r.zarr", k=12, workers=2)
    assert len(run.images) == 7
    assert run.k == 12
    assert run.inertia == pytest.approx(recomputed_inertia(run, photographs), rel=1e-9)
    counts = sum(
        np.bincount(run.labels(name)[:][run.labels(name)[:] < 12].ravel(), minlength=12)
        for name in run.images
    )
    np.testing.assert_array_equal(counts, run.counts)
    assert np.all(np.diff(run.counts) <= 0)
    transparent = run.labels("transparent.png")[:]
    assert np.all(transparent[:20] == 255)
    assert run.unclustered == 255
    assert np.all(transparent[20:] < 12)


def test_each_image_has_its_palette(photographs: Path, tmp_path: Path) -> None:
    run = kmdist.quantize(photographs, tmp_path / "r.zarr", k=5, shared=False)
    alone = kmdist.quantize(photographs / "0.png", tmp_path / "one.zarr", k=5)
    np.testing.assert_array_equal(run.image("0.png").palette, alone.palette)
    np.testing.assert_array_equal(run.labels("0.png")[:], alone.labels("0.png")[:])
    assert run.inertia == pytest.approx(sum(run.image(n).inertia for n in run.images))
    assert run.unclustered == 255


def test_several_k_share_the_passes(photographs: Path, tmp_path: Path) -> None:
    run = kmdist.quantize(photographs, tmp_path / "r.zarr", k=(2, 8))
    for k in (2, 8):
        alone = kmdist.quantize(photographs, tmp_path / f"{k}.zarr", k=k)
        np.testing.assert_array_equal(run.runs[k].palette, alone.palette)
        np.testing.assert_array_equal(
            run.runs[k].labels("sub/1.png")[:], alone.labels("sub/1.png")[:]
        )


@pytest.mark.slow
def test_quality_instead_of_k(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = kmdist.quantize(photographs, tmp_path / "r.zarr", psnr=24)
    below = kmdist.quantize(photographs, tmp_path / "below.zarr", k=int(run.k or 0) - 1)
    reason = run.attributes["selection"]["reason"]

    def reached(run: Run) -> float:
        error, n = 0, 0
        for name in run.images:
            pixels = cv2.imread(str(photographs / name), cv2.IMREAD_UNCHANGED)
            labels = run.labels(name)[:]
            keep = labels < (run.k or 0)
            shown = np.asarray(run.palette)[labels[keep]].astype(np.int64)
            error += int(((on_white(pixels)[keep] - shown) ** 2).sum())
            n += 3 * int(keep.sum())
        return float(10 * np.log10(255**2 * n / error))

    assert reached(run) >= 24 > reached(below)
    dbs = f"{reached(run):.2f} dB, one colour less {reached(below):.2f} dB"
    assert reason == f"k = {run.k} reaches {dbs}"
    say_run(run)
    assert f"k chosen     {reason}\n" in capsys.readouterr().out


def test_the_same_bytes_however_it_runs(
    photographs: Path, tmp_path: Path, dask_cluster: DaskProcesses
) -> None:
    """Threads, worker processes and separately started workers; pixels kept or not."""
    address = dask_cluster.address
    ways: dict[str, dict[str, object]] = {
        "one": {"workers": 1, "worker_kind": "thread"},
        "four": {"workers": 4, "worker_kind": "thread", "keep_pixels": "never"},
        "process": {"workers": 2, "worker_kind": "process"},
        "cluster": {"scheduler": address, "keep_pixels": "never"},
        "cluster-kept": {"scheduler": address, "keep_pixels": "always"},
    }
    results = {}
    for name, options in ways.items():
        path = tmp_path / f"{name}.zarr"
        kmdist.quantize(photographs, path, k=9, block_mpx=0.01, **options)  # type: ignore[arg-type]
        results[name] = bytes_of(path)
    assert len(results["one"]) > 30
    for name in ways:
        assert results[name] == results["one"], name


@pytest.mark.parametrize("stage", ["count", "label"])
def test_a_worker_killed_in_a_pass_changes_nothing(
    photographs: Path, tmp_path: Path, dask_processes: DaskProcesses, stage: str
) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for i in range(60):
        shutil.copy(photographs / f"{2 * (i % 3)}.png", many / f"{i:02d}.png")
    kmdist.quantize(many, tmp_path / "calm.zarr", k=9, block_mpx=0.01, workers=2)
    killed = threading.Event()

    def watch(event: object) -> None:
        if isinstance(event, Event) and event.stage == stage and event.done >= 5:
            assert event.total >= 60
            if not killed.is_set():
                assert event.total - event.done >= 10
                dask_processes.workers[0].kill()
                killed.set()

    kmdist.quantize(
        many,
        tmp_path / "killed.zarr",
        k=9,
        block_mpx=0.01,
        scheduler=dask_processes.address,
        watch=watch,
    )
    assert killed.is_set()
    assert bytes_of(tmp_path / "killed.zarr") == bytes_of(tmp_path / "calm.zarr")


class StopHereError(RuntimeError):
    """Stands for a crash of this process."""


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["count", "label", "quantize"])
def test_resume_gives_the_same_bytes_and_decodes_little(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for i in range(60):
        shutil.copy(photographs / f"{2 * (i % 3)}.png", many / f"{i:02d}.png")
    options = {"k": 9, "block_mpx": 0.01, "workers": 2, "keep_pixels": "never"}
    options["shared"] = stage != "quantize"
    kmdist.quantize(many, tmp_path / "calm.zarr", **options)  # type: ignore[arg-type]

    def stop(event: object) -> None:
        if isinstance(event, Event) and event.stage == stage and event.done >= 0.8 * event.total:
            raise StopHereError

    path = tmp_path / "stopped.zarr"
    with pytest.raises(StopHereError):
        kmdist.quantize(many, path, watch=stop, **options)  # type: ignore[arg-type]
    assert not path.exists()
    decoded = count_decodes(monkeypatch)
    kmdist.quantize(many, path, resume=True, **options)  # type: ignore[arg-type]
    assert bytes_of(path) == bytes_of(tmp_path / "calm.zarr")
    in_other_passes = 60 if stage == "count" else 0
    assert len(decoded) - in_other_passes <= 0.3 * 60


def count_decodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that are decoded from now on, in this process."""
    decoded: list[str] = []
    original = work.decode

    def counting(source: ImageSource, window: object = None) -> np.ndarray:
        decoded.append(source.name)
        return original(source, window)  # type: ignore[arg-type]

    monkeypatch.setattr(work, "decode", counting)
    return decoded


def test_a_bad_file_is_left_out_and_strict_stops(photographs: Path, tmp_path: Path) -> None:
    (photographs / "broken.png").write_bytes((photographs / "0.png").read_bytes()[:400])
    (photographs / "empty.jpg").touch()
    run = kmdist.quantize(photographs, tmp_path / "r.zarr", k=4)
    rejected = {r["image"]: r["code"] for r in run.attributes["rejected"]}
    assert rejected == {"broken.png": "truncated", "empty.jpg": "empty"}
    assert len(run.images) == 7
    with pytest.raises(KmdistError, match=r"empty\.jpg|broken\.png"):
        kmdist.quantize(photographs, tmp_path / "s.zarr", k=4, strict=True)
    assert not list(tmp_path.glob("*s.zarr*"))


@pytest.mark.parametrize(("ending", "error"), [("discard", UsageError), ("release", KmdistError)])
def test_a_run_ends_when_no_task_of_it_is_left(
    photographs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
    error: type[KmdistError],
) -> None:
    end, decode = getattr(RunWriter, ending), work.decode
    working: list[list[str]] = []

    def ended(writer: RunWriter) -> None:
        working.append([t.name for t in threading.enumerate() if t.name.startswith("kmdist_")])
        end(writer)

    def slowly(*arguments: Any) -> np.ndarray:
        time.sleep(0.05)
        return decode(*arguments)

    def fails(event: object) -> None:
        if isinstance(event, Event) and event.stage == "count":
            raise error("stopped")

    monkeypatch.setattr(RunWriter, ending, ended)
    monkeypatch.setattr(work, "decode", slowly)
    with pytest.raises(error, match="stopped"):
        kmdist.quantize(
            photographs, tmp_path / "r.zarr", k=4, block_mpx=0.01, workers=2, watch=fails
        )
    assert working
    assert not any(working)


def test_more_colours_than_there_are_is_exact(tmp_path: Path) -> None:
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[:2] = (10, 20, 30)
    cv2.imwrite(str(tmp_path / "two.png"), pixels)
    run = kmdist.quantize(tmp_path / "two.png", tmp_path / "r.zarr", k=16)
    assert run.k == 2
    assert run.inertia == 0
    assert run.attributes["warning"]


def test_wrong_usage_is_said_plainly(photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="300"):
        kmdist.quantize(photographs, tmp_path / "r.zarr", k=300)
    with pytest.raises(UsageError, match="give one of them"):
        kmdist.quantize(photographs, tmp_path / "r.zarr", k=3, psnr=30)
    with pytest.raises(UsageError, match="nowhere"):
        kmdist.quantize(tmp_path / "nowhere", tmp_path / "r.zarr")
    kmdist.quantize(photographs, tmp_path / "r.zarr", k=3)
    with pytest.raises(UsageError, match="overwrite"):
        kmdist.quantize(photographs, tmp_path / "r.zarr", k=3)
    assert kmdist.quantize(photographs, tmp_path / "r.zarr", k=3, resume=True).k == 3
    assert kmdist.quantize(photographs, tmp_path / "r.zarr", k=4, overwrite=True).k == 4


def test_k_is_chosen_from_a_range(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    colors = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200], [220, 220, 220]])
    pixels = colors[rng.integers(0, 4, (60, 60))] + rng.integers(-6, 7, (60, 60, 3))
    cv2.imwrite(str(tmp_path / "four.png"), pixels.astype(np.uint8)[..., ::-1])
    run = kmdist.quantize(tmp_path / "four.png", tmp_path / "r.zarr", k="2..9")
    assert run.k == 4
    assert [row["k"] for row in run.attributes["selection"]["scores"]] == list(range(2, 10))
    with pytest.raises(UsageError, match="range"):
        kmdist.quantize(tmp_path / "four.png", tmp_path / "s.zarr", k="few")


def test_medians_of_colours(photographs: Path, tmp_path: Path) -> None:
    run = kmdist.quantize(photographs / "0.png", tmp_path / "r.zarr", k=4, metric="manhattan")
    pixels = cv2.imread(str(photographs / "0.png"))[..., ::-1]
    labels = run.labels("0.png")[:]
    for j in range(4):
        np.testing.assert_allclose(run.centroids[j], np.median(pixels[labels == j], axis=0), atol=1)


@pytest.mark.slow
def test_a_tiled_tiff_is_quantized_by_tile(tmp_path: Path) -> None:
    import tifffile

    y, x = np.mgrid[0:2100, 0:2500]
    pixels = np.stack([x % 251, y % 241, (x // 50 + y // 50) % 7 * 30], axis=-1).astype(np.uint8)
    tifffile.imwrite(tmp_path / "t.tif", pixels, tile=(256, 256), photometric="rgb")
    tifffile.imwrite(tmp_path / "w.tif", pixels, rowsperstrip=2100, photometric="rgb")
    tiled = kmdist.quantize(tmp_path / "t.tif", tmp_path / "t.zarr", k=8, block_mpx=1.1)
    whole = kmdist.quantize(tmp_path / "w.tif", tmp_path / "w.zarr", k=8)
    each = kmdist.quantize(
        tmp_path / "t.tif", tmp_path / "e.zarr", k=8, block_mpx=1.1, shared=False
    )
    np.testing.assert_array_equal(tiled.palette, whole.palette)
    np.testing.assert_array_equal(each.image("t.tif").palette, whole.palette)
    for level in range(2):
        expected = whole.labels("w.tif", level)[:]
        np.testing.assert_array_equal(tiled.labels("t.tif", level)[:], expected)
        np.testing.assert_array_equal(each.labels("t.tif", level)[:], expected)


def test_a_count_whose_worker_died_is_not_decoded_again(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task runs again on another worker: it finds what the first one had saved."""
    from kmdist.job import block_pass

    original, decoded = block_pass._saved, count_decodes(monkeypatch)

    def twice(*arguments: object) -> object:
        original(*arguments)  # type: ignore[arg-type]
        decodes = len(decoded)
        result = original(*arguments)  # type: ignore[arg-type]
        assert len(decoded) == decodes
        return result

    monkeypatch.setattr(block_pass, "_saved", twice)
    first = kmdist.quantize(
        photographs, tmp_path / "a.zarr", k=4, workers=1, keep_pixels="never", block_mpx=0.01
    )
    monkeypatch.undo()
    again = kmdist.quantize(photographs, tmp_path / "b.zarr", k=4, block_mpx=0.01)
    assert bytes_of(Path(first.path)) == bytes_of(Path(again.path))
