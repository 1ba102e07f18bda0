"""TIFF: what the first page holds, and windows that read only the strips or tiles they touch."""

import logging
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import islice
from typing import Any, BinaryIO

import numpy as np

from kmdist.errors import ImageError
from kmdist.images.blocks import Window
from kmdist.images.finding.files import open_regular
from kmdist.images.finding.formats import SNIFFED_BYTES, detect
from kmdist.images.pixels import Pixels, decoded_dtype, orient, stored_window, widen
from kmdist.images.reading.axes import SEGMENT, require_picture
from kmdist.images.reading.integrity import jpeg_pixels
from kmdist.images.reading.srgb import state_of, to_srgb
from kmdist.images.source import Header, ImageSource

SEGMENT_PIXELS = 1 << 24
"""Strips and tiles up to this size are read by window: a window decodes all it touches."""
EMBEDDED_PIXELS = 1 << 20
"""Of a picture within a strip or tile that is smaller: what fails to fit is told once decoded."""

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _SEPARATED, _YCBCR = 0, 1, 2, 3, 5, 6
GREY_KINDS = ("grey", "white_is_zero")
_RAW = (32803, 34892)
_ORIENTATION_TAG = 274
_TYPE_BYTES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8,
    17: 8, 18: 8,
}  # fmt: skip
"""Bytes of a value by its type (TIFF 6.0, section 2; BigTIFF)."""
# Codecs that undo their own colour transform: what comes out of them is RGB.
_IMAGE_CODECS = frozenset({7, 33003, 33004, 33005, 33007, 34712, 34892, 50001, 50002, 52546})
_LERC = 34887
# Codecs that take memory for the picture that a strip or tile says it holds; besides LERC, these
# are JPEG as of TIFF 6.0, JPEG XR, WebP as it was numbered first, and PNG.
_EMBEDDING = _IMAGE_CODECS | {_LERC, 6, 22610, 34927, 34933, 34934}
_JPEG2000, _JPEG_XR = b"\xff\x4f\xff\x51", b"WMPHOTO\0"
_LERC2, _ZSTD = b"Lerc2 ", b"\x28\xb5\x2f\xfd"
_HEAD_BYTES = 42

# What tifffile would tell of files that are rejected, or read in spite of it, is not for users.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Layout:
    """How the samples of a page become channels.

    Parameters
    ----------
    kind : ``grey``, ``white_is_zero``, ``rgb``, ``palette``, or ``pillow`` for colour spaces
        that Pillow converts.
    channels : 1, 3 or 4, of the result.
    dtype : of the result.
    bits : of a sample.
    alpha : index of the alpha sample, or None.
    premultiplied : colours are multiplied by alpha.
    """

    kind: str
    channels: int
    dtype: str
    bits: int
    alpha: int | None = None
    premultiplied: bool = False


@contextmanager
def first_page(file: BinaryIO) -> Iterator[tuple[Any, Any]]:
    """The open TIFF and its first page; faults of either as `ImageError`.

    Raises
    ------
    ImageError : the directory is damaged or lies behind the end of the file.
    """
    import tifffile

    try:
        with tifffile.TiffFile(file) as tiff:
            yield tiff, tiff.pages.first
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # tifffile and codecs fail in ways of their own on broken bytes
        raise ImageError.corrupt("TIFF", error) from error


@contextmanager
def whole_page(file: BinaryIO, size_bytes: int) -> Iterator[tuple[Any, Any]]:
    """`first_page`, of which every entry of the directory could be read.

    Raises
    ------
    ImageError : as of `first_page`; truncated.
    """
    codes = _require_directory(file, size_bytes)
    with first_page(file) as (tiff, page):
        _require_entries(page, codes)
        yield tiff, page


def mask_of(tiff: Any, page: Any) -> Any | None:
    """The page that masks another, 0 where this has no data (TIFF 6.0, section 8); None: none."""
    size = (page.imagelength, page.imagewidth)
    pages = (tiff.pages[number] for number in range(1, len(tiff.pages)))
    masks = (one for one in pages if one.is_mask and not one.is_reduced)
    return next((one for one in masks if (one.imagelength, one.imagewidth) == size), None)


