"""A small file of every format and compression that is read, to be cut off and damaged."""

import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from tests.support.corpus import encode, encode_tiff, photo

PICTURE = photo(9, 13)
GREY = PICTURE[:, :, 0].copy()
RGBA = np.dstack([PICTURE, (np.indices(GREY.shape).sum(0) * 9 % 256).astype(np.uint8)])
DEEP = PICTURE.astype(np.uint16) * 250 + 13
COLOUR = Image.fromarray(PICTURE)
TURNED = COLOUR.rotate(180)
PALETTE = COLOUR.quantize(7)
BILEVEL = COLOUR.convert("1")
CMYK = COLOUR.convert("CMYK")
FRAMES: dict[str, Any] = {"save_all": True, "append_images": [TURNED]}


def small_files() -> dict[str, bytes]:
    """Encoded files by name; their suffixes are those they have in the wild."""
    return {**dict(_by_pillow()), **dict(_tiffs()), **_by_hand()}


def _by_pillow() -> Iterator[tuple[str, bytes]]:
    kinds: dict[str, tuple[Any, str, dict[str, Any]]] = {
        "baseline.jpg": (COLOUR, "JPEG", {}),
        "progressive.jpg": (COLOUR, "JPEG", {"progressive": True}),
        "restarts.jpg": (COLOUR, "JPEG", {"restart_marker_blocks": 1}),
        "grey.jpg": (GREY, "JPEG", {}),
        "cmyk.jpg": (CMYK, "JPEG", {}),
        "pair.mpo": (COLOUR, "MPO", FRAMES),
        "rgb.png": (COLOUR, "PNG", {}),
        "rgba.png": (RGBA, "PNG", {}),
        "palette.png": (PALETTE, "PNG", {}),
        "transparent.png": (GREY, "PNG", {"transparency": int(GREY[3, 3])}),
        "deep.png": (DEEP[:, :, 0], "PNG", {}),
        "animated.png": (COLOUR, "PNG", FRAMES),
        "lossy.webp": (COLOUR, "WEBP", {}),
        "lossless.webp": (COLOUR, "WEBP", {"lossless": True}),
        "alpha.webp": (RGBA, "WEBP", {}),
        "animated.webp": (COLOUR, "WEBP", FRAMES),
        "colour.avif": (COLOUR, "AVIF", {}),
        "alpha.avif": (RGBA, "AVIF", {}),
        "animated.avif": (COLOUR, "AVIF", FRAMES),
        "animated.gif": (PALETTE, "GIF", FRAMES),
        "transparent.gif": (PALETTE, "GIF", {"transparency": 3}),
        "interlaced.gif": (PALETTE, "GIF", {"interlace": True}),
        "colour.bmp": (COLOUR, "BMP", {}),
        "palette.bmp": (PALETTE, "BMP", {}),
        "bilevel.bmp": (BILEVEL, "BMP", {}),
        "colour.dib": (COLOUR, "DIB", {}),
        "colour.jp2": (COLOUR, "JPEG2000", {}),
        "layers.jp2": (
            COLOUR,
            "JPEG2000",
            {"irreversible": True, "quality_mode": "rates", "quality_layers": [20, 5]},
        ),
        "bare.j2k": (COLOUR, "JPEG2000", {"no_jp2": True}),
        "colour.ppm": (COLOUR, "PPM", {}),
        "grey.pgm": (GREY, "PPM", {}),
        "deep.pgm": (DEEP[:, :, 0], "PPM", {}),
        "bilevel.pbm": (BILEVEL, "PPM", {}),
        "float.pfm": (GREY.astype(np.float32) / 255, "PPM", {}),
        "colour.tga": (COLOUR, "TGA", {}),
        "alpha.tga": (RGBA, "TGA", {}),
        "runs.tga": (COLOUR, "TGA", {"compression": "tga_rle"}),
        "palette_runs.tga": (PALETTE, "TGA", {"compression": "tga_rle"}),
        "colour.sgi": (COLOUR, "SGI", {}),
        "deep.sgi": (GREY, "SGI", {"bpc": 2}),
        "colour.pcx": (COLOUR, "PCX", {}),
        "palette.pcx": (PALETTE, "PCX", {}),
        "bilevel.pcx": (BILEVEL, "PCX", {}),
        "colour.qoi": (COLOUR, "QOI", {}),
        "palette.tif": (PALETTE, "TIFF", {}),
        "cmyk.tif": (CMYK, "TIFF", {"compression": "tiff_lzw"}),
        "ycbcr.tif": (COLOUR.convert("YCbCr"), "TIFF", {}),
    }
    for name, (pixels, form, options) in kinds.items():
        yield name, encode(pixels, form, **options)
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd"):
        options = {} if compression == "raw" else {"compression": compression}
        yield f"libtiff_{compression}.tif", encode(COLOUR, "TIFF", **options)
    for compression in ("group3", "group4", "tiff_ccitt"):
        yield f"{compression}.tif", encode(BILEVEL, "TIFF", compression=compression)


