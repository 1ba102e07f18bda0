"""A file that is rewritten while a job runs is left out, whatever its size and time say."""

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import zarr

from kmdist import digits, quantize
from kmdist.errors import ImageError, KmdistError
from kmdist.images import Found, Piece, Window, decode, probe
from kmdist.job.progress import Event, Message
from kmdist.job.work import read_piece
from kmdist.recipes.digits.stacks import open_stack


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


DIGITS = np.arange(20 * 64, dtype=np.uint8).reshape(20, 8, 8)
IDX = bytes([0, 0, 8, 3]) + struct.pack(">3I", 20, 8, 8)


def npy(path: Path, images: np.ndarray) -> Path:
    np.save(path, images)
    return path


def npz(path: Path, images: np.ndarray) -> Path:
    np.savez(path, images=images)
    return path


def idx(path: Path, images: np.ndarray) -> Path:
    path.write_bytes(IDX + images.tobytes())
    return path


def gzipped(path: Path, images: np.ndarray) -> Path:
    path.write_bytes(gzip.compress(IDX + images.tobytes(), 0, mtime=0))
    return path


def of_zarr(path: Path, images: np.ndarray) -> Path:
    zarr.create_array(str(path), data=images, chunks=(10, 8, 8), compressors=None, overwrite=True)
    return path / "c/1/0/0"


def folder_of(path: Path, images: np.ndarray) -> Path:
    path.mkdir(exist_ok=True)
    for i, image in enumerate(images):
        (path / f"{i:02}.bmp").write_bytes(cv2.imencode(".bmp", image)[1].tobytes())
    return path / "15.bmp"


STACKS = {
    "a.npy": npy,
    "a.npz": npz,
    "t-images-idx3-ubyte": idx,
    "t-images-idx3-ubyte.gz": gzipped,
    "a.zarr": of_zarr,
    "folder": folder_of,
}


@pytest.mark.parametrize("when", ["before it is read", "between two blocks"])
@pytest.mark.parametrize("name", STACKS)
def test_a_stack_of_digits_is_the_one_that_was_opened(tmp_path: Path, name: str, when: str) -> None:
    path, make = tmp_path / name, STACKS[name]
    make(path, DIGITS)
    stack, _ = open_stack(path)
    before = stack.fingerprint()
    if when == "between two blocks":
        stack.read(0, 10)
    changed = make(path, DIGITS)
    status = os.stat(changed)
    make(path, DIGITS[::-1])
    os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert stack.fingerprint() == before
    with pytest.raises(KmdistError, match="changed while the job ran"):
        stack.read(10, 20)


def test_digits_of_two_passes_are_of_one_file(tmp_path: Path) -> None:
    path = npy(tmp_path / "a.npy", DIGITS)
    times = os.stat(path)
    done: list[Path] = []

    def watch(event: Event | Message) -> None:
        if isinstance(event, Event) and event.stage != "describe" and not done:
            done.append(npy(path, DIGITS[::-1]))
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    with pytest.raises(KmdistError, match="changed while the job ran"):
        digits(path, tmp_path / "r.zarr", k=2, preset="raw", keep_pixels="never", watch=watch)
    assert done
    assert not (tmp_path / "r.zarr").exists()


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