def probe_tiff(file: BinaryIO, size_bytes: int) -> Header:
    """Read the directory of a TIFF's first page and count its pages.

    Raises
    ------
    ImageError : truncated, corrupt, channels, dtype or unsupported.
    """
    with whole_page(file, size_bytes) as (tiff, page):
        layout = layout_of(page)
        require_one_picture(tiff, layout)
        n_pages = len(tiff.pages)
        orientation = _orientation(page)
        require_segments(page, size_bytes)
        if layout.kind == "pillow":
            return _probe_with_pillow(file, n_pages)
        return Header(
            width=page.imagewidth,
            height=page.imagelength,
            channels=layout.channels,
            dtype=layout.dtype,
            decoder="tifffile",
            windowed=readable_by_row(page) or _segment_pixels(page) <= SEGMENT_PIXELS,
            pages=n_pages,
            orientation=orientation,
            profile=state_of(
                bytes(page.iccprofile or b""), "L" if layout.kind in GREY_KINDS else "RGB"
            ),
        )


def readable_by_row(page: Any) -> bool:
    """Whether samples lie in the file row by row as they are, so that any window can be read."""
    return bool(page.is_contiguous) and page.fillorder == 1


def may_be_short(page: Any) -> bool:
    """Whether the last strip may be stated longer than it is, as it often is if uncompressed."""
    return int(page.compression) == 1 and not page.is_tiled


def _segment_width(page: Any) -> int:
    return int(page.tilewidth if page.is_tiled else page.imagewidth)


def _probe_with_pillow(file: BinaryIO, n_pages: int) -> Header:
    from kmdist.images.reading.pillow_images import probe_picture

    file.seek(0)
    # Pillow applies the orientation of a TIFF itself, in its size and when it decodes.
    return replace(probe_picture(file, "tiff"), pages=n_pages, orientation=1)


def layout_of(page: Any) -> Layout:
    """How samples become channels (TIFF 6.0, sections 3 to 6, 16 to 18 and 21).

    Raises
    ------
    ImageError : channels, dtype or unsupported.
    """
    if page.shaped[1] != 1:
        raise ImageError("unsupported", f"a TIFF volume of {page.shaped[1]} planes in one page")
    if page.imagewidth < 1 or page.imagelength < 1:
        raise ImageError("corrupt", f"corrupt TIFF: {page.imagewidth} × {page.imagelength} px")
    photometric, samples = int(page.photometric), int(page.samplesperpixel)
    if photometric in _RAW:
        raise ImageError("unsupported", "camera raw data: develop it first")
    if photometric in (_SEPARATED, _YCBCR) and int(page.compression) not in _IMAGE_CODECS:
        return Layout("pillow", 3, "uint8", 8)
    if page.dtype is None or not isinstance(page.bitspersample, int):
        raise ImageError("dtype", f"TIFF samples of {page.bitspersample} bits")
    dtype = decoded_dtype(page.dtype, "TIFF")
    if photometric == _PALETTE:
        if samples != 1 or page.colormap is None:
            raise ImageError("channels", f"palette TIFF with {samples} samples or no palette")
        return Layout("palette", 3, "uint8", page.bitspersample)
    colours = 1 if photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) else 3
    if photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR):
        raise ImageError("unsupported", f"TIFF colours of kind {photometric}: convert it to RGB")
    extras = [int(extra) for extra in page.extrasamples]
    if colours == 1 and samples == 3 and not any(extras):
        colours = 3  # three channels that nobody marked as RGB, as microscopes write them
    return _with_alpha(colours, samples, extras, photometric == _WHITE_IS_ZERO, dtype, page)


def _with_alpha(
    colours: int, samples: int, extras: list[int], inverted: bool, dtype: str, page: Any
) -> Layout:
    unspecified, premultiplied = 0, 1
    extra = samples - colours
    # A fourth sample that nothing describes is alpha to Pillow too; one marked "unspecified" is
    # padding.
    role = extras[-1] if extras else 2
    if extra not in (0, 1) or (colours == 1 and extra and role == unspecified):
        raise ImageError("channels", f"{samples} channels; 1, 3 or 4 are allowed; {SEGMENT}")
    kind = "rgb" if colours == 3 else "white_is_zero" if inverted else "grey"
    if not extra or role == unspecified:
        return Layout(kind, colours, dtype, page.bitspersample)
    return Layout(kind, 4, dtype, page.bitspersample, colours, role == premultiplied)


