"""Small files that would take the machine are refused before work; photographs never are."""

import io
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from kmdist.errors import ImageError
from kmdist.images import Found, decode, probe
from kmdist.images.blocks import Window
from kmdist.images.reading.integrity import MANY_SCANS
from kmdist.images.reading.tiff import read_samples
from tests.support.corpus import encode_tiff, photo
from tests.support.small_files import small_files


def jpeg(pixels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    return file.getvalue()


def parts(data: bytes) -> Iterator[bytes]:
    """A JPEG part by part: each marker with its segment, each scan with what it codes."""
    position = 0
    while position < len(data):
        end = position + 2
        if data[position + 1] not in (0xD8, 0xD9):
            end += int.from_bytes(data[end : end + 2], "big")
        if data[position + 1] == 0xDA:
            while data[end] != 0xFF or data[end + 1] == 0 or 0xD0 <= data[end + 1] <= 0xD7:
                end += 1
        yield data[position:end]
        position = end


def with_scans(data: bytes, times: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    listed = list(parts(data))
    return b"".join([*listed[:-1], *listed[-2:-1] * times, listed[-1]])


def probed(path: Path, data: bytes):
    path.write_bytes(data)
    return probe(Found(path.name, str(path)))


@pytest.mark.parametrize("size", [(600, 800), (2000, 3000)])
def test_thousands_of_scans_over_a_large_picture_are_refused(
    size: tuple[int, int], tmp_path: Path
) -> None:
    plain = jpeg(np.zeros((*size, 3), np.uint8), progressive=True)
    many = with_scans(plain, 3000)
    assert many.count(b"\xff\xda") > 3000
    with pytest.raises(ImageError) as caught:
        decode(probed(tmp_path / "a.jpg", many))
    assert caught.value.code == "too_costly"
    # A preview in the metadata is no scan of the picture.
    hidden = plain[:2] + b"\xff\xe1" + struct.pack(">H", 602) + b"\xff\xda" * 300 + plain[2:]
    assert decode(probed(tmp_path / "b.jpg", hidden)).shape == (*size, 3)


def test_many_scans_of_a_small_picture_are_decoded(tmp_path: Path) -> None:
    plain = jpeg(photo(40, 60), progressive=True)
    many = with_scans(plain, 2 * MANY_SCANS)
    assert decode(probed(tmp_path / "a.jpg", many)).shape == (40, 60, 3)


def test_a_few_bytes_cannot_claim_a_large_picture(tmp_path: Path) -> None:
    data = bytearray(jpeg(np.zeros((16, 16), np.uint8)))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 14_000, 14_000)
    with pytest.raises(ImageError) as caught:
        probed(tmp_path / "a.jpg", bytes(data))
    assert caught.value.code == "truncated"


@pytest.mark.parametrize(("row", "fits"), [(b"\xff\x01" * 20 + b"\0\0", True), (b"\0\0", False)])
def test_rows_of_a_bmp_hold_pixels(row: bytes, fits: bool, tmp_path: Path) -> None:
    """Rows in runs, as long as runs can be; and rows that only end, each filled byte by byte."""
    width, height = 5100, 400
    colours = bytes([0, 0, 0, 0, 9, 9, 9, 0])
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, 0, 0, 0, 2, 0)
    head = b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + 40 + len(colours)) + header + colours
    data = head + row * height + b"\0\1"
    if fits:
        assert (decode(probed(tmp_path / "a.bmp", data)) == 9).all()
        return
    with pytest.raises(ImageError) as caught:
        probed(tmp_path / "a.bmp", data)
    assert caught.value.code == "truncated"


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True, "quality": 1}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_emptiest_pictures_are_no_bombs(mode: str, options: dict, tmp_path: Path) -> None:
    for name in ("JPEG", "PNG"):
        file = io.BytesIO()
        Image.new(mode, (5000, 4000)).save(file, name, **options)
        source = probed(tmp_path / f"a.{name.lower()}", file.getvalue())
        assert (source.width, source.height) == (5000, 4000)
    file = io.BytesIO()
    Image.new("1", (16_000, 12_000)).save(file, "PNG", compress_level=9)
    assert probed(tmp_path / "a.png", file.getvalue()).height == 12_000


