"""TIFF headers: what the first page holds, and whether windows of it can be read."""

import logging
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from kmdist.errors import ImageError
from kmdist.images.pixels import decoded_dtype
from kmdist.images.reading.axes import SEGMENT, require_picture
from kmdist.images.reading.srgb import state_of
from kmdist.images.source import Header

SEGMENT_PIXELS = 1 << 24
"""Strips and tiles up to this size are read by window: a window decodes all it touches."""

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
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImageError("corrupt", f"corrupt TIFF: {said}") from error


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
        segment_pixels = page.chunks[-3 if page.axes.endswith("S") else -2] * _segment_width(page)
        return Header(
            width=page.imagewidth,
            height=page.imagelength,
            channels=layout.channels,
            dtype=layout.dtype,
            decoder="tifffile",
            windowed=readable_by_row(page) or segment_pixels <= SEGMENT_PIXELS,
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
    it states needs.
    """
    n_needed = 1
    for count in page.chunked:
        n_needed *= count
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
