"""Pictures made of, written to and compared with what lies in an object store: fsspec's memory."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import kmdist
from kmdist.cli import cli
from kmdist.errors import UsageError
from kmdist.store import Run


@pytest.fixture
def store() -> Iterator[fsspec.AbstractFileSystem]:
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    yield fs
    fs.store.clear()


@pytest.fixture
def run(store: fsspec.AbstractFileSystem, photographs: Path) -> Run:
    for path in photographs.rglob("*.png"):
        store.pipe_file(f"/photos/{path.relative_to(photographs).as_posix()}", path.read_bytes())
    return kmdist.quantize("memory://photos", "memory://run.zarr", k=4)


def test_export_to_a_url_is_that_to_a_folder(
    run: Run, store: fsspec.AbstractFileSystem, tmp_path: Path
) -> None:
    rows = kmdist.export(run, "memory://out", dither=True)
    assert all(row.note == "" and np.isfinite(row.psnr_db) for row in rows)
    assert rows == kmdist.export(run, tmp_path / "out", dither=True)
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(store.find("/out")) == len(files)
    for path in files:
        below = path.relative_to(tmp_path / "out").as_posix()
        assert store.cat_file(f"/out/{below}") == path.read_bytes()
    with pytest.raises(UsageError, match="not empty"):
        kmdist.export(run, "memory://out")


def test_pictures_are_put_at_urls(run: Run, store: fsspec.AbstractFileSystem) -> None:
    source = run.image("sub/1.png").source
    kmdist.view(run, "memory://pictures/view.webp", source)
    kmdist.extract(run, source, "memory://pictures/cut.png", clusters=[0])
    kmdist.draw_bank(kmdist.filters.leung_malik(), "memory://pictures/bank.png")
    found = [Image.open(store.open(path)).format for path in sorted(store.find("/pictures"))]
    assert found == ["PNG", "PNG", "WEBP"]
    with pytest.raises(UsageError, match="original"):
        kmdist.view(run, source, source)


def test_palettes_are_read_from_urls(run: Run, tmp_path: Path) -> None:
    kmdist.export(run, "memory://out")
    for name in ("out/palette.gpl", "out/palette.json", "run.zarr"):
        again = kmdist.quantize("memory://photos", k=4, init=f"memory://{name}")
        assert again.k == 4
    with pytest.raises(UsageError, match="not there"):
        kmdist.quantize("memory://photos", k=4, init="memory://out/none.gpl")


def test_nothing_is_written_into_a_run_at_a_url(run: Run) -> None:
    for place in ("memory://run.zarr/out", "memory://run.zarr/images/deep/out"):
        with pytest.raises(UsageError, match=r"lies within the run memory://run\.zarr,"):
            kmdist.export(run, place)


def test_a_picture_that_lies_at_a_url_is_not_written_over(
    store: fsspec.AbstractFileSystem, photographs: Path
) -> None:
    words = ["quantize", str(photographs / "0.png"), "-o", "memory://o.png", "-q", "-k"]
    assert CliRunner().invoke(cli, [*words, "2"]).exit_code == 0
    made = store.cat_file("/o.png")
    refused = CliRunner().invoke(cli, [*words, "9"])
    assert refused.exit_code == 2
    assert "-o memory://o.png: is there already" in refused.stderr
    assert store.cat_file("/o.png") == made
    assert CliRunner().invoke(cli, [*words, "9", "--overwrite"]).exit_code == 0
    assert store.cat_file("/o.png") != made


@pytest.mark.parametrize(
    "words",
    [
        ["run", "memory://job.yaml"],
        ["nightly", "memory://job.yaml"],
        ["quantize", "sample:photos", "-o", "r.zarr", "--cluster", "memory://cluster.yaml"],
        ["digits", "sample:digits", "-o", "r.zarr", "--labels", "memory://labels.npy"],
        ["digits", "memory://train-images-idx3-ubyte.gz", "-o", "r.zarr"],
        ["digits", "memory://sheet.png", "--cell", "8x8", "-o", "r.zarr"],
        ["demo", "-o", "memory://demo"],
    ],
)
def test_what_is_read_from_disk_alone_says_so(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 2, done.output
    assert "disk alone" in done.output
    assert not list(tmp_path.iterdir())
