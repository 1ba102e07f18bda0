"""The digits recipe end to end: right, complete, the same bytes however it runs."""

import gzip
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from kmdist.cli import cli
from kmdist.errors import KmdistError, UsageError
from kmdist.job.progress import Event, Message
from kmdist.recipes.digits.recipe import digits
from kmdist.recipes.digits.stacks import open_stack
from kmdist.store import Run
from tests.support.dask_processes import DaskProcesses
from tests.support.folders import data_folder
from tests.support.runs import bytes_of


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled digits as a file, twice over, so that landmarks have something to hold."""
    images = open_stack("sample:digits")[0]
    folder = tmp_path_factory.mktemp("sample")
    pixels = images.read(0, images.n)
    shifted = np.roll(pixels, 1, axis=1)
    both = np.concatenate([pixels, shifted])
    classes = np.concatenate([images.classes, images.classes])
    np.savez(folder / "digits.npz", images=both, labels=classes)
    return folder / "digits.npz"


@pytest.fixture(scope="module")
def whole(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Uninterrupted runs by their options, each made once."""

    @cache
    def made(**options: Any) -> Path:
        return digits(sample, tmp_path_factory.mktemp("whole") / "r.zarr", **options).path

    return made


def test_pixels(sample: Path, tmp_path: Path) -> None:
    run = digits(sample, tmp_path / "r.zarr", preset="raw", k=10)
    labels, centroids = run.labels()[:], np.asarray(run.centroids, np.float64)
    rows = open_stack(sample)[0].read(0, 3594).reshape(3594, 64) / 255.0
    assert run.inertia == pytest.approx(((rows - centroids[labels]) ** 2).sum(), rel=1e-6)
    nearest = ((rows[:, None] - centroids) ** 2).sum(axis=2)
    assert np.mean(nearest.argmin(axis=1) == labels) > 0.999
    np.testing.assert_array_equal(np.bincount(labels, minlength=10), run.counts)
    assert np.all(np.diff(run.counts) <= 0)
    means = run.array("means")
    np.testing.assert_allclose(means.reshape(10, 64), centroids, atol=2e-3)
    classes = open_stack(sample)[0].classes
    table = np.zeros((10, 10), np.int64)
    np.add.at(table, (labels, classes), 1)
    np.testing.assert_array_equal(run.array("confusion"), table)


@pytest.mark.slow
def test_landmarks_beat_pixels(sample: Path, tmp_path: Path) -> None:
    score = {}
    for preset in ("raw", "landmark", "refined"):
        run = digits(sample, tmp_path / f"{preset}.zarr", preset=preset)
        score[preset] = run.attributes["scores"]["accuracy_hungarian"]
    assert score["raw"] + 0.1 < score["landmark"]
    assert score["raw"] + 0.1 < score["refined"]


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["deskew", "refined"])
def test_the_same_bytes_for_any_workers(sample: Path, tmp_path: Path, preset: str) -> None:
    same = []
    for number, workers in enumerate((1, 2, 4)):
        digits(sample, tmp_path / f"{number}.zarr", preset=preset, workers=workers, block_mpx=0.12)
        same.append(bytes_of(tmp_path / f"{number}.zarr"))
    assert len(same[0]) > 10
    assert same[0] == same[1] == same[2]


def test_the_same_bytes_on_a_cluster(
    sample: Path, tmp_path: Path, dask_cluster: DaskProcesses
) -> None:
    digits(sample, tmp_path / "a.zarr", preset="landmark", block_mpx=0.12, workers=1)
    digits(
        sample,
        tmp_path / "b.zarr",
        preset="landmark",
        block_mpx=0.12,
        scheduler=dask_cluster.address,
    )
    assert bytes_of(tmp_path / "a.zarr") == bytes_of(tmp_path / "b.zarr")


@pytest.mark.slow
def test_rows_that_are_not_kept_give_the_same(sample: Path, tmp_path: Path) -> None:
    for keep in ("always", "never"):
        digits(
            sample,
            tmp_path / f"{keep}.zarr",
            preset="gradient",
            k=6,
            max_iter=3,
            keep_pixels=keep,
        )
    assert bytes_of(tmp_path / "always.zarr") == bytes_of(tmp_path / "never.zarr")


