"""Stacks of images: what is read, and what is said of damaged and mismatched files."""

import gzip
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from kmdist.errors import KmdistError, UsageError
from kmdist.recipes.digits.stacks import border_of, open_stack
from tests.support.folders import data_folder


def pictures(n: int = 30, h: int = 9, w: int = 7) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, h, w)).astype(np.uint8)


def idx_bytes(values: np.ndarray) -> bytes:
    head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return head + values.astype(np.uint8).tobytes()


def write_idx(folder: Path, images: np.ndarray, labels: np.ndarray, *, zipped: bool) -> Path:
    suffix, pack = (".gz", gzip.compress) if zipped else ("", bytes)
    path = folder / f"t-images-idx3-ubyte{suffix}"
    path.write_bytes(pack(idx_bytes(images)))
    (folder / f"t-labels-idx1-ubyte{suffix}").write_bytes(pack(idx_bytes(labels)))
    return path


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_with_labels_beside(tmp_path: Path, zipped: bool) -> None:
    images, labels = pictures(), np.arange(30) % 3 + 4
    stack, rejected = open_stack(write_idx(tmp_path, images, labels, zipped=zipped))
    assert not rejected
    assert (stack.n, stack.height, stack.width) == images.shape
    np.testing.assert_array_equal(stack.read(4, 19), images[4:19])
    assert stack.class_names == ("4", "5", "6")
    np.testing.assert_array_equal(stack.classes, labels - 4)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 299), st.integers(0, 80)), max_size=6))
def test_gzipped_images_at_random_places(
    tmp_path_factory: pytest.TempPathFactory, ranges: list[tuple[int, int]]
) -> None:
    images = pictures(300, 30, 28)
    content = idx_bytes(images)
    path = tmp_path_factory.mktemp("gz") / "t-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(content[:100_000]) + gzip.compress(content[100_000:]))
    stack, _ = open_stack(path)
    for start, n in ranges:
        stop = min(start + n, 300)
        np.testing.assert_array_equal(stack.read(start, stop), images[start:stop])


