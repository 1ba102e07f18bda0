"""Zarr trees that would hang a reader, or take far more than they are worth; the others go on."""

import bz2
import gzip
import json
import lzma
import os
import pickle
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
import zstandard
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

from kmdist import quantize
from kmdist.errors import ImageError, KmdistError
from kmdist.images import Found, decode, probe
from kmdist.images.finding.find import find_images
from kmdist.recipes.digits.stacks import open_stack


def make(path: Path, side: int = 256, **options: Any) -> Path:
    pixels = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
    options = {"chunks": (64, 64, 3), **options}
    zarr.create_array(str(path), data=pixels, **options)
    return path


def chunk_of(path: Path) -> Path:
    return path / "c/1/2/0"


def edit(path: Path, **changes: Any) -> None:
    metadata = json.loads((path / "zarr.json").read_text())
    (path / "zarr.json").write_text(json.dumps({**metadata, **changes}))


def fifo(path: Path) -> None:
    chunk_of(path).unlink()
    os.mkfifo(chunk_of(path))


def device(path: Path) -> None:
    chunk_of(path).unlink()
    chunk_of(path).symlink_to("/dev/zero")


def link_outside(path: Path) -> None:
    secret = path.parent / "secret"
    secret.write_bytes(chunk_of(path).read_bytes())
    chunk_of(path).unlink()
    chunk_of(path).symlink_to(secret)


def folder_outside(path: Path) -> None:
    os.rename(path / "c/1", path.parent / "elsewhere")
    (path / "c/1").symlink_to(path.parent / "elsewhere")


def dangling(path: Path) -> None:
    chunk_of(path).unlink()
    chunk_of(path).symlink_to(path.parent / "nowhere")


def folder_for_a_chunk(path: Path) -> None:
    chunk_of(path).unlink()
    chunk_of(path).mkdir()


def sparse_chunk(path: Path) -> None:
    os.truncate(chunk_of(path), 1 << 32)


def chunk_that_inflates(path: Path) -> None:
    chunk_of(path).write_bytes(zstandard.ZstdCompressor().compress(bytes(1 << 28)))


def unsized_chunk_that_inflates(path: Path) -> None:
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    chunk_of(path).write_bytes(compressor.compress(bytes(1 << 28)))


def huge_shape(path: Path) -> None:
    edit(path, shape=[2**40, 2**40, 3])


def huge_side(path: Path) -> None:
    edit(path, shape=[2**62, 256, 3])


def huge_chunks(path: Path) -> None:
    grid = {"name": "regular", "configuration": {"chunk_shape": [1 << 15, 1 << 15, 3]}}
    edit(path, chunk_grid=grid)


def deep_metadata(path: Path) -> None:
    (path / "zarr.json").write_text('{"a":' * 50_000 + "1" + "}" * 50_000)


HARM = (
    fifo, device, link_outside, folder_outside, dangling, folder_for_a_chunk, sparse_chunk,
    chunk_that_inflates, unsized_chunk_that_inflates, huge_shape, huge_side, huge_chunks,
)  # fmt: skip


ZEROS = bytes(1 << 24)
BYTES = {"name": "bytes"}
ZSTD = {"name": "zstd", "configuration": {"level": 1, "checksum": False}}


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1).compress(data)


class Pickled:
    def __reduce__(self) -> Any:
        return (os.abort, ())


def of_format_2(path: Path, data: bytes, **changes: Any) -> None:
    shutil.rmtree(path)
    path.mkdir()
    metadata = {"shape": [64, 64], "chunks": [64, 64], "dtype": "|u1", "fill_value": 0}
    metadata |= {"zarr_format": 2, "order": "C", "compressor": None, "filters": None}
    (path / ".zarray").write_text(json.dumps(metadata | changes))
    (path / "0.0").write_bytes(data)


def of_format_3(path: Path, data: bytes, codecs: Any, side: int = 64) -> None:
    grid = {"name": "regular", "configuration": {"chunk_shape": [side, side]}}
    edit(path, shape=[side, side], chunk_grid=grid, codecs=codecs)
    shutil.rmtree(path / "c")
    (path / "c/0").mkdir(parents=True)
    (path / "c/0/0").write_bytes(data)