def channel_names(tiff: Any) -> Sequence[str]:
    """Names of channels that OME-TIFF, ImageJ or GDAL give."""
    if tiff.is_ome:
        from xml.etree import ElementTree

        root = ElementTree.fromstring(tiff.ome_metadata)
        pixels = root.find(".//{*}Pixels")
        found = [] if pixels is None else [c.get("Name") for c in pixels.findall("{*}Channel")]
        return [name for name in found if name]
    if tiff.is_imagej:
        labels = (tiff.imagej_metadata or {}).get("Labels") or []
        return [str(label) for label in labels]
    return ()


def require_one_picture(tiff: Any, layout: Layout) -> None:
    """Refuse channels that are pages of their own, and a fourth sample that is named otherwise.

    Raises
    ------
    ImageError : channels.
    """
    if not (tiff.is_ome or tiff.is_imagej or tiff.is_shaped):
        return
    series = tiff.series[0]
    sizes = dict(zip(series.axes, series.shape, strict=True))
    planes = [axis for axis, size in sizes.items() if axis not in "YXSC" and size > 1]
    if len(series.pages) == 1 and planes:
        raise ImageError("unsupported", f"axes {series.axes}: no picture of colours; {SEGMENT}")
    if len(series.pages) > 1 and sizes.get("C", 1) > 1:
        raise ImageError("channels", f"{sizes['C']} channels, each a page of its own; {SEGMENT}")
    if layout.channels == 4:
        require_picture(4, channel_names(tiff))


def _orientation(page: Any) -> int:
    tag = page.tags.get(_ORIENTATION_TAG)
    value = tag.value if tag is not None else 1
    return int(value) if isinstance(value, int) and 1 <= value <= 8 else 1


def _require_directory(file: BinaryIO, size_bytes: int) -> frozenset[int]:
    """Codes of the first directory's entries, all of whose values lie inside the file.

    Many writers put the directory last, or values behind it, where a cut-off file lacks them;
    tifffile goes on without an entry that it cannot read, and takes what it said for its default.

    Raises
    ------
    ImageError : truncated.
    """
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    count, entry, inline = ("Q", "HHQQ", 8) if big else ("H", "HHII", 4)
    layout = struct.Struct(order + entry)
    try:
        (offset,) = struct.unpack_from(order + entry[-1], head, 8 if big else 4)
        file.seek(min(offset, size_bytes))
        (n_entries,) = struct.unpack(order + count, file.read(struct.calcsize(order + count)))
        table = file.read(min(n_entries * layout.size, size_bytes))
        entries = [layout.unpack_from(table, i * layout.size) for i in range(n_entries)]
    except (struct.error, OverflowError) as error:
        raise ImageError(
            "truncated", f"truncated TIFF: its directory is not within its {size_bytes:,} bytes"
        ) from error
    finally:
        file.seek(0)
    for code, kind, n_values, place in entries:
        n_bytes = n_values * _TYPE_BYTES.get(kind, 0)
        if n_bytes > inline and place + n_bytes > size_bytes:
            raise ImageError(
                "truncated",
                f"truncated TIFF: the value of tag {code} ends at byte {place + n_bytes:,} of "
                f"{size_bytes:,}",
            )
    return frozenset(code for code, *_ in entries)


def _require_entries(page: Any, codes: frozenset[int]) -> None:
    """Every entry of the directory could be read."""
    unread = codes - {tag.code for tag in page.tags}
    if unread:
        raise ImageError("corrupt", f"corrupt TIFF: tag {min(unread)} cannot be read")


