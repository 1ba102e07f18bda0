"""TIFF headers: what the first page holds, and whether windows of it can be read."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from kmdist.errors import ImageError
from kmdist.images.pixels import decoded_dtype
from kmdist.images.source import Header

SEGMENT_PIXELS = 1 << 24
"""Strips and tiles up to this size are read by window: a window decodes all it touches."""

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _SEPARATED, _YCBCR = 0, 1, 2, 3, 5, 6
_RAW = (32803, 34892)
_ORIENTATION_TAG = 274
# Codecs that undo their own colour transform: what comes out of them is RGB.
_IMAGE_CODECS = frozenset({7, 33003, 33004, 33005, 33007, 34712, 34892, 50001, 50002, 52546})


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


def probe_tiff(file: BinaryIO, size_bytes: int) -> Header:
    """Read the directory of a TIFF's first page and count its pages.

    Raises
    ------
    ImageError : truncated, corrupt, channels, dtype or unsupported.
    """
    _require_directory(file, size_bytes)
    with first_page(file) as (tiff, page):
        layout = layout_of(page)
        n_pages = len(tiff.pages)
        orientation = _orientation(page)
        if layout.kind == "pillow":
            return _probe_with_pillow(file, n_pages)
        _require_segments(page, size_bytes)
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
        )


def readable_by_row(page: Any) -> bool:
    """Whether samples lie in the file row by row as they are, so that any window can be read."""
    return bool(page.is_contiguous) and page.fillorder == 1


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
        raise ImageError("channels", f"{samples} channels; 1, 3 or 4 are allowed")
    kind = "rgb" if colours == 3 else "white_is_zero" if inverted else "grey"
    if not extra or role == unspecified:
        return Layout(kind, colours, dtype, page.bitspersample)
    return Layout(kind, 4, dtype, page.bitspersample, colours, role == premultiplied)


def _orientation(page: Any) -> int:
    tag = page.tags.get(_ORIENTATION_TAG)
    value = tag.value if tag is not None else 1
    return int(value) if isinstance(value, int) and 1 <= value <= 8 else 1


def _require_directory(file: BinaryIO, size_bytes: int) -> None:
    """Many writers put the directory last, where a cut-off file lacks it."""
    head = file.read(16)
    file.seek(0)
    order = "little" if head[:2] == b"II" else "big"
    big = head[2:4] in (b"+\0", b"\0+")
    offset = int.from_bytes(head[8:16] if big else head[4:8], order)  # type: ignore[arg-type]
    if len(head) < 8 or offset >= size_bytes:
        raise ImageError(
            "truncated",
            f"truncated TIFF: its directory is said to be at byte {offset:,} of {size_bytes:,}",
        )


def _require_segments(page: Any, size_bytes: int) -> None:
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
        # The last strip of uncompressed files is often stated longer than it is.
        compressed = int(page.compression) != 1
        pairs = zip(page.dataoffsets, page.databytecounts, strict=False)
        end = max(start + (n if compressed else min(n, 1)) for start, n in pairs)
    if end > size_bytes:
        raise ImageError("truncated", f"truncated TIFF: {size_bytes:,} of {end:,} bytes")
