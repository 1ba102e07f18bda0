"""Decoded pixels against Pillow's, for every format, mode and depth."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from kmdist.errors import ImageError
from kmdist.images import Found, ImageSource, Window, decode, probe, to_rgb8
from kmdist.images.reading.pillow_images import _PLUGINS
from tests.support.corpus import encode, encode_tiff, orientation, photo, png_chunk
from tests.support.folders import ROOT

PICTURE = photo(49, 66)
GREY = PICTURE[:, :, 0]
ALPHA = (np.indices(GREY.shape).sum(0) * 3 % 256).astype(np.uint8)
RGBA = np.dstack([PICTURE, ALPHA])
DEEP = PICTURE.astype(np.uint16) * 250 + 13
LA = Image.fromarray(RGBA).convert("LA")
COLOURS = Image.fromarray(PICTURE).quantize(13)
TRANSPARENT = tuple(int(v) for v in PICTURE[5, 5])


def as_(mode: str) -> Image.Image:
    return Image.fromarray(PICTURE).convert(mode)


def source_of(folder: Path, name: str, data: bytes) -> ImageSource:
    (folder / name).write_bytes(data)
    return probe(Found(name, str(folder / name)))


def by_pillow(data: bytes, channels: int) -> np.ndarray:
    """First frame, upright, as Pillow converts it."""
    with Image.open(io.BytesIO(data)) as opened:
        turned = ImageOps.exif_transpose(opened)
        if turned.mode not in ("F", "I;16"):
            turned = turned.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])
        pixels = np.asarray(turned)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def adam7(pixels: np.ndarray) -> bytes:
    """An interlaced PNG of (y, x, 3) uint8: seven passes, no filter (PNG, section 8.2)."""
    starts = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2)]
    raw = b""
    for y, x, dy, dx in [*starts, (1, 0, 2, 1)]:
        raw += b"".join(b"\0" + row.tobytes() for row in pixels[y::dy, x::dx] if row.size)
    size = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 1)
    chunks = [(b"IHDR", size), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def grey_png(levels: np.ndarray, bits: int, *, transparent: int) -> bytes:
    """A grey PNG of any depth, one of whose levels is transparent."""
    places = np.arange(bits - 1, -1, -1)
    packed = np.packbits(levels[..., None] >> places & 1, axis=None).reshape(len(levels), -1)
    header = struct.pack(">IIBBBBB", levels.shape[1], levels.shape[0], bits, 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    chunks = [(b"IHDR", header), (b"tRNS", struct.pack(">H", transparent))]
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def late_exif(data: bytes, value: int) -> bytes:
    """A PNG with its EXIF after its pixels."""
    chunk = png_chunk(b"eXIf", orientation(value).tobytes()[6:])
    return data[:-12] + chunk + data[-12:]


def apng() -> bytes:
    return encode(PICTURE, "PNG", save_all=True, append_images=[as_("RGB").rotate(180)])


# name: bytes, channels, dtype
ENCODED: dict[str, tuple[bytes, int, str]] = {
    "grey.jpg": (encode(GREY, "JPEG"), 1, "uint8"),
    "420.jpg": (encode(PICTURE, "JPEG", quality=85), 3, "uint8"),
    "444.jpg": (encode(PICTURE, "JPEG", subsampling=0, quality=97), 3, "uint8"),
    "progressive.jpg": (encode(PICTURE, "JPEG", progressive=True), 3, "uint8"),
    "restarts.jpg": (encode(PICTURE, "JPEG", restart_marker_blocks=2), 3, "uint8"),
    "untransformed.jpg": (encode(PICTURE, "JPEG", keep_rgb=True), 3, "uint8"),
    "cmyk.jpg": (encode(as_("CMYK"), "JPEG"), 3, "uint8"),
    "pair.mpo": (
        encode(PICTURE, "MPO", save_all=True, append_images=[as_("RGB").rotate(180)]),
        3,
        "uint8",
    ),
    "bilevel.png": (encode(as_("1"), "PNG"), 1, "uint8"),
    "grey.png": (encode(GREY, "PNG"), 1, "uint8"),
    "grey_alpha.png": (encode(LA, "PNG"), 4, "uint8"),
    "grey_transparent.png": (encode(GREY, "PNG", transparency=int(GREY[3, 3])), 4, "uint8"),
    "palette.png": (encode(COLOURS, "PNG"), 3, "uint8"),
    "palette_bits.png": (encode(COLOURS, "PNG", bits=4), 3, "uint8"),
    "palette_alpha.png": (
        encode(COLOURS, "PNG", transparency=bytes(range(0, 130, 10))),
        4,
        "uint8",
    ),
    "rgb.png": (encode(PICTURE, "PNG"), 3, "uint8"),
    "rgb_transparent.png": (encode(PICTURE, "PNG", transparency=TRANSPARENT), 4, "uint8"),
    "rgba.png": (encode(RGBA, "PNG"), 4, "uint8"),
    "adam7.png": (adam7(PICTURE), 3, "uint8"),
    "animated.png": (apng(), 3, "uint8"),
    "deep_grey.png": (encode(DEEP[:, :, 0], "PNG"), 1, "uint16"),
    "lossless.webp": (encode(PICTURE, "WEBP", lossless=True), 3, "uint8"),
    "lossy.webp": (encode(PICTURE, "WEBP"), 3, "uint8"),
    "alpha.webp": (encode(RGBA, "WEBP", lossless=True, exact=True), 4, "uint8"),
    "animated.webp": (
        encode(PICTURE, "WEBP", save_all=True, append_images=[as_("RGB").rotate(180)]),
        3,
        "uint8",
    ),
    "colour.avif": (encode(PICTURE, "AVIF"), 3, "uint8"),
    "alpha.avif": (encode(RGBA, "AVIF"), 4, "uint8"),
    "grey.avif": (encode(GREY, "AVIF"), 1, "uint8"),
    "animated.gif": (
        encode(PICTURE, "GIF", save_all=True, append_images=[as_("RGB").rotate(180)]),
        3,
        "uint8",
    ),
    "transparent.gif": (encode(COLOURS, "GIF", transparency=3), 4, "uint8"),
    "colour.bmp": (encode(PICTURE, "BMP"), 3, "uint8"),
    "palette.bmp": (encode(COLOURS, "BMP"), 3, "uint8"),
    "grey.bmp": (encode(GREY, "BMP"), 1, "uint8"),
    "bilevel.bmp": (encode(as_("1"), "BMP"), 1, "uint8"),
    "colour.jp2": (encode(PICTURE, "JPEG2000"), 3, "uint8"),
    "alpha.jp2": (encode(RGBA, "JPEG2000"), 4, "uint8"),
    "bare.j2k": (encode(PICTURE, "JPEG2000", no_jp2=True), 3, "uint8"),
    "colour.ppm": (encode(PICTURE, "PPM"), 3, "uint8"),
    "grey.pgm": (encode(GREY, "PPM"), 1, "uint8"),
    "bilevel.pbm": (encode(as_("1"), "PPM"), 1, "uint8"),
    "colour.tga": (encode(PICTURE, "TGA"), 3, "uint8"),
    "alpha.tga": (encode(RGBA, "TGA"), 4, "uint8"),
    "colour.sgi": (encode(PICTURE, "SGI"), 3, "uint8"),
    "colour.pcx": (encode(PICTURE, "PCX"), 3, "uint8"),
    "colour.qoi": (encode(PICTURE, "QOI"), 3, "uint8"),
    "fax.tif": (encode(as_("1"), "TIFF", compression="group4"), 1, "uint8"),
    "bilevel.tif": (encode(as_("1"), "TIFF"), 1, "uint8"),
    "grey.tif": (encode(GREY, "TIFF"), 1, "uint8"),
    "inverted.tif": (encode_tiff(GREY, photometric="miniswhite"), 1, "uint8"),
    "grey_alpha.tif": (encode(LA, "TIFF"), 4, "uint8"),
    "palette.tif": (encode(COLOURS, "TIFF"), 3, "uint8"),
    "lzw.tif": (encode(PICTURE, "TIFF", compression="tiff_lzw"), 3, "uint8"),
    "alpha.tif": (encode(RGBA, "TIFF", compression="tiff_deflate"), 4, "uint8"),
    "premultiplied.tif": (
        encode_tiff(RGBA, photometric="rgb", extrasamples=["assocalpha"]),
        4,
        "uint8",
    ),
    "padded.tif": (encode_tiff(RGBA, photometric="rgb", extrasamples=["unspecified"]), 3, "uint8"),
    "jpeg.tif": (encode(PICTURE, "TIFF", compression="jpeg"), 3, "uint8"),
    "cmyk.tif": (encode(as_("CMYK"), "TIFF"), 3, "uint8"),
    "ycbcr.tif": (encode(as_("YCbCr"), "TIFF"), 3, "uint8"),
    "deep_grey.tif": (encode(DEEP[:, :, 0], "TIFF"), 1, "uint16"),
    "float.tif": (encode(GREY.astype(np.float32) / 255, "TIFF"), 1, "float32"),
}


@pytest.mark.parametrize("name", ENCODED)
def test_pixels_equal_pillows(tmp_path: Path, name: str) -> None:
    data, channels, dtype = ENCODED[name]
    source = source_of(tmp_path, name, data)
    pixels = decode(source)
    assert (source.channels, source.dtype) == (channels, dtype)
    assert (source.height, source.width) == GREY.shape
    assert (pixels.shape, pixels.dtype) == ((*GREY.shape, channels), np.dtype(dtype))
    assert pixels.flags.writeable
    np.testing.assert_array_equal(pixels, by_pillow(data, channels))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_one_transparent_grey_level(tmp_path: Path, bits: int) -> None:
    levels = np.arange(64).reshape(4, 16) % (1 << bits) * (1000 if bits == 16 else 1)
    data = grey_png(levels, bits, transparent=int(levels[1, 3]))
    pixels = decode(source_of(tmp_path, "a.png", data))
    full = 65_535 if bits == 16 else 255
    np.testing.assert_array_equal(pixels[:, :, 0], levels * (full // ((1 << bits) - 1)))
    np.testing.assert_array_equal(pixels[:, :, 3], np.where(levels == levels[1, 3], 0, full))
    np.testing.assert_array_equal(to_rgb8(pixels)[1], levels == levels[1, 3])


def test_one_transparent_colour_of_16_bits(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in DEEP)
    header = struct.pack(">IIBBBBB", DEEP.shape[1], DEEP.shape[0], 16, 2, 0, 0, 0)
    colour = DEEP[7, 9]
    chunks = [(b"IHDR", header), (b"tRNS", colour.astype(">u2").tobytes())]
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)
    pixels = decode(source_of(tmp_path, "a.png", data))
    np.testing.assert_array_equal(pixels[:, :, :3], DEEP)
    np.testing.assert_array_equal(pixels[:, :, 3] == 0, (colour == DEEP).all(axis=2))


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "late PNG", "WEBP", "AVIF", "TIFF"])
def test_orientation_is_applied_in_every_format(tmp_path: Path, form: str, value: int) -> None:
    exif = orientation(value)
    if form == "late PNG":
        data = late_exif(encode(PICTURE, "PNG"), value)
    else:
        lossless = {"lossless": True} if form == "WEBP" else {}
        data = encode(PICTURE, form.split()[-1], exif=exif, **lossless)
    source = source_of(tmp_path, "turned", data)
    assert source.width, source.height == ((49, 66) if value > 4 else (66, 49))
    np.testing.assert_array_equal(decode(source), by_pillow(data, 3))
    assert decode(source).flags.c_contiguous


@pytest.mark.parametrize("mode", ["RGB", "L", "damaged"])
@pytest.mark.parametrize("value", [1, 6])
def test_large_jpegs_are_read_as_small_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, value: int
) -> None:
    damaged = mode == "damaged"
    picture = as_("RGB" if damaged else mode)
    data = encode(picture, "JPEG", exif=orientation(value), progressive=damaged)
    if damaged:  # a segment that reaches beyond the end of the file
        data = data[:-9] + b"\xff\xe9\xff\xff" + data[-5:]
    source, found = source_of(tmp_path, "a.jpg", data), list[np.ndarray | str]()
    for most_bytes in (1 << 25, 0):
        monkeypatch.setattr("kmdist.images.reading.image._MAPPED_BYTES", most_bytes)
        try:
            found.append(decode(source))
        except ImageError as error:
            found.append(error.code)
    np.testing.assert_array_equal(*found)
    assert isinstance(found[0], str) == damaged


def test_orientation_from_xmp_counts(tmp_path: Path) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    data = encode(PICTURE, "JPEG", xmp=xmp)
    source = source_of(tmp_path, "turned.jpg", data)
    assert (source.width, source.height) == (49, 66)
    np.testing.assert_array_equal(decode(source), by_pillow(data, 3))


@pytest.mark.parametrize("damage", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\xff\xff\xff\xff"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_no_reason_to_refuse(tmp_path: Path, damage: bytes) -> None:
    source = source_of(tmp_path, "a.jpg", encode(PICTURE, "JPEG", exif=damage))
    assert source.orientation == 1
    assert decode(source).shape == PICTURE.shape


@pytest.mark.parametrize("samples", [DEEP, np.dstack([DEEP, DEEP[:, :, :1]])])
@pytest.mark.parametrize("form", ["png", "tif"])
def test_16_bits_are_kept(tmp_path: Path, form: str, samples: np.ndarray) -> None:
    import cv2

    if form == "png":
        order = [2, 1, 0, 3][: samples.shape[2]]
        data = cv2.imencode(".png", samples[:, :, order])[1].tobytes()
    else:
        data = encode_tiff(samples, photometric="rgb", compression="zstd", predictor=True)
    source = source_of(tmp_path, f"deep.{form}", data)
    assert source.dtype == "uint16"
    np.testing.assert_array_equal(decode(source), samples)


TIFF_LAYOUTS = {
    "plain": {},
    "strips": {"rowsperstrip": 7, "compression": "deflate"},
    "tiles": {"tile": (16, 32), "compression": "lzw", "predictor": True},
    "bare tiles": {"tile": (16, 16)},
    "big": {"bigtiff": True, "byteorder": ">", "rowsperstrip": 5},
    "zstd": {"tile": (32, 16), "compression": "zstd"},
}


@pytest.mark.parametrize("layout", TIFF_LAYOUTS)
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("value", [1, 3, 6])
def test_tiff_windows_equal_the_whole(tmp_path: Path, layout: str, planar: str, value: int) -> None:
    stored = np.moveaxis(DEEP, -1, 0).copy() if planar == "separate" else DEEP
    tags = [(274, "H", 1, value, True)]
    options = {"photometric": "rgb", "planarconfig": planar, "extratags": tags}
    data = encode_tiff(stored, **options, **TIFF_LAYOUTS[layout])
    source = source_of(tmp_path, "a.tif", data)
    upright = {1: DEEP, 3: DEEP[::-1, ::-1], 6: np.rot90(DEEP, -1)}[value]
    assert source.windowed
    assert (source.height, source.width, source.channels) == upright.shape
    np.testing.assert_array_equal(decode(source), upright)
    height, width = source.height, source.width
    for y0, x0, y1, x1 in [(0, 0, 1, 1), (3, 10, 40, 33), (16, 16, 32, 48), (0, 5, height, width)]:
        part = decode(source, Window(y0, x0, min(y1, height), min(x1, width)))
        np.testing.assert_array_equal(part, upright[y0:y1, x0:x1])


@pytest.mark.parametrize("bits", [2, 4, 10, 12, 14])
def test_odd_depths_fill_their_type(tmp_path: Path, bits: int) -> None:
    top = (1 << bits) - 1
    values = (np.arange(40 * 16).reshape(40, 16) % (top + 1)).astype("u1" if bits < 8 else "u2")
    packed = np.packbits(
        (values.astype(np.uint32)[..., None] >> np.arange(bits - 1, -1, -1) & 1).astype(np.uint8)
    )
    data = encode_tiff(np.zeros((40, 16), values.dtype), metadata=None)
    stored = tifffile.TiffFile(io.BytesIO(data)).pages.first
    begin = stored.dataoffsets[0]
    changed = bytearray(data)
    changed[begin : begin + packed.size] = packed.tobytes()
    for code, value in ((258, bits), (279, packed.size)):
        entry = stored.tags[code].valueoffset
        size = 2 if stored.tags[code].dtype == tifffile.DATATYPE.SHORT else 4
        changed[entry : entry + size] = int(value).to_bytes(size, "little")
    pixels = decode(source_of(tmp_path, "odd.tif", bytes(changed)))
    full = 255 if bits < 8 else 65_535
    expected = np.rint(values / top * full).astype(pixels.dtype)
    np.testing.assert_array_equal(pixels[:, :, 0], expected)


def test_sparse_tiles_are_empty(tmp_path: Path) -> None:
    data = bytearray(encode_tiff(photo(32, 32)[:, :, 0], tile=(16, 16), compression="deflate"))
    counts = tifffile.TiffFile(io.BytesIO(bytes(data))).pages.first.tags[325]
    size = counts.valuebytecount // 4
    data[counts.valueoffset : counts.valueoffset + size] = bytes(size)
    pixels = decode(source_of(tmp_path, "sparse.tif", bytes(data)))
    assert not pixels[:16, :16].any()
    np.testing.assert_array_equal(pixels[16:, :, 0], photo(32, 32)[16:, :, 0])


def test_half_floats_are_widened(tmp_path: Path) -> None:
    half = (GREY / 255).astype(np.float16)
    source = source_of(tmp_path, "half.tif", encode_tiff(half))
    assert source.dtype == "float32"
    np.testing.assert_array_equal(decode(source)[:, :, 0], half.astype(np.float32))


@pytest.mark.parametrize(
    ("name", "pages"),
    [
        ("pair.mpo", 2),
        ("animated.gif", 2),
        ("animated.png", 2),
        ("animated.webp", 2),
        ("grey.tif", 1),
    ],
)
def test_frames_are_counted(tmp_path: Path, name: str, pages: int) -> None:
    assert source_of(tmp_path, name, ENCODED[name][0]).pages == pages


def test_a_large_webp_is_no_fault(tmp_path: Path) -> None:
    data = bytearray(encode(np.full((8, 8, 3), 90, np.uint8), "WEBP", lossless=True))
    place = data.index(b"VP8L") + 9
    kept = int.from_bytes(data[place : place + 4], "little") >> 28 << 28
    data[place : place + 4] = (kept | 13_699 | 13_699 << 14).to_bytes(4, "little")
    source = source_of(tmp_path, "a.webp", bytes(data))
    assert (source.width, source.height, source.channels) == (13_700, 13_700, 3)
    with pytest.raises(ImageError, match="--max-pixels"):
        probe(Found("a.webp", source.path), max_pixels=10**8)


def test_first_of_many_pages(tmp_path: Path) -> None:
    stack = np.stack([GREY, 255 - GREY, GREY // 2])
    source = source_of(tmp_path, "stack.tif", encode_tiff(stack, photometric="minisblack"))
    assert source.pages == 3
    np.testing.assert_array_equal(decode(source)[:, :, 0], GREY)


class TestToRgb8:
    def test_rgb_is_passed_on(self) -> None:
        rgb, unclustered = to_rgb8(PICTURE)
        assert rgb is PICTURE
        assert unclustered is None

    def test_grey_is_repeated(self) -> None:
        rgb, unclustered = to_rgb8(GREY[:, :, None])
        np.testing.assert_array_equal(rgb, np.dstack([GREY] * 3))
        assert unclustered is None

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    def test_alpha_zero_is_unclustered(self, dtype: str) -> None:
        scale = {"uint8": 1, "uint16": 257, "float32": np.float32(1 / 255)}[dtype]
        hard = np.dstack([PICTURE, np.where(ALPHA > 99, 255, 0)])
        rgb, unclustered = to_rgb8(hard.astype(dtype) * np.dtype(dtype).type(scale))
        np.testing.assert_array_equal(rgb, PICTURE)
        np.testing.assert_array_equal(unclustered, ALPHA <= 99)

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
    def test_partly_transparent_is_laid_over_white(self, dtype: str) -> None:
        scale = {"uint8": 1, "uint16": 257}.get(dtype, np.dtype(dtype).type(1) / 255)
        rgb, unclustered = to_rgb8(RGBA.astype(dtype) * np.dtype(dtype).type(scale))
        alpha = ALPHA[:, :, None] / 255
        shown = np.rint(PICTURE * alpha + 255 * (1 - alpha))
        np.testing.assert_array_equal(rgb[ALPHA > 0], shown[ALPHA > 0])
        np.testing.assert_array_equal(unclustered, ALPHA == 0)

    def test_black_with_an_alpha_ramp_is_a_ramp(self) -> None:
        ramp = np.zeros((1, 256, 4), np.uint8)
        ramp[0, :, 3] = np.arange(256)
        rgb, _ = to_rgb8(ramp)
        np.testing.assert_array_equal(rgb[0, 1:, 0], 255 - np.arange(1, 256))

    def test_opaque_alpha_means_all_clustered(self) -> None:
        assert to_rgb8(np.dstack([PICTURE, ALPHA | 1]))[1] is None

    def test_every_16_bit_level_is_rounded(self) -> None:
        levels = np.arange(65_536, dtype=np.uint16).reshape(256, 256, 1)
        rgb, _ = to_rgb8(levels)
        expected = (levels.astype(np.int64) * 255 + 32_767) // 65_535
        np.testing.assert_array_equal(rgb[:, :, :1], expected)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_unit_floats_return_their_levels(self, dtype: str) -> None:
        levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
        rgb, _ = to_rgb8(levels.astype(dtype) / np.dtype(dtype).type(255))
        np.testing.assert_array_equal(rgb[:, :, :1], levels)

    @pytest.mark.parametrize("value", [-0.01, 1.01, 255.0])
    def test_floats_beyond_one_are_refused_with_a_remedy(self, value: float) -> None:
        with pytest.raises(ImageError, match="rescale") as caught:
            to_rgb8(np.full((2, 2, 1), value, np.float32))
        assert caught.value.code == "range"

    def test_a_rounding_error_beyond_one_is_not(self) -> None:
        values = np.array([[[np.nextafter(np.float32(1), np.float32(2))]]], np.float32)
        assert to_rgb8(values)[0].max() == 255

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_non_finite_is_refused(self, value: float) -> None:
        with pytest.raises(ImageError) as caught:
            to_rgb8(np.full((2, 2, 3), value, np.float32))
        assert caught.value.code == "non_finite"

    @pytest.mark.parametrize(
        ("shape", "dtype", "code"),
        [((2, 2, 2), "uint8", "channels"), ((2, 2, 3), "int32", "dtype")],
    )
    def test_other_arrays_are_refused(self, shape: tuple[int, ...], dtype: str, code: str) -> None:
        with pytest.raises(ImageError) as caught:
            to_rgb8(np.zeros(shape, dtype))
        assert caught.value.code == code


def test_the_table_of_formats_is_whole_and_has_no_fault() -> None:
    lines = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    kinds = {row[0] for row in rows[2:]}
    assert kinds == {*_PLUGINS, "webp", "exr", "raw"}
    assert not [row for row in rows if "FAIL" in " ".join(row)]
    assert all(row[4].startswith("pass: ") for row in rows[2:])
