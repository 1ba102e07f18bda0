"""Arrays written as bytes read back equal through zarr-python, whatever shape and chunks."""

import itertools
import json
import threading

import numpy as np
import pytest
import zarr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kmdist.errors import KmdistError
from kmdist.store import LocalTarget, label_dtype, unclustered_value
from kmdist.store.format.layout import (
    array_metadata,
    array_spec,
    plain,
    pyramid_shapes,
    write_region,
)

DTYPES = ["bool", "uint8", "uint16", "uint32", "int64", "float16", "float32", "float64"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("arrays")


_SERIAL = itertools.count()


def write_all(folder, spec, values, attributes=None):
    """Write the units of an array one by one in odd order, and open it with zarr-python."""
    target = LocalTarget(folder)
    target.put(f"{spec.key}/zarr.json", array_metadata(spec, attributes))
    starts = [range(0, n, u) for n, u in zip(spec.shape, spec.unit, strict=True)]
    for origin in reversed(list(itertools.product(*starts))):
        part = tuple(slice(o, o + u) for o, u in zip(origin, spec.unit, strict=True))
        write_region(target, spec, origin, values[part])
    return zarr.open_array(folder / spec.key, mode="r", zarr_format=3)


@st.composite
def arrays(draw):
    ndim = draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(0, 23)) for _ in range(ndim))
    chunks = tuple(draw(st.integers(1, 9)) for _ in range(ndim))
    shards = None
    if draw(st.booleans()):
        shards = tuple(
            min(c, max(n, 1)) * draw(st.integers(1, 4)) for c, n in zip(chunks, shape, strict=True)
        )
    dtype = draw(st.sampled_from(DTYPES))
    fill = draw(st.integers(0, 1))
    spec = array_spec(
        f"a{next(_SERIAL)}",
        shape,
        dtype,
        chunks=chunks,
        shards=shards,
        dimension_names=tuple("zyx"[:ndim]),
        fill_value=fill,
    )
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    return spec, (random.random(shape) * 200).astype(dtype)


@pytest.mark.slow
@settings(deadline=None, max_examples=120)
@given(arrays())
def test_arrays_read_back_equal(folder, drawn):
    spec, values = drawn
    array = write_all(folder, spec, values)
    assert array.shape == spec.shape
    assert array.chunks == spec.chunks
    assert array.shards == spec.shards
    assert array.dtype == values.dtype
    assert array.metadata.dimension_names == spec.dimension_names
    np.testing.assert_array_equal(array[...], values)


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(arrays(), st.data())
def test_misaligned_parts_are_refused_and_write_nothing(folder, drawn, data):
    spec, values = drawn
    origin = tuple(data.draw(st.integers(0, n)) for n in spec.shape)
    part = values[tuple(slice(o, data.draw(st.integers(o, 30))) for o in origin)]
    ends = [o + n for o, n in zip(origin, part.shape, strict=True)]
    aligned = all(
        o % u == 0 and (end % u == 0 or end == size)
        for o, end, u, size in zip(origin, ends, spec.unit, spec.shape, strict=True)
    )
    assume(not aligned)
    with pytest.raises(ValueError, match=r"whole (chunks|shards)"):
        write_region(LocalTarget(folder), spec, origin, part)
    assert not (folder / spec.key).exists()


def test_metadata_are_what_zarr_python_would_write(folder):
    spec = array_spec(
        "same", (50, 70), "uint16", chunks=(8, 8), shards=(16, 16), dimension_names=("y", "x")
    )
    ours = json.loads(array_metadata(spec, {"a": 1}))
    zarr.create_array(
        folder / "theirs",
        shape=(50, 70),
        dtype="uint16",
        chunks=(8, 8),
        shards=(16, 16),
        dimension_names=("y", "x"),
        attributes={"a": 1},
        fill_value=0,
        compressors=zarr.codecs.ZstdCodec(level=3, checksum=True),
    )
    assert ours == json.loads((folder / "theirs/zarr.json").read_text())


def test_chunks_are_zstd_frames_with_a_checksum(folder):
    spec = array_spec("sum", (64,), "uint8", chunks=(64,), dimension_names=("x",))
    write_all(folder, spec, np.arange(64, dtype=np.uint8))
    stored = bytearray((folder / "sum/c/0").read_bytes())
    # Frame header descriptor, bit 2: content checksum (RFC 8878, 3.1.1.1.1).
    assert stored[:4] == bytes.fromhex("28b52ffd")
    assert stored[4] & 4
    stored[-1] ^= 1
    (folder / "sum/c/0").write_bytes(stored)
    with pytest.raises(RuntimeError):
        zarr.open_array(folder / "sum", mode="r")[...]


def test_a_damaged_shard_index_is_noticed(folder):
    spec = array_spec("crc", (8,), "uint8", chunks=(2,), shards=(8,), dimension_names=("x",))
    write_all(folder, spec, np.arange(8, dtype=np.uint8))
    stored = bytearray((folder / "crc/c/0").read_bytes())
    stored[-10] ^= 1
    (folder / "crc/c/0").write_bytes(stored)
    with pytest.raises(ValueError, match="checksum"):
        zarr.open_array(folder / "crc", mode="r")[...]


