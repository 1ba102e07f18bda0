"""NumPy files that would run code, hang a reader or take its memory are refused, as they are read
by recipes."""

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kmdist.errors import KmdistError
from kmdist.images import Found
from kmdist.images.reading import numpy_files
from kmdist.recipes.digits.stacks import open_stack
from kmdist.recipes.digits.stacks.opening import read_labels
from kmdist.recipes.segment.rasters import Asked, ProbeRaster, read_raster


class Pickled:
    def __reduce__(self) -> Any:
        return (os.abort, ())


def npy(shape: str, descr: str = "|u1", data: bytes = bytes(64)) -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + data


def pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([[[Pickled()]]], dtype=object), allow_pickle=True)
    return file.getvalue()


FILES: dict[str, bytes] = {
    "objects": pickled(),
    "objects that are none": npy("(1, 1, 1)", "|O", pickle.dumps(Pickled())),
    "2**62 images": npy(f"({2**62}, 1, 1)"),
    "sides that overflow": npy("(4294967296, 4294967296, 4294967296)"),
    "negative": npy("(-1, 8, 8)"),
    "sides of True": npy("(True, True, True)"),
    "sides of 1.0": npy("(1.0, 8, 8)"),
    "70 axes": npy(str((1,) * 70)),
    "a gigabyte a value": npy("(1, 8, 8)", "|V1000000000"),
    "a long text a value": npy("(1, 8, 8)", "<U1000000"),
    "complex": npy("(1, 2, 2)", "<c16"),
    "code in the header": npy("__import__('os').abort()"),
    "a huge header": b"\x93NUMPY\x02\0" + struct.pack("<I", 1 << 31),
    "no array": b"hello",
    "nothing": b"",
}


def by_digits(path: Path) -> Any:
    stack, _ = open_stack(path)
    return stack.read(0, stack.n)


def by_segment(path: Path) -> Any:
    return read_raster(ProbeRaster(Asked())(Found(path.name, str(path)), max_pixels=1 << 20))


READERS = [by_digits, by_segment, read_labels]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("data", FILES.values(), ids=FILES)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_what_does_harm_is_refused(
    tmp_path: Path, read: Callable[[Path], Any], data: bytes, suffix: str
) -> None:
    path = tmp_path / f"images{suffix}"
    if suffix == ".npz":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("images.npy", data)
    else:
        path.write_bytes(data)
    with pytest.raises(KmdistError):
        read(path)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.gz", "train-images-idx3-ubyte"])
@pytest.mark.parametrize("kind", ["FIFO", "device"])
def test_what_is_no_regular_file(
    tmp_path: Path, read: Callable[[Path], Any], name: str, kind: str
) -> None:
    path = tmp_path / name
    if kind == "FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(KmdistError):
        read(path)


@pytest.mark.parametrize("read", [by_digits, by_segment])
def test_what_would_be_inflated_whole_is_limited(
    tmp_path: Path, read: Callable[[Path], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.npz", "b.npz"):
        np.savez_compressed(tmp_path / name, images=np.zeros((500, 500, 4), np.uint8))
    read(tmp_path / "a.npz")
    monkeypatch.setattr(numpy_files, "MAX_MEMBER_BYTES", 1 << 19)
    with pytest.raises(KmdistError, match="1,000,128 bytes and would be inflated whole"):
        read(tmp_path / "b.npz")
