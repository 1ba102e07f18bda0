"""Files of any number of channels: TIFF, Zarr, NumPy; probed, and read by window as they are."""

import base64
import math
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from kmdist.errors import ImageError
from kmdist.images import Found, ImageSource, Piece, Window, decode, probe
from kmdist.images.finding.files import file_status, open_regular
from kmdist.images.reading.axes import Axes, axes_of, take_window
from kmdist.images.reading.integrity import silenced
from kmdist.images.reading.numpy_files import members_of, open_numpy
from kmdist.images.reading.tiff import (
    SEGMENT_PIXELS,
    channel_names,
    mask_of,
    read_samples,
    readable_by_row,
    require_segments,
    whole_page,
)
from kmdist.images.reading.zarr_images import ZarrPicture, grid_of, open_picture
from kmdist.job.work import read_piece
from kmdist.recipes.segment.bands import Scene, require_alike
from kmdist.recipes.segment.geo import is_gdal, mask_place, opened_raster, read_bands
from kmdist.recipes.segment.kernels import any_channel
from kmdist.recipes.segment.model import coordinates_dtype, with_coordinates
from kmdist.store import PIXELS, Grid
from kmdist.store.zarr_trees import open_guarded, require_stored, tree_status

PLAIN = Axes(0, 1, None)
"""Rows and columns of one channel."""
_PAGES = "pages"
"""An axis that a TIFF does not name: channels, or planes of a volume."""
_TIFF_AXES = {
    "Y": "y", "X": "x", "S": "c", "C": "c", "Z": "z", "T": "t", "Q": _PAGES, "I": _PAGES,
}  # fmt: skip
_ALPHA = (1, 2)
"""ExtraSamples of TIFF that are alpha: associated, unassociated (TIFF 6.0, section 18)."""
_GDAL_NODATA_TAG = 42113
NODATA_NAMES = ("_FillValue", "missing_value")
"""Attributes of an array whose value stands for no data."""


@dataclass(frozen=True)
class Asked:
    """What the options say of how files are read.

    Parameters
    ----------
    channels : by number from 1 or by name, ranges among them; empty: all.
    nodata : values that stand for no data in every file.
    bands : names of files that are bands of a scene, globs among them; empty: a file is a scene.
    coordinates : column and row are two further channels.
    strict : NaN is an error and not no data.
    volume : planes are one image.
    """

    channels: tuple[str, ...] = ()
    nodata: tuple[float, ...] = ()
    channel_axis: int | None = None
    z: int | None = None
    t: int | None = None
    bands: tuple[str, ...] = ()
    coordinates: bool = False
    strict: bool = False
    volume: bool = False

    def record(self) -> dict[str, Any]:
        """As the parameters of a run hold it."""
        return {
            one.name: list(value) if isinstance(value, tuple) else value
            for one in fields(self)
            if (value := getattr(self, one.name)) is not None
        }

    @staticmethod
    def of_record(parameters: Mapping[str, Any]) -> "Asked":
        """From the parameters of a run."""
        given: dict[str, Any] = {
            one.name: tuple(value) if isinstance(value, list) else value
            for one in fields(Asked)
            if (value := parameters.get(one.name)) is not None
        }
        return Asked(**{**given, "coordinates": bool(given.get("coordinates"))})


@dataclass(frozen=True)
class Raster(ImageSource):
    """An image of any channels.

    Parameters
    ----------
    picture : it is read as pictures are: red, green, blue, alpha, or grey.
    inside : path of the array within a Zarr node, name of the array in an .npz.
    axes : where the picture lies in the array.
    taken : channels that are clustered, by index. names : of these.
    nodata : values of any of these that stand for no data. alpha : channel that does where it is
        0, the one after the last where the file has a mask besides, or None.
    bands : the files of a scene of several.
    coordinates, strict : as of `Asked`.
    """

    picture: bool = False
    inside: str = ""
    axes: Axes = PLAIN
    taken: tuple[int, ...] = (0,)
    names: tuple[str, ...] = ("1",)
    nodata: tuple[float, ...] = ()
    alpha: int | None = None
    bands: tuple["Raster", ...] = ()
    coordinates: bool = False
    strict: bool = False