@pytest.mark.slow
def test_labels_only_score(sample: Path, tmp_path: Path) -> None:
    with np.load(sample) as members:
        images, classes = members["images"], members["labels"]
    shuffled = np.random.default_rng(0).permutation(classes)
    np.savez(tmp_path / "shuffled.npz", images=images, labels=shuffled)
    np.savez(tmp_path / "none.npz", images=images)
    runs = [
        digits(path, tmp_path / f"{i}.zarr", preset="refined")
        for i, path in enumerate((sample, tmp_path / "shuffled.npz", tmp_path / "none.npz"))
    ]
    for name in ("labels", "centroids", "means", "members/nearest", "members/drawn"):
        arrays = [run.array(name).tobytes() for run in runs]
        assert arrays[0] == arrays[1] == arrays[2], name
    assert runs[1].attributes["scores"]["accuracy_hungarian"] < 0.3
    assert "scores" not in runs[2].attributes


class StopError(Exception):
    """Stands for an interruption."""


@pytest.mark.slow
@pytest.mark.parametrize("at", ["components", "landmarks-1-0", "label"])
def test_interrupted_then_resumed(
    sample: Path,
    whole: Callable[..., Path],
    tmp_path: Path,
    at: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from kmdist.recipes.digits import results
    from kmdist.store import RunWriter

    saved: list[str] = []
    save = RunWriter.save_state

    def stop_after(self: RunWriter, name: str, arrays: dict[str, np.ndarray]) -> None:
        save(self, name, arrays)
        saved.append(name)
        if name == at:
            raise StopError

    def stop(*_: object) -> None:
        raise StopError

    said: list[Event | Message] = []
    options = {"preset": "landmark", "block_mpx": 0.12}
    with monkeypatch.context() as patched:
        patched.setattr(RunWriter, "save_state", stop_after)
        if at == "label":
            patched.setattr(results, "report_all", stop)
        with pytest.raises(StopError):
            digits(sample, tmp_path / "r.zarr", watch=said.append, **options)
    assert not (tmp_path / "r.zarr").exists()
    assert any("--resume" in m.text for m in said if isinstance(m, Message))
    events: list[Event | Message] = []
    digits(sample, tmp_path / "r.zarr", resume=True, watch=events.append, **options)
    assert bytes_of(tmp_path / "r.zarr") == bytes_of(whole(**options))
    assert not any(isinstance(e, Event) and e.stage == "describe" for e in events)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["describe", "label"])