def test_chunks_never_written_read_as_the_fill_value(folder):
    spec = array_spec("gap", (10,), "uint8", chunks=(5,), dimension_names=("x",), fill_value=255)
    target = LocalTarget(folder)
    target.put("gap/zarr.json", array_metadata(spec))
    write_region(target, spec, (5,), np.arange(5, dtype=np.uint8))
    assert zarr.open_array(folder / "gap")[...].tolist() == [255] * 5 + [0, 1, 2, 3, 4]


@pytest.mark.parametrize("shards", [None, (8, 8)])
def test_four_threads_write_what_one_would(folder, shards):
    values = np.random.default_rng(0).integers(0, 9, (61, 75), dtype=np.uint8)
    stored = []
    for threads in (1, 4):
        key = f"threads{threads}{shards is None}"
        spec = array_spec(
            key, values.shape, "uint8", chunks=(4, 4), shards=shards, dimension_names=("y", "x")
        )
        target = LocalTarget(folder)
        target.put(f"{key}/zarr.json", array_metadata(spec))
        origins = list(itertools.product(range(0, 61, 8), range(0, 75, 8)))

        def work(mine, spec=spec, target=target):
            for y, x in mine:
                write_region(target, spec, (y, x), values[y : y + 8, x : x + 8])

        team = [threading.Thread(target=work, args=(origins[i::threads],)) for i in range(threads)]
        for thread in team:
            thread.start()
        for thread in team:
            thread.join()
        np.testing.assert_array_equal(zarr.open_array(folder / key, mode="r")[...], values)
        files = sorted(p for p in (folder / key).rglob("*") if p.is_file())
        stored.append([(p.relative_to(folder / key), p.read_bytes()) for p in files])
    assert stored[0] == stored[1]


@pytest.mark.parametrize(
    ("k", "marked", "dtype", "marker"),
    [
        (1, False, "uint8", None),
        (255, True, "uint8", 255),
        (256, False, "uint8", None),
        (256, True, "uint16", 65535),
        (257, False, "uint16", None),
        (65535, True, "uint16", 65535),
        (65536, False, "uint16", None),
        (65536, True, "uint32", 2**32 - 1),
        (65537, False, "uint32", None),
    ],
)
def test_label_types(k, marked, dtype, marker):
    assert label_dtype(k, marked) == dtype
    assert unclustered_value(k, marked) == marker


@pytest.mark.parametrize("k", [0, -1, 2**32 + 1])
def test_impossible_numbers_of_clusters(k):
    with pytest.raises(ValueError, match="clusters do not exist"):
        label_dtype(k, False)


def test_pyramids_end_with_one_chunk():
    assert pyramid_shapes((1024, 7)) == [(1024, 7)]
    assert pyramid_shapes((1025, 7)) == [(1025, 7), (513, 4)]
    assert pyramid_shapes((100_000, 100_000))[-1] == (782, 782)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunks": (4,)}, "belong together"),
        ({"chunks": (0, 4)}, "belong together"),
        ({"chunks": (4, 4), "shards": (6, 8)}, "no multiples"),
        ({"chunks": (4, 4), "dimension_names": ("y",)}, "belong together"),
        ({"dtype": "U5"}, "cannot be stored"),
        ({"dtype": "complex64"}, "cannot be stored"),
        ({"dtype": object}, "cannot be stored"),
    ],
)
def test_arrays_that_cannot_be(options, message):
    given = {"dtype": "uint8", "dimension_names": ("y", "x"), **options}
    with pytest.raises(ValueError, match=message):
        array_spec("a", (9, 9), given.pop("dtype"), **given)


def test_another_type_than_the_array_holds_is_refused(folder):
    spec = array_spec("typed", (4,), "uint8", dimension_names=("x",))
    with pytest.raises(ValueError, match="holds uint8, got int64"):
        write_region(LocalTarget(folder), spec, (0,), np.zeros(4, dtype=np.int64))


def test_json_of_numpy_values():
    value = {"a": np.float32(0.5), "b": np.arange(2), 3: (1, None, float("nan")), "s": {"y", "x"}}
    assert plain(value) == {"a": 0.5, "b": [0, 1], "3": [1, None, None], "s": ["x", "y"]}
    with pytest.raises(TypeError, match="cannot record"):
        plain({"f": print})


def test_targets_keep_within_their_folder(folder):
    target = LocalTarget(folder)
    for key in ("../x", "/etc/x", "a/../../x", "a//b", "", "."):
        with pytest.raises(ValueError, match="not a key"):
            target.put(key, b"")
    target.put("deep/er/x", b"1")
    target.put("deep/y", b"2")
    assert list(target.keys("deep")) == ["deep/y", "deep/er/x"]
    assert target.children("deep") == ["er", "y"]
    assert target.get("deep/er") is None
    target.delete("deep")
    assert not target.exists("deep/y")
    target.delete("deep")


def test_a_write_does_not_raise_a_removed_folder_again(tmp_path):
    target = LocalTarget(tmp_path / "gone")
    with pytest.raises(KmdistError, match="gone"):
        target.put("a/b", b"")
    assert not (tmp_path / "gone").exists()