def shards(inner: Any, index: Any = (BYTES,), chunk: int = 64) -> Any:
    sizes = {"chunk_shape": [chunk, chunk], "codecs": inner, "index_codecs": list(index)}
    return {"name": "sharding_indexed", "configuration": {**sizes, "index_location": "end"}}


TWICE: dict[str, Callable[[Path], None]] = {
    "zstd in zstd": lambda path: of_format_3(path, zstd(zstd(ZEROS)), [BYTES, ZSTD, ZSTD]),
    "zstd and crc32 before it": lambda path: of_format_3(
        path, b"1234" + zstd(ZEROS), [BYTES, ZSTD, {"name": "numcodecs.crc32", "configuration": {}}]
    ),
    "lzma": lambda path: of_format_3(
        path, lzma.compress(ZEROS), [BYTES, {"name": "numcodecs.lzma", "configuration": {}}]
    ),
    "shard in shard": lambda path: of_format_3(path, b"", [shards([shards([BYTES])])]),
    "packed index": lambda path: of_format_3(path, zstd(ZEROS), [shards([BYTES], [BYTES, ZSTD])]),
    "100,000 codecs": lambda path: of_format_3(path, b"", [BYTES, *[{"name": "crc32c"}] * 100_000]),
    "pickle": lambda path: of_format_2(path, pickle.dumps(Pickled()), compressor={"id": "pickle"}),
    "pickle as a filter": lambda path: of_format_2(
        path, pickle.dumps(Pickled()), filters=[{"id": "pickle"}]
    ),
    "filter in compressor": lambda path: of_format_2(
        path, zstd(zstd(ZEROS)), filters=[{"id": "zstd"}], compressor={"id": "zstd"}
    ),
    "100,000 axes": lambda path: edit(path, shape=[1] * 100_000),
}

INFLATING: dict[str, Callable[[Path], None]] = {
    "a filter": lambda path: of_format_2(path, zstd(ZEROS), filters=[{"id": "zstd"}]),
    "bz2": lambda path: of_format_2(path, bz2.compress(ZEROS), compressor={"id": "bz2"}),
    "zlib": lambda path: of_format_2(path, zlib.compress(ZEROS), compressor={"id": "zlib"}),
    "members": lambda path: of_format_2(
        path, gzip.compress(bytes(4096)) + gzip.compress(ZEROS), compressor={"id": "gzip"}
    ),
    "frames": lambda path: of_format_3(path, zstd(bytes(4096)) + zstd(ZEROS), [BYTES, ZSTD]),
    "a frame passed over": lambda path: of_format_3(
        path, bytes.fromhex("502a4d1804000000") + b"abcd" + zstd(ZEROS), [BYTES, ZSTD]
    ),
    "a checksum": lambda path: of_format_3(
        path, zstd(ZEROS) + b"1234", [BYTES, ZSTD, {"name": "crc32c"}]
    ),
    "a shard": lambda path: of_format_3(
        path, zstd(ZEROS) + struct.pack("<QQ", 0, len(zstd(ZEROS))), [shards([BYTES, ZSTD])]
    ),
}