@dataclass(frozen=True)
class _Stored:
    """What a file says of its array."""

    kind: str
    shape: Sequence[int]
    dtype: np.dtype
    axes: Sequence[str | None]
    channel_names: Sequence[str] = ()
    nodata: tuple[float, ...] = ()
    alpha: int | None = None
    windowed: bool = True
    inside: str = ""
    status: tuple[int, int, int] = (-1, -1, -1)
    picture: ZarrPicture | None = None


def require_numbers(dtype: np.dtype) -> None:
    """Refuse values that cannot be clustered as they are.

    Raises
    ------
    ImageError : dtype.
    """
    wide = dtype.itemsize > (8 if dtype.kind == "f" else 4)
    if dtype.kind not in "uif" or wide:
        raise ImageError(
            "dtype",
            f"values of type {dtype}: integers of 8 to 32 bits and floating point of 16 to 64 are "
            "allowed",
        )


@dataclass(frozen=True)
class ProbeRaster:
    """Reads the header of one file, as the options ask; picklable.

    Raises
    ------
    ImageError : the file cannot be used.
    """

    asked: Asked

    @silenced()
    def __call__(self, found: Found, *, max_pixels: int) -> Raster:
        """Read a header."""
        raster = self._probe(found, max_pixels)
        raster = replace(raster, strict=self.asked.strict)
        if not self.asked.coordinates:
            return raster
        return replace(
            raster,
            coordinates=True,
            channels=raster.channels + 2,
            names=(*raster.names, "x", "y"),
            dtype=str(coordinates_dtype(raster.dtype)),
        )

    def _probe(self, found: Found, max_pixels: int) -> Raster:
        if isinstance(found, Scene):
            return self._scene(found, max_pixels)
        stored, volume = _stored(found.path, max_pixels), self.asked.volume
        if volume and (stored is None or stored.kind == "gdal"):
            raise ImageError("axes", "a picture, whose planes cannot be one volume")
        if stored is None:
            return self._picture(probe(found, max_pixels=max_pixels))
        require_numbers(stored.dtype)
        letters = ["z" if volume else "c"] * len(stored.axes)
        axes = axes_of(
            stored.shape,
            [b if a == _PAGES else a for a, b in zip(stored.axes, letters, strict=True)],
            channel_axis=self.asked.channel_axis,
            chosen={"z": self.asked.z, "t": self.asked.t},
            volume=volume,
        )
        height, width = stored.shape[axes.y], stored.shape[axes.x]
        planes = 0 if axes.z is None else stored.shape[axes.z]
        height *= max(planes, 1)
        if not stored.windowed and height * width > max_pixels:
            raise ImageError(
                "too_large",
                f"{width:,} × {height:,} px, more than the {max_pixels:,} allowed for an image "
                "read whole: raise --max-pixels, or store it in tiles",
            )
        n_channels = 1 if axes.c is None else stored.shape[axes.c]
        names = tuple(stored.channel_names)
        if len(names) != n_channels:
            names = tuple(str(number + 1) for number in range(n_channels))
        there = [i for i in range(n_channels) if i != stored.alpha]
        taken = chosen_channels(self.asked.channels, names, there)
        size_bytes, mtime_ns, ctime_ns = stored.status
        return Raster(
            name=found.name,
            path=found.path,
            width=width,
            height=height,
            channels=len(taken),
            dtype=str(stored.dtype.newbyteorder("=")),
            format=stored.kind,
            windowed=stored.windowed,
            size_bytes=size_bytes,
            mtime_ns=mtime_ns,
            ctime_ns=ctime_ns,
            decoder="raster",
            inside=stored.inside,
            axes=axes,
            taken=taken,
            names=tuple(names[i] for i in taken),
            nodata=(*stored.nodata, *self.asked.nodata),
            alpha=stored.alpha,
            grid=grid_of(stored.picture, axes) if stored.picture else _pixels_of(planes),
        )

    def _scene(self, scene: Scene, max_pixels: int) -> Raster:
        """Several files, a channel each."""
        single = ProbeRaster(replace(self.asked, channels=(), coordinates=False))
        bands = [
            single(Found(os.path.basename(path), path), max_pixels=max_pixels)
            for path in scene.bands
        ]
        require_alike(bands, scene.missing)
        names = [os.path.splitext(band.name)[0] for band in bands]
        taken = chosen_channels(self.asked.channels, names, range(len(names)))
        chosen = tuple(bands[index] for index in taken)
        return replace(
            bands[0],
            name=scene.name,
            channels=len(taken),
            dtype=str(np.result_type(*[np.dtype(band.dtype) for band in chosen])),
            format="bands",
            windowed=all(band.windowed for band in chosen),
            size_bytes=sum(band.size_bytes for band in bands),
            mtime_ns=max(band.mtime_ns for band in bands),
            axes=Axes(0, 1, 2, (), "the channels are files"),
            names=tuple(names[index] for index in taken),
            bands=chosen,
        )

    def _picture(self, source: ImageSource) -> Raster:
        """A picture of any other format, its colours as channels."""
        names = ("red", "green", "blue") if source.channels >= 3 else ("grey",)
        taken = chosen_channels(self.asked.channels, names, range(len(names)))
        return Raster(
            **{one.name: getattr(source, one.name) for one in fields(ImageSource)},
            picture=True,
            axes=Axes(0, 1, 2, (), "the channels are colours"),
            taken=taken,
            names=tuple(names[i] for i in taken),
            nodata=self.asked.nodata,
            alpha=3 if source.channels == 4 else None,
        )