def require_segments(page: Any, size_bytes: int) -> None:
    """Every strip or tile that the size asks for is listed, and lies inside the file.

    It also keeps a damaged header from asking for memory: the tables must be as long as the size
    it states needs, and large tiles no larger than the picture.
    """
    if page.is_tiled:
        tile = page.tiledepth * page.tilelength * page.tilewidth
        across, down = (-(-n // 16) * 16 for n in (page.imagewidth, page.imagelength))
        if tile > max(SEGMENT_PIXELS, across * down):
            raise ImageError(
                "corrupt",
                f"corrupt TIFF: tiles of {page.tilewidth:,} × {page.tilelength:,} px for a picture "
                f"of {page.imagewidth:,} × {page.imagelength:,} px",
            )
    n_needed = math.prod(page.chunked)
    n_listed = min(len(page.dataoffsets), len(page.databytecounts))
    if readable_by_row(page):
        end = page.dataoffsets[0] + page.nbytes if n_listed else 0
    elif n_listed < n_needed:
        raise ImageError(
            "corrupt",
            f"corrupt TIFF: {page.imagewidth:,} × {page.imagelength:,} px need {n_needed:,} "
            f"strips or tiles, {n_listed:,} are listed",
        )
    else:
        whole = not may_be_short(page)
        pairs = zip(page.dataoffsets, page.databytecounts, strict=False)
        end = max(start + (n if whole else min(n, 1)) for start, n in pairs)
    if end > size_bytes:
        raise ImageError("truncated", f"truncated TIFF: {size_bytes:,} of {end:,} bytes")


def read_tiff(source: ImageSource, window: Window) -> Pixels:
    """Decode a window of the first page.

    Memory: the window, and one strip or tile at a time, at most `tiff.SEGMENT_PIXELS` px where
    the source is `windowed`.

    Parameters
    ----------
    window : after orientation.

    Returns
    -------
    (y, x, c), c = 1 (grey), 3 (RGB) or 4 (RGBA).

    Raises
    ------
    ImageError : truncated, corrupt, or as `open_regular`.
    """
    with open_regular(source.path) as file, first_page(file) as (tiff, page):
        layout = layout_of(page)
        place = stored_window(window, page.imagelength, page.imagewidth, source.orientation)
        samples = read_samples(tiff, page, place)
        pixels = _to_channels(page, samples, layout)
        if source.profile == "converted":
            pixels = to_srgb(pixels, bytes(page.iccprofile))
        return orient(pixels, source.orientation)


def read_samples(tiff: Any, page: Any, place: Window) -> Pixels:
    """(y, x, sample) of a window of a page, as stored, whatever the samples stand for."""
    if readable_by_row(page):
        return _read_rows(tiff, page, place)
    return _read_segments(tiff, page, place)


def _read_rows(tiff: Any, page: Any, place: Window) -> Pixels:
    """Uncompressed samples that lie row by row: read the rows, or the parts of rows."""
    planes, _, height, width, contiguous = page.shaped
    dtype = np.dtype(tiff.byteorder + page.dtype.char)
    pixel_bytes = dtype.itemsize * contiguous
    out = np.empty((planes, place.height, place.width, contiguous), dtype)
    buffer = out.reshape(-1).view(np.uint8).data
    whole_rows = place.width == width
    run_bytes = place.width * pixel_bytes * (place.height if whole_rows else 1)
    position = 0
    for plane in range(planes):
        for y in range(place.y0, place.y1, place.height if whole_rows else 1):
            first = (plane * height + y) * width + place.x0
            tiff.filehandle.seek(page.dataoffsets[0] + first * pixel_bytes)
            if tiff.filehandle.readinto(buffer[position : position + run_bytes]) != run_bytes:
                raise ImageError("truncated", f"truncated TIFF: it ends within row {y:,}")
            position += run_bytes
    return np.concatenate(out, axis=-1) if planes > 1 else out[0]


def _read_segments(tiff: Any, page: Any, place: Window) -> Pixels:
    """Decode the strips or tiles that a window touches, and take what lies inside it."""
    planes, _, height, width, contiguous = page.shaped
    down, across = (
        (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, width)
    )
    down = min(down, height) if not page.is_tiled else down
    out = np.empty((place.height, place.width, planes * contiguous), page.dtype)
    touched = list(_touched(planes, height, width, down, across, place))
    segment_bytes = 0
    if int(page.compression) == 1:  # as many as there are, whatever a tile's size claims
        listed = max(page.databytecounts[index] for index, *_ in touched)
        segment_bytes = min(down * across * contiguous * out.itemsize, listed, tiff.filehandle.size)
    buffer = np.empty(segment_bytes, np.uint8)
    for index, plane, y, x in touched:
        segment = _decode_segment(tiff, page, index, buffer)
        into = out[:, :, plane * contiguous : (plane + 1) * contiguous]
        top, left = max(y, place.y0), max(x, place.x0)
        bottom, right = min(y + down, place.y1), min(x + across, place.x1)
        target = into[top - place.y0 : bottom - place.y0, left - place.x0 : right - place.x0]
        if segment is None:  # a sparse file: nothing was ever written here
            target[...] = page.nodata
            continue
        found = segment[top - y : bottom - y, left - x : right - x]
        if found.shape != target.shape:
            raise ImageError("corrupt", f"corrupt TIFF: strip or tile {index} is too small")
        target[...] = found
    return out


def _touched(
    planes: int, height: int, width: int, down: int, across: int, place: Window
) -> Iterator[tuple[int, int, int, int]]:
    """Index, plane, first row and first column of the segments that a window touches."""
    n_down, n_across = -(-height // down), -(-width // across)
    for plane in range(planes):
        for row in range(place.y0 // down, -(-place.y1 // down)):
            for column in range(place.x0 // across, -(-place.x1 // across)):
                index = (plane * n_down + row) * n_across + column
                yield index, plane, row * down, column * across


def _decode_segment(tiff: Any, page: Any, index: int, buffer: np.ndarray) -> Pixels | None:
    """One strip or tile as (y, x, sample), or None where the file has none.

    Parameters
    ----------
    buffer : takes the bytes if they fit: memory that is new for each takes twice as long as to read
        what the system has at hand.
    """
    n_bytes = page.databytecounts[index]
    if not n_bytes:
        return None
    tiff.filehandle.seek(page.dataoffsets[index])
    if n_bytes <= buffer.size:
        data: Any = buffer[: tiff.filehandle.readinto(buffer[:n_bytes])].data
    else:
        data = tiff.filehandle.read(n_bytes)
    if len(data) < n_bytes and not may_be_short(page):
        raise ImageError("truncated", f"truncated TIFF: it ends within strip or tile {index:,}")
    if int(page.compression) == _LERC:
        data = _unpacked(data, page)
        if not data.startswith(_LERC2):  # the decoder of Lerc1, which no TIFF has, can kill
            raise ImageError("corrupt", f"corrupt TIFF: strip or tile {index:,} holds no Lerc2")
    if int(page.compression) in _EMBEDDING:
        _require_as_small(page, index, data)
    tables = {}
    if page.jpegtables is not None or page.jpegheader is not None:
        tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
    segment, _, _ = page.decode(data, index, **tables)
    result: Pixels = segment[0]
    return result


def _segment_pixels(page: Any) -> int:
    return int(page.chunks[-3 if page.axes.endswith("S") else -2]) * _segment_width(page)


def _unpacked(data: bytes, page: Any) -> bytes:
    """A LERC blob, deflated or in zstd frames as it may be, cut off where none is so long.

    The codec tells the packing by the first bytes, whatever the parameters of the page say.
    """
    most = 2 * _segment_pixels(page) * page.shaped[-1] * page.dtype.itemsize + EMBEDDED_PIXELS
    if data.startswith(_ZSTD):
        import zstandard

        reader = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True)
        pieces = iter(lambda: reader.read(EMBEDDED_PIXELS), b"")
        return b"".join(islice(pieces, -(-most // EMBEDDED_PIXELS)))
    if data.startswith(b"x"):  # a zlib header
        return zlib.decompressobj().decompress(data, most)
    return data


def _require_as_small(page: Any, index: int, data: bytes) -> None:
    """A picture within a strip or tile is no larger than that: codecs take memory as it says."""
    pixels = _embedded_pixels(data, page.shaped[-1])
    if pixels > max(_segment_pixels(page), EMBEDDED_PIXELS):
        across = _segment_width(page)
        raise ImageError(
            "corrupt",
            f"corrupt TIFF: strip or tile {index:,} of {across:,} × "
            f"{_segment_pixels(page) // across:,} px holds a picture of {pixels:,} px",
        )


def _embedded_pixels(data: bytes, samples: int) -> int:
    """Pixels of an encoded picture as its header says; 0 where it does not."""
    from kmdist.images.reading.pillow_images import open_picture, read_jpegxl, read_webp

    file, kind = BytesIO(data), detect(data[:SNIFFED_BYTES], "")
    if data.startswith(b"\xff\xd8"):
        return jpeg_pixels(data)
    try:
        if data.startswith(_LERC2):  # a blob a band, one after the other
            return sum(map(_lerc_values, _heads(data, _LERC2))) // samples
        if kind == "jpeg2000":
            return max(map(_jpeg2000_pixels, _heads(data, _JPEG2000)), default=0)
        if kind == "jpegxl":
            header = read_jpegxl(file)
            return header.width * header.height if header else 0
        if kind == "webp":
            webp = read_webp(file)
            return webp.width * webp.height
        if kind == "png":
            return math.prod(open_picture(file, kind).size)
        return max(map(_jpeg_xr_pixels, _heads(data, _JPEG_XR)), default=0)
    except Exception:  # whatever Pillow raises: the codec will say what is wrong
        return 0


def _heads(data: bytes, signature: bytes) -> Iterator[bytes]:
    """What begins with a signature: the one that counts may follow others within metadata."""
    place = data.find(signature)
    while place >= 0:
        yield data[place : place + _HEAD_BYTES].ljust(_HEAD_BYTES, b"\0")
        place = data.find(signature, place + 1)


def _lerc_values(head: bytes) -> int:
    """Rows × columns × depth of a LERC blob (Esri LERC; a depth since version 4 of Lerc2)."""
    (version,) = struct.unpack_from("<I", head, 6)
    first = 14 if version > 2 else 10  # a checksum since version 3
    return math.prod(struct.unpack_from("<III" if version > 3 else "<II", head, first))


def _jpeg2000_pixels(head: bytes) -> int:
    """Pixels as the SIZ segment says (ISO/IEC 15444-1, A.5.1); 0 where bytes only look like it."""
    length, _, right, bottom, left, top = struct.unpack_from(">HHIIII", head, 4)
    (channels,) = struct.unpack_from(">H", head, 40)
    return (right - left) * (bottom - top) if length == 38 + 3 * channels else 0


def _jpeg_xr_pixels(head: bytes) -> int:
    """Pixels as the image header says (ITU-T T.832, 8.3)."""
    width, height = struct.unpack_from(">HH" if head[10] & 0x80 else ">II", head, 12)
    return (width + 1) * (height + 1)


def _to_channels(page: Any, samples: Pixels, layout: Layout) -> Pixels:
    """(y, x, c) colours of (y, x, sample) as stored."""
    if layout.kind == "palette":
        table = np.asarray(page.colormap)
        if table.max(initial=0) > 255:  # as it should be; some writers store 8 bits
            table = table >> 8
        return np.ascontiguousarray(table.astype(np.uint8).T[samples[:, :, 0]])
    colours = _full_range(widen(samples), layout.bits)
    if layout.kind == "white_is_zero":
        top = 1 if colours.dtype.kind == "f" else np.iinfo(colours.dtype).max
        alpha = colours[:, :, 1:].copy()
        colours = np.concatenate([top - colours[:, :, :1], alpha], axis=2)
    if layout.channels == 4 and layout.alpha == 1:
        colours = colours[:, :, [0, 0, 0, 1]]
    if layout.premultiplied:
        colours = _divide_by_alpha(colours)
    return np.ascontiguousarray(colours[:, :, : layout.channels])


def _full_range(samples: Pixels, bits: int) -> Pixels:
    """Samples of 2 … 7 and 9 … 15 bits, spread over the type that holds them."""
    if samples.dtype.kind == "f" or bits in (1, 8, 16):
        return samples
    top, full = (1 << bits) - 1, int(np.iinfo(samples.dtype).max)
    wide = (samples.astype(np.uint32) * np.uint32(full) + np.uint32(top // 2)) // np.uint32(top)
    return wide.astype(samples.dtype)


def _divide_by_alpha(rgba: Pixels) -> Pixels:
    """Undo the multiplication by alpha; transparent pixels become black, as in Pillow."""
    colours, alpha = rgba[:, :, :3], rgba[:, :, 3:]
    if rgba.dtype.kind == "f":
        divided = np.divide(colours, alpha, where=alpha > 0, out=np.zeros_like(colours))
    else:
        full = np.uint32(np.iinfo(rgba.dtype).max)
        scaled = colours.astype(np.uint32) * full // np.maximum(alpha, 1)
        divided = np.where(alpha > 0, np.minimum(scaled, full), 0).astype(rgba.dtype)
    return np.concatenate([divided, alpha], axis=2)
