"""Windows of TIFF pages: reads only the rows, strips or tiles that a window touches."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from kmdist.errors import ImageError
from kmdist.images.blocks import Window
from kmdist.images.finding.files import open_regular
from kmdist.images.pixels import Pixels, orient, stored_window, widen
from kmdist.images.reading.srgb import to_srgb
from kmdist.images.reading.tiff import Layout, first_page, layout_of, may_be_short, readable_by_row
from kmdist.images.source import ImageSource


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
    for index, plane, y, x in _touched(planes, height, width, down, across, place):
        segment = _decode_segment(tiff, page, index)
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


def _decode_segment(tiff: Any, page: Any, index: int) -> Pixels | None:
    """One strip or tile as (y, x, sample), or None where the file has none."""
    n_bytes = page.databytecounts[index]
    if not n_bytes:
        return None
    tiff.filehandle.seek(page.dataoffsets[index])
    data = tiff.filehandle.read(n_bytes)
    if len(data) < n_bytes and not may_be_short(page):
        raise ImageError("truncated", f"truncated TIFF: it ends within strip or tile {index:,}")
    tables = {}
    if page.jpegtables is not None or page.jpegheader is not None:
        tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
    segment, _, _ = page.decode(data, index, **tables)
    result: Pixels = segment[0]
    return result


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