def _pixels_of(planes: int) -> Grid:
    return Grid((1.0,) * 3, (0.0,) * 3, ("",) * 3, planes) if planes else PIXELS


def chosen_channels(
    asked: Sequence[str], names: Sequence[str], there: Sequence[int]
) -> tuple[int, ...]:
    """Indices of the channels that are asked for: by name, number from 1, or range of numbers.

    Raises
    ------
    ImageError : there is none of this name or number, or one is asked for twice.
    """
    if not there:
        raise ImageError("channels", "no channel to cluster")
    if not asked:
        return tuple(there)
    taken: list[int] = []
    for word in asked:
        low, dash, high = word.partition("-")
        if word in names:
            taken.append(names.index(word))
        elif word.isdecimal():
            taken.append(int(word) - 1)
        elif dash and low.isdecimal() and high.isdecimal():
            taken += range(int(low) - 1, int(high))
        else:
            raise ImageError("channels", f"no channel {word!r}; there are {', '.join(names[:20])}")
    for index in taken:
        if not 0 <= index < len(names):
            raise ImageError("channels", f"channel {index + 1}: there are 1 to {len(names)}")
    if len(set(taken)) < len(taken) or not taken:
        raise ImageError("channels", f"{','.join(asked)}: each channel once")
    return tuple(taken)


