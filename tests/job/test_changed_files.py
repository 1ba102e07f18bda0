"""A file that is rewritten while a job runs is left out, whatever its size and time say."""

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import zarr

from kmdist import quantize
from kmdist.errors import ImageError, KmdistError
from kmdist.images import Found, Window, decode, probe
from kmdist.job.progress import Event, Message
from kmdist.job.work import Piece, read_piece


def picture(path: Path, value: int) -> None:
    pixels = np.full((20, 30, 3), value, np.uint8)
    path.write_bytes(cv2.imencode(".bmp", pixels)[1].tobytes())


def in_place(path: Path, value: int) -> None:
    status = os.stat(path)
    picture(path, value)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def renamed_over(path: Path, value: int) -> None:
    status = os.stat(path)
    fresh = path.with_name("fresh")
    picture(fresh, value)
    os.utime(fresh, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(fresh, path)


@pytest.mark.parametrize("rewrite", [in_place, renamed_over])
def test_a_file_rewritten_between_two_passes(
    tmp_path: Path, rewrite: Callable[[Path, int], None]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(3):
        picture(folder / f"{i}.bmp", 10 + 100 * i)
    done = []

    def watch(event: Event | Message) -> None:
        if isinstance(event, Event) and event.stage not in ("probe", "label") and not done:
            done.append(rewrite(folder / "1.bmp", 200))

    with pytest.raises(KmdistError, match=r"1\.bmp: changed while the job ran"):
        quantize(folder, tmp_path / "r.zarr", k=2, keep_pixels="never", watch=watch)
    assert done
    assert not (tmp_path / "r.zarr").exists()


@pytest.mark.parametrize("rewrite", [in_place, renamed_over])
def test_a_piece_is_of_the_file_that_was_probed(
    tmp_path: Path, rewrite: Callable[[Path, int], None]
) -> None:
    path = tmp_path / "a.bmp"
    picture(path, 1)
    piece = Piece(probe(Found("a.bmp", str(path))), Window(0, 0, 20, 30))
    read_piece(piece)
    rewrite(path, 2)
    with pytest.raises(ImageError, match="changed while the job ran"):
        read_piece(piece)


def test_a_file_rewritten_as_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bmp"
    picture(path, 1)
    piece = Piece(probe(Found("a.bmp", str(path))), Window(0, 0, 20, 30))

    def rewritten(*arguments: object) -> object:
        pixels = decode(*arguments)  # type: ignore[arg-type]
        in_place(path, 2)
        return pixels

    monkeypatch.setattr("kmdist.job.work.decode", rewritten)
    with pytest.raises(ImageError, match="changed while the job ran"):
        read_piece(piece)


@pytest.mark.parametrize("change", ["rewritten", "removed", "added"])
def test_a_chunk_of_a_zarr_image(tmp_path: Path, change: str) -> None:
    path = tmp_path / "a.zarr"
    array = zarr.create_array(str(path), shape=(40, 40), chunks=(20, 20), dtype="u1")
    array[:20] = 7
    source = probe(Found("a.zarr", str(path)))
    piece = Piece(source, Window(0, 0, 40, 40))
    read_piece(piece)
    chunk = path / ("c/1/1" if change == "added" else "c/0/1")
    if change == "removed":
        chunk.unlink()
    else:
        chunk.parent.mkdir(exist_ok=True)
        chunk.write_bytes((path / "c/0/0").read_bytes())
        os.utime(chunk, ns=(0, source.mtime_ns))
    with pytest.raises(ImageError, match="changed while the job ran"):
        read_piece(piece)