@pytest.mark.parametrize(
    ("images_name", "labels_name"),
    [
        ("x-images.idx3-ubyte", "x-labels-idx1-ubyte"),
        ("x-images-idx3-ubyte", "x-labels.idx1-ubyte"),
        ("x_images_idx3.ubyte", "x-labels-idx1-ubyte.gz"),
        ("X-IMAGES-IDX3-UBYTE", "x-labels-idx1-ubyte"),
        ("x-images-idx3-ubyte/x-images-idx3-ubyte", "x-labels-idx1-ubyte/x-labels-idx1-ubyte"),
        ("x-images-idx3-ubyte/x-images-idx3-ubyte", "x-labels.idx1-ubyte"),
        ("x-images.idx3-ubyte", "x-labels-idx1-ubyte/x-labels-idx1-ubyte"),
    ],
)
@pytest.mark.parametrize("named", ["file", "folder"])
def test_idx_pairs_however_they_are_named(
    tmp_path: Path, images_name: str, labels_name: str, named: str
) -> None:
    images, labels = pictures(), np.arange(30) % 3
    for name, values in ((images_name, images), (labels_name, labels)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pack = gzip.compress if name.endswith(".gz") else bytes
        (tmp_path / name).write_bytes(pack(idx_bytes(values)))
    stack, _ = open_stack(tmp_path / images_name if named == "file" else tmp_path)
    np.testing.assert_array_equal(stack.read(0, 30), images)
    np.testing.assert_array_equal(stack.classes, labels)
    if "/" in images_name and named == "folder":
        assert open_stack((tmp_path / images_name).parent)[0].classes is not None


def test_several_idx_files_of_a_folder_are_told(tmp_path: Path) -> None:
    for name in ("train", "t10k"):
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(idx_bytes(pictures()))
    with pytest.raises(UsageError, match=r"t10k-images-idx3-ubyte, train-images-idx3-ubyte.*name"):
        open_stack(tmp_path)


def damaged_idx(folder: Path, kind: str) -> Path:
    images, labels = pictures(), np.zeros(30)
    path = write_idx(folder, images, labels, zipped=kind in ("gzip cut", "gzip flipped"))
    data = path.read_bytes()
    if kind == "wrong magic":
        path.write_bytes(b"\x89PNG" + data[4:])
    elif kind in ("cut", "gzip cut"):
        path.write_bytes(data[: len(data) // 2])
    elif kind == "too long":
        path.write_bytes(data + b"xx")
    elif kind == "gzip flipped":
        path.write_bytes(data[:-6] + bytes([data[-6] ^ 1]) + data[-5:])
    elif kind == "label count":
        (folder / "t-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(29)))
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "no images":
        path.write_bytes(idx_bytes(np.zeros((0, 9, 7))))
    return path


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("wrong magic", "not an IDX file"),
        ("cut", "truncated"),
        ("gzip cut", "truncated gzip"),
        ("gzip flipped", "not valid gzip"),
        ("too long", "too long"),
        ("label count", "30 images but 29 labels"),
        ("empty", "not an IDX file"),
        ("no images", "holds no images"),
    ],
)
def test_damaged_idx(tmp_path: Path, kind: str, said: str) -> None:
    with pytest.raises(KmdistError, match=said):
        open_stack(damaged_idx(tmp_path, kind))


def test_labels_are_not_images(tmp_path: Path) -> None:
    path = write_idx(tmp_path, pictures(), np.zeros(30), zipped=False)
    with pytest.raises(UsageError, match="these are labels"):
        open_stack(tmp_path / "t-labels-idx1-ubyte")
    with pytest.raises(UsageError, match="labels have 1"):
        open_stack(path, labels=path)


def test_sheet(tmp_path: Path) -> None:
    cells = pictures(20, 6, 5)
    sheet = cells.reshape(10, 2, 6, 5).transpose(0, 2, 1, 3).reshape(60, 10)
    path = tmp_path / "sheet.png"
    cv2.imwrite(str(path), sheet)
    stack, _ = open_stack(path, cell=(5, 6), labels="rows")
    np.testing.assert_array_equal(stack.read(0, 20), cells)
    np.testing.assert_array_equal(stack.read(3, 8), cells[3:8])
    np.testing.assert_array_equal(stack.classes, np.repeat(np.arange(10), 2))
    with pytest.raises(UsageError, match=r"not a whole number of cells of 4 × 6.*5x5"):
        open_stack(path, cell=(4, 6))
    with pytest.raises(UsageError, match="only with cell=/--cell"):
        open_stack(path)
    with pytest.raises(UsageError, match="give cell=/--cell"):
        open_stack(path, labels="rows")


def test_folder_with_classes_and_sizes(tmp_path: Path) -> None:
    for name, count, size in (("a", 3, (8, 8)), ("b", 2, (8, 8)), ("c", 1, (16, 4))):
        (tmp_path / name).mkdir()
        for i in range(count):
            cv2.imwrite(str(tmp_path / name / f"{i}.png"), np.full(size, 40 * i, np.uint8))
    (tmp_path / "a" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    stack, rejected = open_stack(tmp_path)
    assert [r.image for r in rejected] == ["a/bad.png"]
    assert (stack.n, stack.height, stack.width) == (6, 8, 8)
    assert stack.class_names == ("a", "b", "c")
    np.testing.assert_array_equal(stack.classes, [0, 0, 0, 1, 1, 2])
    assert "1 of 6 images are not 8 × 8 px: they are scaled to fit" in stack.note
    assert (stack.read(1, 2) == 40).all()


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"nothing")
    with pytest.raises(KmdistError, match="usable image"):
        open_stack(tmp_path)


@pytest.mark.parametrize("kind", ["npy", "npz", "zarr array", "zarr group"])
def test_arrays(tmp_path: Path, kind: str) -> None:
    images, classes = pictures(), np.arange(30) % 5
    path = tmp_path / f"x.{kind.split()[0]}"
    if kind == "npy":
        np.save(path, images)
    elif kind == "npz":
        np.savez(path, images=images, labels=classes)
    elif kind == "zarr array":
        zarr.save_array(str(path), images)
    else:
        zarr.save_group(str(path), images=images, labels=classes)
    stack, _ = open_stack(path)
    np.testing.assert_array_equal(stack.read(7, 30), images[7:])
    assert (stack.classes is None) == (kind in ("npy", "zarr array"))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((5, 8, 8, 3)), "convert colours to grey"),
        (np.zeros((5, 8, 8, 1)), "drop the axis"),
        (np.zeros((5, 64)), "reshape"),
        (np.zeros((5, 8, 8), complex), "expected real numbers"),
        (np.zeros((0, 8, 8)), "expected images"),
        (np.zeros((5, 1, 8)), "at least 2 × 2"),
    ],
)
def test_arrays_that_are_no_stacks(tmp_path: Path, array: np.ndarray, said: str) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(UsageError, match=said):
        open_stack(tmp_path / "x.npy")