@pytest.mark.parametrize("codec", ["jpeg", "jpeg2000", "webp", "png", "lerc", "jpegxr"])
def test_what_a_tile_holds_is_no_larger_than_the_tile(codec: str, tmp_path: Path) -> None:
    file = encode_tiff(photo(64, 64), photometric="rgb", tile=(64, 64), compression=codec)
    data, side = bytearray(file), 16_000
    if codec == "jpeg":
        struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, side, side)
    elif codec == "jpeg2000":
        struct.pack_into(">II", data, data.index(b"\xff\x51") + 6, side, side)
    elif codec == "webp":
        struct.pack_into("<I", data, data.index(b"VP8L") + 9, side - 1 | (side - 1) << 14)
    elif codec == "lerc":
        struct.pack_into("<II", data, data.index(b"Lerc2 ") + 14, side, side)
    elif codec == "jpegxr":
        struct.pack_into(">HH", data, data.index(b"WMPHOTO\0") + 12, side - 1, side - 1)
    else:
        start = data.index(b"IHDR")
        struct.pack_into(">II", data, start + 4, side, side)
        struct.pack_into(">I", data, start + 17, zlib.crc32(data[start : start + 17]))
    source = probed(tmp_path / "a.tif", bytes(data))
    with pytest.raises(ImageError, match="tile 0 of 64 × 64 px holds a picture of 256,000,000 px"):
        decode(source)


def tiled(path: Path, tile: bytes, side: int = 64) -> Path:
    """A grey TIFF whose only tile holds LERC."""
    options = {"shape": (side, side), "dtype": np.uint8, "tile": (side, side)}
    tifffile.imwrite(path, iter([tile]), compression="lerc", **options)
    return path


PACKINGS = {"plain": bytes, "deflate": zlib.compress, "zstd": imagecodecs.zstd_encode}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("version", [2, 4, "depth", "bands"])
def test_what_lerc_says_is_no_larger_than_the_tile(
    version: int | str, packing: str, tmp_path: Path
) -> None:
    number = version if isinstance(version, int) else 4
    blob = bytearray(imagecodecs.lerc_encode(photo(64, 64)[:, :, 0].copy(), version=number))
    if version == "depth":
        struct.pack_into("<I", blob, 22, 62_500)
    elif version != "bands":
        struct.pack_into("<II", blob, 10 if version == 2 else 14, 16_000, 16_000)
    tile = bytes(blob) * (300 if version == "bands" else 1)
    path = tiled(tmp_path / "a.tif", PACKINGS[packing](tile + b"Lerc2 "))
    expected = "1,2" if version == "bands" else "256,000,000"
    with pytest.raises(ImageError, match=f"tile 0 of 64 × 64 px holds a picture of {expected}"):
        decode(probe(Found(path.name, str(path))))


@pytest.mark.parametrize("packing", PACKINGS)
def test_lerc_of_version_1_is_refused(packing: str, tmp_path: Path) -> None:
    for side in (64, 16_000):  # its decoder divides by the zeros
        blob = b"CntZImage " + struct.pack("<4id", 11, 8, side, side, 0) + bytes(99)
        path = tiled(tmp_path / "a.tif", PACKINGS[packing](blob))
        with pytest.raises(ImageError, match="tile 0 holds no Lerc2"):
            decode(probe(Found(path.name, str(path))))


def test_jpeg_2000_of_many_bands_is_no_larger_than_the_tile(tmp_path: Path) -> None:
    bands = np.zeros((64, 64, 7), np.uint8)
    options = {"photometric": "minisblack", "planarconfig": "contig", "tile": (64, 64)}
    data = bytearray(encode_tiff(bands, compression="jpeg2000", **options))
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    assert np.array_equal(read_with_peak(path)[0], bands)
    struct.pack_into(">II", data, data.index(b"\xff\x51") + 6, 16_000, 16_000)
    path.write_bytes(data)
    with pytest.raises(ImageError, match="holds a picture of 256,000,000 px"):
        read_with_peak(path)


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("version", [2, 3, 4, 6])
def test_large_tiles_of_any_lerc_are_read(version: int, packing: str, tmp_path: Path) -> None:
    pixels = photo(512, 512)[:, :, 0].copy()
    tile = PACKINGS[packing](imagecodecs.lerc_encode(pixels, version=version))
    path = tiled(tmp_path / "a.tif", tile, 512)
    assert np.array_equal(decode(probe(Found(path.name, str(path))))[:, :, 0], pixels)