@pytest.mark.parametrize("harm", TWICE.values(), ids=TWICE)
def test_codecs_of_which_nothing_tells_what_they_make_are_refused(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    path = make(tmp_path / "a.zarr")
    harm(path)
    with pytest.raises(ImageError, match=r"whose chunks are made by|of [\d,]+ axes and"):
        read(path)


@pytest.mark.parametrize("harm", INFLATING.values(), ids=INFLATING)
def test_chunks_that_become_more_than_they_should(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    path = make(tmp_path / "a.zarr")
    harm(path)
    with pytest.raises(ImageError, match=r"holds more than the [\d,]+ bytes of a chunk"):
        read(path)


@pytest.mark.parametrize("codecs", [[BYTES], [shards([BYTES], chunk=1)]])
def test_chunks_so_small_that_none_are_read(tmp_path: Path, codecs: Any) -> None:
    path = make(tmp_path / "a.zarr")
    of_format_3(path, b"", codecs, side=4096)
    if codecs == [BYTES]:
        grid = {"name": "regular", "configuration": {"chunk_shape": [1, 1]}}
        edit(path, chunk_grid=grid)
    with pytest.raises(ImageError, match=r"chunks of shape \(1, 1\)"):
        read(path)


def read(path: Path) -> None:
    decode(probe(Found(path.name, str(path))))


@pytest.mark.parametrize("harm", HARM)
def test_what_would_do_harm_is_refused_at_once(tmp_path: Path, harm: Callable[..., None]) -> None:
    path = make(tmp_path / "a.zarr")
    read(path)
    harm(path)
    with pytest.raises(ImageError) as caught:
        read(path)
    assert caught.value.code in ("not_regular", "corrupt", "too_large")


@pytest.mark.parametrize(
    "options",
    [
        {"compressors": (ZstdCodec(), Crc32cCodec())},
        {"filters": (TransposeCodec(order=(1, 0, 2)),)},
        {"filters": (TransposeCodec(order=(1, 0, 2)),), "shards": (128, 128, 3)},
        {"zarr_format": 2, "compressors": numcodecs.BZ2()},
        {"zarr_format": 2, "compressors": numcodecs.LZ4(), "filters": (numcodecs.Delta("u1"),)},
    ],
)
def test_other_codecs_are_read(tmp_path: Path, options: dict[str, Any]) -> None:
    path = make(tmp_path / "a.zarr", **options)
    expected = zarr.open_array(str(path))[:]
    np.testing.assert_array_equal(decode(probe(Found("a", str(path)))), expected)


@pytest.mark.slow
@pytest.mark.parametrize("codec", [ZstdCodec(), GzipCodec(), BloscCodec()])
def test_every_codec_is_asked_how_much_it_holds(tmp_path: Path, codec: Any) -> None:
    path = make(tmp_path / "a.zarr", compressors=codec)
    read(path)
    large = make(tmp_path / "b.zarr", side=4096, chunks=(4096, 4096, 3), compressors=codec)
    shutil.copy(large / "c/0/0/0", chunk_of(path))
    with pytest.raises(ImageError, match=r"corrupt Zarr: c/1/2/0 (holds more|has)"):
        read(path)


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": (1024, 1024, 3)},
        {"shards": (128, 128, 3)},
        {"compressors": None},
        {"zarr_format": 2},
        {"shards": (128, 128, 3), "compressors": None},
    ],
)
def test_good_ones_are_read(tmp_path: Path, options: dict[str, Any]) -> None:
    path = make(tmp_path / "a.zarr", **options)
    expected = zarr.open_array(str(path))[:]
    np.testing.assert_array_equal(decode(probe(Found("a", str(path)))), expected)
    (tmp_path / "link").symlink_to(path)
    np.testing.assert_array_equal(decode(probe(Found("a", str(tmp_path / "link")))), expected)


def test_one_that_does_harm_does_not_stop_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for harm in (fifo, huge_shape, chunk_that_inflates):
        harm(make(folder / f"{harm.__name__}.zarr"))
    make(folder / "good.zarr")
    run = quantize(folder, tmp_path / "r.zarr", k=2)
    assert list(run.images) == ["good.zarr"]
    assert len(run.attributes["rejected"]) == 3


def test_a_node_of_deep_metadata_is_no_image(tmp_path: Path) -> None:
    deep_metadata(make(tmp_path / "a.zarr"))
    make(tmp_path / "b.zarr")
    assert [found.name for found in find_images([tmp_path])[0]] == ["b.zarr"]


@pytest.mark.parametrize("harm", [fifo, device, sparse_chunk, chunk_that_inflates, huge_shape])
def test_digits_refuse_them_too(tmp_path: Path, harm: Callable[..., None]) -> None:
    path = make(tmp_path / "a.zarr")
    harm(path)

    def read_all() -> None:
        stack, _ = open_stack(path)
        stack.source.read(0, stack.source.shape[0])

    with pytest.raises(KmdistError):
        read_all()


def test_a_scale_that_is_no_number_is_not_told_on(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "a.zarr/0"), data=np.eye(20, dtype=np.uint8))
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1e400]}]}
    scales = {"axes": [{"name": "y"}, {"name": "x"}], "datasets": [level]}
    node = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {"ome": {"multiscales": [scales]}},
    }
    (tmp_path / "a.zarr/zarr.json").write_text(json.dumps(node))
    source = probe(Found("a.zarr", str(tmp_path / "a.zarr")))
    assert source.grid.scale == (1.0, 1.0)
