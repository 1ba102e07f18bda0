"""Small files that would take the machine are refused before work; photographs never are."""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from kmdist.errors import ImageError
from kmdist.images import Found, decode, probe
from kmdist.images.reading.integrity import MANY_SCANS
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


@pytest.mark.parametrize("codec", ["jpeg", "jpeg2000", "webp", "png", "lerc"])
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
    else:
        start = data.index(b"IHDR")
        struct.pack_into(">II", data, start + 4, side, side)
        struct.pack_into(">I", data, start + 17, zlib.crc32(data[start : start + 17]))
    source = probed(tmp_path / "a.tif", bytes(data))
    with pytest.raises(ImageError, match="tile 0 of 64 × 64 px holds a picture of 256,000,000 px"):
        decode(source)


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