def test_blocks_that_are_done_are_not_done_again(
    sample: Path,
    whole: Callable[..., Path],
    tmp_path: Path,
    stage: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from kmdist.recipes.digits import fitting
    from kmdist.recipes.digits import results as digit_labelling
    from kmdist.store import RunWriter

    options = {"preset": "landmark", "k": (5, 10), "block_mpx": 0.12, "workers": 1}
    expected = bytes_of(whole(**options))
    marked: list[int] = []
    mark = RunWriter.mark_done

    def stop_after(self: RunWriter, name: str, index: int) -> None:
        mark(self, name, index)
        if name == stage:
            marked.append(index)
            if len(marked) == 4:
                raise StopError

    with monkeypatch.context() as patched:
        patched.setattr(RunWriter, "mark_done", stop_after)
        with pytest.raises(StopError):
            digits(sample, tmp_path / "r.zarr", **options)
    seen: list[int] = []

    def described(item: Any, *arguments: Any) -> Any:
        seen.append(item.first)
        return fitting.describe_block(item, *arguments)

    def reported(item: Any, *arguments: Any) -> Any:
        seen.append(item[1].first)
        return report_block(item, *arguments)

    report_block = digit_labelling.report_block
    if stage == "describe":
        counted = replace(fitting.DESCRIBE, task=described)
        monkeypatch.setattr(fitting, "DESCRIBE", counted)
    else:
        monkeypatch.setattr(digit_labelling, "report_block", reported)
    events: list[Event | Message] = []
    digits(sample, tmp_path / "r.zarr", resume=True, watch=events.append, **options)
    assert bytes_of(tmp_path / "r.zarr") == expected
    done = [event for event in events if isinstance(event, Event) and event.stage == stage]
    assert len(done) == 8
    assert len(seen) == len(set(seen))
    assert 0 < len(seen) <= 8 - 4  # one more may have been saved while the job was being stopped


def test_a_fit_goes_on_from_its_last_iteration(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kmdist.job import resumable_fit

    monkeypatch.setattr(resumable_fit, "CHECKPOINT_S", 0.0)
    options = {"preset": "raw", "k": 8, "block_mpx": 0.12}
    whole = digits(sample, tmp_path / "whole.zarr", **options)

    def stop_at_fifth(event: Event | Message) -> None:
        if isinstance(event, Event) and event.stage == "fit" and event.done == 5:
            raise StopError

    with pytest.raises(StopError):
        digits(sample, tmp_path / "r.zarr", watch=stop_at_fifth, **options)
    events: list[Event | Message] = []
    digits(sample, tmp_path / "r.zarr", resume=True, watch=events.append, **options)
    assert bytes_of(tmp_path / "r.zarr") == bytes_of(Path(whole.path))
    assert min(e.done for e in events if isinstance(e, Event) and e.stage == "fit") == 5


def test_several_k_share_rows(sample: Path, tmp_path: Path) -> None:
    run = digits(sample, tmp_path / "r.zarr", preset="raw", k=(4, 12), init="random", n_init=2)
    assert sorted(run.runs) == [4, 12]
    assert run.runs[12].inertia < run.runs[4].inertia
    alone = digits(sample, tmp_path / "a.zarr", preset="raw", k=4, init="random", n_init=2)
    np.testing.assert_array_equal(run.runs[4].labels()[:], alone.labels()[:])
    assert run.runs[4].attributes["scores"] == alone.attributes["scores"]


@pytest.mark.slow
def test_test_images_are_scored_with_the_map_of_the_fitted(sample: Path, tmp_path: Path) -> None:
    run = digits(sample, tmp_path / "r.zarr", preset="landmark", test=sample)
    assert run.attributes["scores_test"] == run.attributes["scores"]
    np.testing.assert_array_equal(run.array("confusion_test"), run.array("confusion"))


def test_dark_ink_is_noticed_and_said(sample: Path, tmp_path: Path) -> None:
    with np.load(sample) as members:
        np.savez(tmp_path / "dark.npz", images=255 - members["images"], labels=members["labels"])
    said: list[Event | Message] = []
    light = digits(sample, tmp_path / "light.zarr", preset="raw")
    dark = digits(tmp_path / "dark.npz", tmp_path / "d.zarr", preset="raw", watch=said.append)
    assert any("dark ink" in m.text for m in said if isinstance(m, Message))
    assert dark.array("labels").tobytes() == light.array("labels").tobytes()


@pytest.mark.slow
def test_blank_images_are_counted(sample: Path, tmp_path: Path) -> None:
    with np.load(sample) as members:
        images = members["images"].copy()
    images[::100] = 0
    np.save(tmp_path / "x.npy", images)
    said: list[Event | Message] = []
    run = digits(tmp_path / "x.npy", tmp_path / "r.zarr", preset="landmark", watch=said.append)
    assert any("36 images" in m.text for m in said if isinstance(m, Message))
    assert len(set(run.labels()[:][::100].tolist())) == 1


def test_all_blank(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((50, 8, 8), np.uint8))
    with pytest.raises(KmdistError, match="cannot be told apart"):
        digits(tmp_path / "x.npy", tmp_path / "r.zarr", preset="gradient", k=2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": 5000}, "5000; 3,594 images"),
        ({"k": 0}, "0: must be 1 or more"),
        ({"preset": "best"}, "'best' is not one of raw, deskew"),
        ({"preset": "landmark", "n_init": 5}, "n_init: for plain k-means"),
        ({"preset": "raw", "init": "grid"}, "init: 'grid' is not one of k-means"),
        ({"polarity": "grey"}, "'grey' is not one of auto"),
        ({"test": "sample:nothing"}, "does not exist"),
    ],
)
def test_wrong_usage(sample: Path, tmp_path: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        digits(sample, tmp_path / "r.zarr", **options)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_too_few_images_for_landmarks(tmp_path: Path) -> None:
    with pytest.raises(KmdistError, match="--preset gradient"):
        digits("sample:digits", tmp_path / "r.zarr", preset="landmark", k=100)


def test_command_line(tmp_path: Path) -> None:
    out = tmp_path / "r.zarr"
    done = CliRunner().invoke(cli, ["digits", "sample:digits", "-k", "10", "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert "purity" in done.output
    shown = CliRunner().invoke(cli, ["info", str(out), "--json"])
    found = json.loads(shown.output)
    assert found["recipe"] == "digits"
    assert found["scores"]["accuracy_hungarian"] > 0.7
    wrong = CliRunner().invoke(
        cli, ["digits", "sample:digits", "--cell", "20by20", "-o", str(tmp_path / "x.zarr")]
    )
    assert wrong.exit_code == 2
    assert "20x20" in wrong.output


@pytest.mark.slow
def test_pictures(sample: Path, tmp_path: Path) -> None:
    digits(sample, tmp_path / "one.zarr", preset="gradient")
    digits(sample, tmp_path / "many.zarr", preset="raw", k=(2, 4, 8), max_iter=3)
    wanted = [("one", what) for what in ("centroids", "members", "confusion", "normalised")]
    for run, what in [*wanted, ("many", "sweep")]:
        picture = tmp_path / f"{what}.png"
        arguments = ["view", str(tmp_path / f"{run}.zarr"), "-o", str(picture), "--what", what]
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code == 0, done.output
        drawn = cv2.imread(str(picture))
        assert drawn.std() > 10
    refused = CliRunner().invoke(
        cli, ["view", str(tmp_path / "one.zarr"), "-o", "x.png", "--what", "sweep"]
    )
    assert refused.exit_code == 2
    assert "several k" in refused.output


def test_images_and_run_in_an_object_store(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for number, image in enumerate(open_stack("sample:digits")[0].read(0, 60)):
        name = f"{number % 2}/{number}.png"
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "in" / name), image)
        memory.pipe(f"/digits-in/{name}", (tmp_path / "in" / name).read_bytes())
    options = {"k": 3, "preset": "gradient"}
    near = digits(tmp_path / "in", tmp_path / "r.zarr", **options)
    far = digits("memory://digits-in", "memory://digits-out/r.zarr", **options)
    assert far.names == near.names
    assert far.attributes["scores"] == near.attributes["scores"]
    np.testing.assert_array_equal(far.labels()[:], near.labels()[:])


def scores(run: Run) -> dict[str, float]:
    return dict(run.attributes["scores"])


def test_digits_sheet(tmp_path: Path) -> None:
    sheet = data_folder("digits") / "digits.png"
    run = digits(sheet, tmp_path / "r.zarr", cell=(20, 20), labels="rows", seed=1)
    assert scores(run)["accuracy_hungarian"] >= 0.980


def write_idx(path: Path, magic: bytes, sizes: tuple[int, ...], data: bytes) -> Path:
    path.write_bytes(magic + struct.pack(f">{len(sizes)}I", *sizes) + data)
    return path


@pytest.mark.parametrize(
    ("kind", "code", "said"),
    [
        ("magic", 1, "not an IDX file: its first bytes are 00 00 77 03"),
        ("gzip", 1, "truncated gzip"),
        ("labels", 2, "30 images but 29 labels"),
        ("sheet", 2, "not a whole number of cells of 7 × 7"),
        ("k", 2, "k is 31; 30 images make 1 to 30 clusters"),
        ("blank", 1, "cannot be told apart"),
    ],
)
def test_bad_inputs_are_said_plainly_and_leave_nothing(
    tmp_path: Path, kind: str, code: int, said: str
) -> None:
    pixels = open_stack("sample:digits")[0].read(0, 30)
    images, header = b"\0\0\x08\3", (30, 8, 8)
    path = write_idx(tmp_path / "t-images-idx3-ubyte", images, header, pixels.tobytes())
    extra = ["-k", "31" if kind == "k" else "3"]
    if kind == "magic":
        write_idx(path, b"\0\0\x77\3", header, pixels.tobytes())
    elif kind == "gzip":
        whole = gzip.compress(path.read_bytes())
        path = tmp_path / "t-images-idx3-ubyte.gz"
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "labels":
        write_idx(tmp_path / "t-labels-idx1-ubyte", b"\0\0\x08\1", (29,), bytes(29))
    elif kind == "sheet":
        path, extra = tmp_path / "sheet.png", ["--cell", "7x7"]
        cv2.imwrite(str(path), pixels.reshape(240, 8))
    elif kind == "blank":
        write_idx(path, images, header, bytes(30 * 64))
    done = CliRunner().invoke(cli, ["digits", str(path), *extra, "-o", str(tmp_path / "r.zarr")])
    assert done.exit_code == code, done.output
    assert said in done.output
    assert "Traceback" not in done.output
    assert not [path for path in tmp_path.iterdir() if "r.zarr" in path.name]


def test_an_image_that_cannot_be_decoded_stops_only_strict_runs(tmp_path: Path) -> None:
    for number, image in enumerate(open_stack("sample:digits")[0].read(0, 40)):
        (tmp_path / "in" / str(number % 2)).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "in" / str(number % 2) / f"{number}.png"), image)
    damaged = tmp_path / "in" / "0" / "2.png"
    damaged.write_bytes(damaged.read_bytes()[:90])
    run = digits(tmp_path / "in", tmp_path / "r.zarr", k=2, preset="gradient")
    assert run.attributes["n_images"] == len(run.names) == 39
    assert [one["image"] for one in run.attributes["rejected"]] == ["0/2.png"]
    with pytest.raises(KmdistError, match="because of strict=True"):
        digits(tmp_path / "in", tmp_path / "s.zarr", k=2, preset="gradient", strict=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "r.zarr"]