def test_damaged_arrays(tmp_path: Path) -> None:
    for name in ("x.npy", "x.npz"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 not an array")
        with pytest.raises(KmdistError, match="cannot be read"):
            open_stack(tmp_path / name)
    floats = np.zeros((5, 8, 8))
    floats[3, 0, 0] = np.nan
    np.save(tmp_path / "nan.npy", floats)
    with pytest.raises(KmdistError, match="image 3 holds NaN"):
        open_stack(tmp_path / "nan.npy")[0].read(0, 5)


def test_labels_from_a_text_file(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", pictures(4))
    (tmp_path / "l.txt").write_text("cat\ndog\ncat\nant\n")
    stack, _ = open_stack(tmp_path / "x.npy", labels=tmp_path / "l.txt")
    assert stack.class_names == ("ant", "cat", "dog")
    np.testing.assert_array_equal(stack.classes, [1, 2, 1, 0])
    with pytest.raises(UsageError, match="not there"):
        open_stack(tmp_path / "x.npy", labels=tmp_path / "none.txt")


def test_sample_and_polarity(tmp_path: Path) -> None:
    stack, _ = open_stack("sample:digits")
    assert (stack.n, stack.height, stack.width) == (1797, 8, 8)
    assert border_of(stack) <= 0.5
    np.save(tmp_path / "dark.npy", 255 - stack.read(0, 100))
    assert border_of(open_stack(tmp_path / "dark.npy")[0]) > 0.5


def test_what_is_not_there() -> None:
    with pytest.raises(UsageError, match="does not exist"):
        open_stack("nowhere.gz")


def test_mnist() -> None:
    stack, _ = open_stack(data_folder("mnist") / "t10k-images-idx3-ubyte.gz")
    assert stack.n == 10_000
    np.testing.assert_array_equal(stack.classes[:5], [7, 2, 1, 0, 4])


def saved(folder: Path, name: str, values: np.ndarray) -> Path:
    np.save(folder / name, values)
    return folder / name


SAME_BYTES = (
    *("uint8", "uint16", "uint32", "int16", "int64", ">i4", ">u2"),
    *("float16", "float32", ">f8"),
)


@pytest.mark.parametrize("dtype", SAME_BYTES)
@pytest.mark.parametrize("kind", ["npy", "npz", "zarr"])
def test_the_values_decide_and_not_their_type(tmp_path: Path, dtype: str, kind: str) -> None:
    images = pictures()
    values = images.astype(dtype)
    path = tmp_path / f"a.{kind}"
    if kind == "npz":
        np.savez(path, images=values)
    elif kind == "zarr":
        zarr.create_array(path, data=values.astype(np.dtype(dtype).newbyteorder("=")))
    else:
        path = saved(tmp_path, "a.npy", values)
    stack, _ = open_stack(path)
    assert stack.source.dtype == "uint8"
    np.testing.assert_array_equal(stack.read(3, 20), images[3:20])


def test_sixteen_bits_and_unit_values(tmp_path: Path) -> None:
    deep = pictures().astype(np.uint16) * 257
    for dtype in ("uint16", "int32", "float32"):
        stack, _ = open_stack(saved(tmp_path, f"{dtype}.npy", deep.astype(dtype)))
        assert stack.source.dtype == "uint16"
        np.testing.assert_array_equal(stack.read(0, 30), deep)
    unit = pictures() / np.float32(255)
    for dtype in ("float32", "float64"):
        stack, _ = open_stack(saved(tmp_path, f"{dtype}.npy", unit.astype(dtype)))
        np.testing.assert_array_equal(stack.read(0, 30), unit)
    stack, _ = open_stack(saved(tmp_path, "half.npy", unit * 254.5))
    np.testing.assert_allclose(stack.read(0, 30), unit * (254.5 / 255), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float32"])
def test_ones_are_white(tmp_path: Path, dtype: str) -> None:
    marks = pictures() > 127
    stack, _ = open_stack(saved(tmp_path, "a.npy", marks.astype(dtype)))
    np.testing.assert_array_equal(stack.read(0, 30), np.where(marks, 255, 0))


@pytest.mark.parametrize("values", [[-1, 5], [-0.5, 0.5], [0, 70_000], [0.5, 66_000.5]])
def test_values_that_are_no_grey_levels_are_refused(tmp_path: Path, values: list[float]) -> None:
    images = np.resize(np.array(values), (4, 8, 8))
    with pytest.raises(UsageError, match=r"values from .* grey levels lie in"):
        open_stack(saved(tmp_path, "a.npy", images))


@pytest.mark.parametrize("code", [">i1", ">i2", ">i4", ">f4", ">f8"])
def test_idx_of_any_type(tmp_path: Path, code: str) -> None:
    images = pictures() // (2 if code == ">i1" else 1)
    number = {">i1": 9, ">i2": 11, ">i4": 12, ">f4": 13, ">f8": 14}[code]
    head = struct.pack(">BBBB3I", 0, 0, number, 3, *images.shape)
    (tmp_path / "t-images-idx3-ubyte").write_bytes(head + images.astype(code).tobytes())
    stack, _ = open_stack(tmp_path / "t-images-idx3-ubyte")
    assert stack.source.dtype == "uint8"
    np.testing.assert_array_equal(stack.read(0, 30), images)


@pytest.mark.parametrize("ink", [0, 255])
def test_ink_that_lies_in_alpha_alone(tmp_path: Path, ink: int) -> None:
    shapes = pictures(4)
    for i, alpha in enumerate(shapes):
        rgba = np.dstack([np.full((*alpha.shape, 3), ink, np.uint8), alpha])
        cv2.imwrite(str(tmp_path / f"{i}.png"), rgba)
    stack, _ = open_stack(tmp_path)
    np.testing.assert_array_equal(stack.read(0, 4), shapes if ink else 255 - shapes)