def _tiffs() -> Iterator[tuple[str, bytes]]:
    layouts: dict[str, dict[str, Any]] = {
        "strips": {"rowsperstrip": 4},
        "tiles": {"tile": (16, 16)},
        "big": {"bigtiff": True, "byteorder": ">"},
    }
    for compression in (None, "lzw", "deflate", "packbits", "zstd", "lzma", "webp", "jpeg2000"):
        for layout, options in layouts.items():
            options = {**options, "photometric": "rgb", "metadata": None}
            name = f"{compression or 'plain'}_{layout}.tif"
            yield name, encode_tiff(PICTURE, compression=compression, **options)
    planes = np.moveaxis(PICTURE, -1, 0).copy()
    planar = {"photometric": "rgb", "planarconfig": "separate"}
    yield "planes.tif", encode_tiff(planes, compression="deflate", **planar)
    yield (
        "predictor.tif",
        encode_tiff(PICTURE, photometric="rgb", compression="lzw", predictor=True),
    )
    yield "float.tif", encode_tiff(GREY.astype(np.float32) / 255)
    yield "pages.tif", encode_tiff(np.stack([GREY, 255 - GREY]), photometric="minisblack")


def _by_hand() -> dict[str, bytes]:
    """What Pillow reads and does not write."""
    height, width = GREY.shape
    plain = b"\n%d %d\n" % (width, height)
    return {
        "plain.pbm": b"P1" + plain + _decimal(GREY > 99),
        "plain.pgm": b"P2" + plain + b"255\n" + _decimal(GREY),
        "plain.ppm": b"P3" + plain + b"255\n" + _decimal(PICTURE.reshape(height, -1)),
        "runs.bmp": _bmp_runs(GREY // 64),
        "runs.sgi": _sgi_runs(PICTURE),
        "colour.ras": _sun(PICTURE, 1),
        "runs.ras": _sun(PICTURE, 2),
    }


def _decimal(values: np.ndarray) -> bytes:
    rows: Callable[[np.ndarray], bytes] = lambda row: b" ".join(b"%d" % v for v in row)  # noqa: E731
    return b"\n".join(rows(row) for row in values) + b"\n"


def _bmp_runs(indices: np.ndarray) -> bytes:
    """BMP with runs of 8-bit indices, one pixel each (BI_RLE8)."""
    height, width = indices.shape
    rows = (b"".join(bytes([1, int(v)]) for v in row) + b"\0\0" for row in indices[::-1])
    data = b"".join(rows) + b"\0\1"
    palette = b"".join(bytes([i * 60, i * 50, i * 40, 0]) for i in range(4))
    start = 14 + 40 + len(palette)
    head = struct.pack("<IHHI", start + len(data), 0, 0, start)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 4, 0)
    return b"BM" + head + info + palette + data


def _sgi_runs(pixels: np.ndarray) -> bytes:
    """SGI with each row one literal run."""
    height, width, channels = pixels.shape
    head = struct.pack(">HBBHHHHII", 474, 1, 1, 3, width, height, channels, 0, 255)
    rows = [
        bytes([0x80 | width]) + row.tobytes() + b"\0"
        for plane in np.moveaxis(pixels, -1, 0)
        for row in plane[::-1]
    ]
    first = 512 + 8 * len(rows)
    starts = first + np.cumsum([0, *map(len, rows)])[:-1]
    tables = starts.astype(">u4").tobytes() + struct.pack(">I", len(rows[0])) * len(rows)
    return head.ljust(512, b"\0") + tables + b"".join(rows)


def _sun(pixels: np.ndarray, kind: int) -> bytes:
    """Sun raster of BGR rows of even length; kind 2 with escaped 0x80 as its only runs."""
    height, width, _ = pixels.shape
    padding = b"\0" * (width * 3 % 2)
    data = b"".join(row.tobytes() + padding for row in pixels[:, :, ::-1])
    if kind == 2:
        data = data.replace(b"\x80", b"\x80\0")
    return struct.pack(">8I", 0x59A66A95, width, height, 24, len(data), kind, 0, 0) + data