def read_with_peak(path: Path) -> tuple[np.ndarray, int]:
    """Samples of a whole TIFF and the most bytes that Python took for them."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        tracemalloc.start()
        try:
            samples = read_samples(tiff, page, Window(0, 0, page.imagelength, page.imagewidth))
            return samples, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("packing", ["deflate", "zstd"])
def test_what_is_unpacked_of_lerc_is_bounded(packing: str, tmp_path: Path) -> None:
    pixels = photo(64, 64)[:, :, 0].copy()
    long = imagecodecs.lerc_encode(pixels, version=4) + bytes(50 << 20)
    samples, peak = read_with_peak(tiled(tmp_path / "a.tif", PACKINGS[packing](long)))
    assert np.array_equal(samples[:, :, 0], pixels)
    assert peak < 10 << 20


def test_a_tile_takes_memory_for_the_bytes_that_it_has(tmp_path: Path) -> None:
    pixels = np.arange(16 * 16 * 40, dtype=np.float64).reshape(16, 16, 40)
    options = {"photometric": "minisblack", "planarconfig": "contig", "tile": (16, 16)}
    data = bytearray(encode_tiff(pixels, **options))
    for code in (322, 323):  # TileWidth, TileLength
        entry = data.index(struct.pack("<HHII", code, 4, 1, 16))
        struct.pack_into("<HHII", data, entry, code, 4, 1, 4096)
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    samples, peak = read_with_peak(path)
    assert np.array_equal(samples, pixels)
    assert peak < 10 << 20


def test_a_jpeg_within_a_tile_has_nothing_between_its_markers(tmp_path: Path) -> None:
    file = jpeg(photo(64, 64))
    options = {"shape": (64, 64, 3), "dtype": np.uint8, "compression": "jpeg"}
    path = tmp_path / "a.tif"
    for data, fault in ((file, ""), (file[:2] + b"\0" + file[2:], "no marker at byte 2")):
        tifffile.imwrite(path, iter([data]), rowsperstrip=64, photometric="ycbcr", **options)
        source = probe(Found(path.name, str(path)))
        if fault:
            with pytest.raises(ImageError, match=fault):
                decode(source)
        else:
            assert decode(source).shape == (64, 64, 3)


def test_thousands_of_scans_in_a_tile_are_refused(tmp_path: Path) -> None:
    many = with_scans(jpeg(np.zeros((2000, 3000, 3), np.uint8), progressive=True), 3000)
    options = {"shape": (2000, 3000, 3), "dtype": np.uint8, "compression": "jpeg"}
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, iter([many]), rowsperstrip=2000, photometric="ycbcr", **options)
    with pytest.raises(ImageError) as caught:
        decode(probe(Found(path.name, str(path))))
    assert caught.value.code == "too_costly"


def test_large_tiles_are_no_larger_than_the_picture(tmp_path: Path) -> None:
    data = bytearray(
        encode_tiff(photo(9, 13), photometric="rgb", tile=(16, 16), compression="deflate")
    )
    entry = data.index(struct.pack("<HHII", 323, 4, 1, 16))  # TileLength
    struct.pack_into("<HHII", data, entry, 323, 4, 1, 687_865_872)
    with pytest.raises(ImageError, match="tiles of 16 × 687,865,872 px for a picture of 13 × 9"):
        probed(tmp_path / "a.tif", bytes(data))


def test_small_files_of_all_formats_stay_within_the_limits(tmp_path: Path) -> None:
    for name, data in small_files().items():
        assert probed(tmp_path / name, data).width > 0