@silenced()
def read_raster(source: Raster, window: Window | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Values of a window in their own precision, and which pixels have data.

    Returns
    -------
    values : (h, w, c) of the chosen channels.
    valid : (h, w) bool.

    Raises
    ------
    ImageError : a file is damaged, or holds an infinite value.
    """
    window = window or Window(0, 0, source.height, source.width)
    values, valid = _values(source, window)
    if values.dtype.kind == "f":
        missing = _any_channel(values, np.nan)
        if source.strict and (missing & valid).any():
            raise ImageError("nan", "a value is NaN: without --strict it is no data")
        valid &= ~missing
        if any((_any_channel(values, sign * np.inf) & valid).any() for sign in (1, -1)):
            raise ImageError(
                "infinite", "a value is infinite: mark it with --nodata, or replace it by NaN"
            )
    if source.coordinates:
        values = with_coordinates(values, window.y0, window.x0)
        values[:, :, -1] %= source.plane_height
    return values, valid


def _values(source: Raster, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Values (h, w, c) as they are stored, and what is not marked as no data (h, w)."""
    if source.bands:
        parts = [read_piece(Piece(band, window), read_raster) for band in source.bands]
        values = np.concatenate([part for part, _ in parts], axis=2)
        return values, np.logical_and.reduce([there for _, there in parts])
    try:
        stored = _read(source, window)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # codecs and stores fail in ways of their own
        raise ImageError.corrupt(source.format, error) from error
    valid = np.ones(stored.shape[:2], bool)
    if source.alpha is not None:
        valid &= stored[:, :, source.alpha] != 0
    if source.taken != tuple(range(stored.shape[2])):
        stored = stored[:, :, list(source.taken)]
    values = np.ascontiguousarray(stored, stored.dtype.newbyteorder("="))
    for value in source.nodata:
        if _holds(values.dtype, value):
            valid &= ~_any_channel(values, values.dtype.type(value))
    return values, valid


def _any_channel(values: np.ndarray, wanted: float) -> np.ndarray:
    """(h, w) bool, whether any channel of a pixel has this value, or is NaN if it is."""
    half = values.dtype == np.float16  # which kernels do not know
    known = values.astype(np.float32) if half else values
    return np.asarray(any_channel(known, known.dtype.type(wanted)))


def _holds(dtype: np.dtype, value: float) -> bool:
    """Whether a type has values that a number stands for."""
    if dtype.kind == "f":
        return not math.isfinite(value) or abs(value) <= float(np.finfo(dtype).max)
    limits = np.iinfo(dtype)
    return float(value).is_integer() and limits.min <= value <= limits.max


def _stored(path: str, max_pixels: int) -> _Stored | None:
    """What a file of channels says; None of any other."""
    if os.path.isdir(path):
        return _stored_zarr(path, max_pixels)
    if is_gdal(path):
        return replace(_stored_gdal(path), status=file_status(path))
    suffix = os.path.splitext(path)[1].lower()
    with open_regular(path) as file:
        head = file.read(8)
        status = file_status(path)
        file.seek(0)
        if head[:6] == b"\x93NUMPY" or suffix == ".npz":
            return replace(_stored_numpy(path, suffix), status=status)
        if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return replace(_stored_tiff(file, status[0]), status=status)
    return None


def _stored_gdal(path: str) -> _Stored:
    with opened_raster(path) as raster:
        names = [name or str(i + 1) for i, name in enumerate(raster.descriptions)]
        nodata = () if raster.nodata is None else (float(raster.nodata),)
        alpha = mask_place(raster)
        if alpha == raster.count:
            names.append("mask")
        shape, axes = (raster.height, raster.width, len(names)), ("y", "x", "c")
        return _Stored("gdal", shape, np.result_type(*raster.dtypes), axes, names, nodata, alpha)


def _stored_tiff(file: Any, size_bytes: int) -> _Stored:
    with whole_page(file, size_bytes) as (tiff, page):
        _require_all_pages(tiff)
        series = tiff.series[0]
        require_segments(page, size_bytes)
        extras = [int(extra) for extra in page.extrasamples]
        alpha = None
        if extras and extras[-1] in _ALPHA:
            alpha = int(page.samplesperpixel) - 1
        names: Sequence[str] = channel_names(tiff)
        shape, letters = tuple(series.shape), list(series.axes)
        if len(series.pages) == 1:  # samples of one page: read by strip or tile
            planes, depth, height, width, contiguous = page.shaped
            if depth != 1:
                raise ImageError("unsupported", f"a volume of {depth} planes in one page")
            planar = [letter for letter in letters if letter not in "YX" and planes > 1]
            shape = (height, width, planes * contiguous)
            letters = ["Y", "X", planar[0] if planar else "S"]
        if len(series.pages) == 1 and alpha is None and mask_of(tiff, page) is not None:
            alpha = shape[2]
            shape = (*shape[:2], alpha + 1)
            names = [*names, "mask"]
        tall = page.chunks[-3 if page.axes.endswith("S") else -2]
        across = page.tilewidth if page.is_tiled else page.imagewidth
        return _Stored(
            "tiff",
            shape,
            np.dtype(page.dtype) if page.dtype is not None else np.dtype(object),
            [_TIFF_AXES.get(letter, letter) for letter in letters],
            names,
            _tiff_nodata(page),
            alpha,
            readable_by_row(page) or tall * across <= SEGMENT_PIXELS,
        )


def _require_all_pages(tiff: Any) -> None:
    """No page is lost, which may be a channel or a plane: the last says that none comes after it.

    Raises
    ------
    ImageError : truncated: where it says the next is, there is none.
    """
    if tiff.is_ndpi:  # whose places are of another kind
        return
    form, file, n_pages = tiff.tiff, tiff.filehandle, len(tiff.pages)
    file.seek(tiff.pages[n_pages - 1].offset)
    (n_tags,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
    file.seek(n_tags * form.tagsize, 1)
    (following,) = struct.unpack(form.offsetformat, file.read(form.offsetsize))
    if following:
        raise ImageError(
            "truncated", f"truncated TIFF: page {n_pages + 1} is said to be at byte {following:,}, "
            f"and the file has {n_pages} pages"
        )  # fmt: skip


def _tiff_nodata(page: Any) -> tuple[float, ...]:
    tag = page.tags.get(_GDAL_NODATA_TAG)
    try:
        return () if tag is None else (float(str(tag.value).strip("\0 ")),)
    except ValueError:
        return ()


def _stored_numpy(path: str, suffix: str) -> _Stored:
    inside = ""
    if suffix == ".npz":
        names = members_of(path)
        if len(names) != 1:
            raise ImageError(
                "unsupported",
                f"an .npz of {len(names)} arrays: one is needed ({', '.join(names[:10])})",
            )
        inside = names[0]
    array = open_numpy(path, inside)
    return _Stored(
        suffix[1:] or "npy",
        array.shape,
        array.dtype,
        [None] * array.ndim,
        windowed=suffix != ".npz",
        inside=inside,
    )


def _stored_zarr(path: str, max_pixels: int) -> _Stored:
    try:
        status = tree_status(path)
        picture = open_picture(path)
        array = picture.array
        require_stored(array, status.files, max_pixels * 4)
        nodata = _zarr_nodata(array)
    except ImageError:
        raise
    except Exception as error:  # damaged metadata fails in ways of its own
        raise ImageError.corrupt("Zarr", error) from error
    return _Stored(
        "zarr",
        array.shape,
        np.dtype(array.dtype),
        picture.axes,
        picture.channels,
        nodata,
        inside=picture.inside,
        status=(int(array.nbytes), status.mtime_ns, status.ctime_ns),
        picture=picture,
    )


def _zarr_nodata(array: Any) -> tuple[float, ...]:
    """What the attributes of CF say (https://cfconventions.org, 2.5.1), NaN aside.

    xarray writes floating point as base64 of its bytes; and into Zarr v2 as what fills chunks,
    where 0 is what is put by those who said nothing.
    """
    attributes = dict(array.attrs)
    said: list[Any] = []
    for name in NODATA_NAMES:
        value = attributes.get(name)
        said += value if isinstance(value, list) else [value]
    if array.metadata.zarr_format == 2 and "_ARRAY_DIMENSIONS" in attributes and array.fill_value:
        said.append(np.asarray(array.fill_value).item())
    numbers = [_of_base64(one) if isinstance(one, str) else one for one in said]
    return tuple(
        float(one)
        for one in numbers
        if isinstance(one, int | float) and not isinstance(one, bool) and not math.isnan(one)
    )


def _of_base64(text: str) -> float:
    """NaN where it is no number."""
    try:
        (number,) = struct.unpack("<d", base64.b64decode(text, validate=True))
    except (ValueError, struct.error):
        return math.nan
    return float(number)


def _read(source: Raster, window: Window) -> np.ndarray:
    """(h, w, c) of all channels as stored."""
    axes = source.axes
    if source.picture:
        return decode(source, window)
    if source.format == "tiff":
        with open_regular(source.path) as file, whole_page(file, source.size_bytes) as opened:
            tiff, page = opened
            if len(tiff.series[0].pages) == 1:
                samples = read_samples(tiff, page, window)
                if source.alpha == samples.shape[2]:
                    there = read_samples(tiff, mask_of(tiff, page), window)
                    samples = np.concatenate([samples, there.astype(samples.dtype)], axis=2)
                return take_window(samples, axes, Window(0, 0, *samples.shape[:2]))
            import zarr

            return take_window(zarr.open(tiff.series[0].aszarr(level=0), mode="r"), axes, window)
    if source.format == "gdal":
        return read_bands(source.path, window)
    if source.format == "zarr":
        return take_window(open_guarded(source.path, source.inside, source.ctime_ns), axes, window)
    return take_window(open_numpy(source.path, source.inside), axes, window).copy()
