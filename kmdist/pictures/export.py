"""Export a run to files that any program opens: indexed PNG, palettes, GeoJSON, a table of cost."""

import csv
import io
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any
from unicodedata import normalize

import numpy as np

from kmdist.arguments import checked_arguments
from kmdist.engine.passes import ThreadPool, memory_limit_bytes, run_pass, usable_cores
from kmdist.errors import UsageError, shown
from kmdist.images import Window
from kmdist.images.color import hex_color
from kmdist.job.memory import DECODE_BYTES
from kmdist.job.progress import Event, Watcher
from kmdist.job.recipe import Original
from kmdist.job.reporter import watcher
from kmdist.pictures.dither import EDGE, Ditherer
from kmdist.pictures.options import ExportOptions, Sort
from kmdist.pictures.output_files import (
    check_folder,
    make_folder,
    refuse_originals,
    replacing,
    write_text,
    written_to,
)
from kmdist.pictures.palette_files import write_palette
from kmdist.pictures.png import PACKED_PIXELS, PACKING_BYTES, PngWriter
from kmdist.pictures.run_pictures import (
    BAND_PIXELS,
    BAND_ROWS,
    RunPicture,
    require_label_maps,
    try_original,
)
from kmdist.recipes.quantize.fidelity import Comparison, delta_e_step, psnr_db
from kmdist.recipes.registry import recipe_named
from kmdist.store import Run, RunImage, image_key
from kmdist.store.reader import interpreting, opened

TABLE_NAME = "table.csv"
RESERVED = ("palette", "palettes")
"""Stems of files and folders that an export writes itself."""
MAX_NAME_BYTES = 240
"""Of a file without its suffix: most file systems allow 255."""
_NOT_ON_WINDOWS = re.compile(
    r'[<>:"|?*\\\x00-\x1f]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.IGNORECASE
)
_BAND_BYTES = 24
"""A pixel of a band: labels, colours, mask, packed rows, compressed rows."""
_COMPARING_BYTES = 160 << 20


@dataclass(frozen=True)
class ExportedImage:
    """A row of the table.

    Parameters
    ----------
    k : colours; `folder` and `file` say where the picture is.
    bytes : of the PNG; `original_bytes` of the original file, None where it is gone.
    squared_error, n_values, ssim, delta_e : see `Comparison`; nothing compared where the original
        is gone, or colours only tell clusters apart.
    note : what was not as asked for, or empty.
    """

    image: str
    k: int
    file: str
    width: int
    height: int
    bytes: int
    original_bytes: int | None
    squared_error: int
    n_values: int
    ssim: float
    delta_e: float
    note: str

    @property
    def bits_per_pixel(self) -> float:
        """Of the PNG file."""
        return 8 * self.bytes / (self.width * self.height)

    @property
    def psnr_db(self) -> float:
        """Against the original; not a number where it is gone."""
        return psnr_db(self.squared_error, self.n_values)

    def row(self) -> dict[str, Any]:
        """Columns of the table by name; None where there is no figure."""
        original = self.original_bytes
        return {
            "image": shown(self.image),
            "k": self.k,
            "file": shown(self.file),
            "width": self.width,
            "height": self.height,
            "bytes": self.bytes,
            "bits_per_pixel": round(self.bits_per_pixel, 4),
            "original_bytes": original,
            "share_of_original": None if original is None else round(self.bytes / original, 4),
            "psnr_db": None if math.isnan(self.psnr_db) else round(self.psnr_db, 3),
            "ssim": None if math.isnan(self.ssim) else round(self.ssim, 5),
            "delta_e": None if math.isnan(self.delta_e) else round(self.delta_e, 3),
            "note": shown(self.note),
        }


@checked_arguments
def export(
    run: Run | str | Path,
    folder: str | Path,
    *,
    dither: bool | float = False,
    sort: Sort = "share",
    polygons: bool = False,
    min_area: float = 0.0,
    overwrite: bool = False,
    workers: int | None = None,
    watch: Watcher | None = None,
    progress: bool | None = None,
) -> list[ExportedImage]:
    """Write every image of a run recoloured, the palettes, and a table.

    Files: a PNG for each image, in the folders and of the names of the images, ``palette.json``,
    ``.gpl``, ``.css``, ``.ase``, ``.aco``, ``.png`` (below ``palettes/`` where each image has its
    own) and ``table.csv``, and what the recipe gives besides (of `segment` GeoTIFF and
    ``clusters.csv``); of a run of several k in a folder ``kN`` each. Names that had to be changed
    are in the table.

    Parameters
    ----------
    folder : to write to, or its URL in an object store, to which all is uploaded in the end.
    dither : diffuse errors, as `kmdist.pictures.dither.Ditherer`, all or a share of them, 0 … 1,
        where the picture is smooth and would show bands, and less the nearer an edge; not with a
        palette that has alpha. Else every pixel has the colour of its label.
    sort : order of the colours in the files of the palette, by ``share``, ``hue`` or
        ``lightness``.
    polygons : write ``STEM.geojson`` besides, a polygon for each region of one cluster, in the
        reference system of the source; needs ``kmdist[geo]``.
    min_area : of the smallest polygon, in squared units of that system, or pixels.
    overwrite : write into a folder that is not empty.
    workers : threads; None: the usable cores, fewer where their memory does not suffice.
    watch : called with progress.
    progress : show it on standard error; None: on a terminal and in a notebook.

    Returns
    -------
    list : a row for each image and k, by k and name.

    Raises
    ------
    UsageError : the run has no label maps, `folder` is not empty or holds originals that would be
        overwritten, an option is not as it must be, or colours would be dithered that have alpha or
        only name clusters.
    KmdistError : the run's clusters have no colours, or a file cannot be written.
    """
    look = ExportOptions(dither=dither, sort=sort, polygons=polygons, min_area=min_area)
    run, watch = opened(run), watcher(watch, progress)
    require_label_maps(run, "export")
    if polygons:
        require_polygons(run)
    if dither and any(one.attributes.get("alpha") for one in [run, *run.runs.values()]):
        raise UsageError(f"--dither: the palette of {run.path} has alpha, which is not dithered")
    if dither and not recipe_named(run.recipe).colors_of_images:
        raise UsageError(
            f"--dither: the colours of {run.path} only tell clusters apart (recipe {run.recipe}); "
            "there is nothing to diffuse"
        )
    place = check_folder(folder, overwrite=overwrite)
    for name, one in _by_folder(run).items() if overwrite else ():
        _refuse_originals(one, f"{place}/{name}".rstrip("/"))
    with written_to(place) as inside, interpreting(run):
        rows = []
        for name, one in _by_folder(run).items():
            stage = f"export {name}".rstrip()
            rows += _export_one(one, inside / name, look, workers, watch, stage)
        write_text(inside / TABLE_NAME, table_csv(rows))
    return rows


def _by_folder(run: Run) -> dict[str, Run]:
    """Runs of one k by the folder that each is exported to, below the one that is given."""
    return {f"k{k}": one for k, one in run.runs.items()} or {"": run}


def _refuse_originals(run: Run, folder: str) -> None:
    stems, suffixes = file_stems(list(run.images)), recipe_named(run.recipe).exported
    places = (f"{folder}/{stem}{suffix}" for stem in stems.values() for suffix in suffixes)
    refuse_originals(places, (run.images[name].source for name in stems))


def table_csv(rows: Iterable[ExportedImage]) -> str:
    """The table as CSV, one line an image and k."""
    listed = [row.row() for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(listed[0]) if listed else ["image"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(listed)
    return text.getvalue()


def file_stems(names: Sequence[str]) -> dict[str, str]:
    """Paths without suffix for the pictures of a run, below the folder they are exported to.

    The folders and names of the images, but for what the file system cannot hold. Where two would
    be one file on some system (``a.jpg`` and ``A.png``), or one of the palette's, they keep their
    suffixes, and get a number where that is taken as well.
    """
    safe = {name: "/".join(map(_safe_part, name.split("/"))) for name in names}
    stems = {
        name: path[: len(path) - len(PurePosixPath(path).suffix)] for name, path in safe.items()
    }
    alike = Counter(map(_folded, stems.values()))
    folders = {_folded(str(one)) for path in safe.values() for one in PurePosixPath(path).parents}
    taken = {*RESERVED, *(folder.removesuffix(".png") for folder in folders)}
    taken |= {f"palettes/{stem}" for stem in alike}
    clear = {name for name in names if alike[key := _folded(stems[name])] == 1 and key not in taken}
    taken |= {_folded(stems[name]) for name in clear}
    for name in sorted(set(names) - clear):
        candidate, number = safe[name], 2
        while _folded(candidate) in taken:
            candidate, number = f"{safe[name]}-{number}", number + 1
        stems[name] = candidate
        taken.add(_folded(candidate))
    return stems


def _folded(path: str) -> str:
    """The same text for paths that some file system takes for one."""
    return normalize("NFC", path).casefold()


def _safe_part(part: str) -> str:
    """A part of a path as it is, or as a node name where the file system cannot hold it."""
    if part in ("", ".", ".."):
        return "_"
    held = "\0" not in part and len(os.fsencode(part)) <= MAX_NAME_BYTES
    return (
        part if held and not (os.name == "nt" and _NOT_ON_WINDOWS.search(part)) else image_key(part)
    )


def _export_one(
    run: Run,
    folder: Path,
    look: ExportOptions,
    workers: int | None,
    watch: Watcher,
    stage: str,
) -> list[ExportedImage]:
    names = list(run.images)
    stems = file_stems(names)
    for path in {folder, *((folder / stem).parent for stem in stems.values())}:
        make_folder(path)
    if run.palette is not None:
        own = folder / "palette"
        write_palette(own, run.path.name, run.palette, run.counts, look.sort)
    rows: list[ExportedImage | None] = [None] * len(names)
    n_done, mpx = 0, 0.0

    def done(position: int, row: ExportedImage) -> None:
        nonlocal n_done, mpx
        rows[position] = row
        n_done, mpx = n_done + 1, mpx + row.width * row.height / 1e6
        watch(Event(stage, n_done, len(names), mpx=mpx))

    threads = export_threads([run.images[name] for name in names], workers)
    with closing(ThreadPool(threads, memory_bytes=1)) as pool:
        run_pass(pool, _export_with_palette, names, run, stems, folder, look, on_done=done)
    recipe_named(run.recipe).export_further(run, folder, stems)
    for name in names if look.polygons else ():
        place, picture = folder / stems[name], RunPicture(run, run.images[name])
        path = place.with_name(f"{place.name}.geojson")
        write_polygons(path, picture, place.with_name(f"{place.name}.tif"), look.min_area)
    return [row for row in rows if row is not None]


def export_threads(images: Sequence[RunImage], workers: int | None) -> int:
    """Threads for which there is memory: each holds one original whole, and a band of it."""
    wanted = min(workers or usable_cores(), len(images)) or 1
    if wanted == 1:
        return 1
    largest = max(image.width * image.height for image in images)
    widest = max(image.width for image in images)
    band = max(BAND_PIXELS, BAND_ROWS * widest)
    each = largest * DECODE_BYTES + band * _BAND_BYTES + _COMPARING_BYTES
    each += min(largest, PACKED_PIXELS) * PACKING_BYTES
    return max(1, min(wanted, memory_limit_bytes() // each))


def _export_with_palette(
    name: str, run: Run, stems: Mapping[str, str], folder: Path, look: ExportOptions
) -> ExportedImage:
    """Write one image, and its palette where it has its own; a task."""
    stem, picture = stems[name], RunPicture(run, run.images[name])
    if picture.has_own_palette:
        own = folder / "palettes" / stem
        make_folder(own.parent)
        write_palette(own, name, picture.palette, picture.counts, look.sort)
    return export_image(picture, stem, folder, look)


def export_image(
    picture: RunPicture, stem: str, folder: Path, look: ExportOptions
) -> ExportedImage:
    """Write one image as ``STEM.png``, and nothing besides; compare it with its original."""
    image = picture.image
    original, note = try_original(picture)
    compared = original if recipe_named(picture.run.recipe).colors_of_images else None
    if original is None and look.dither:
        note += "; not dithered"
    if stem != image.name.removesuffix(PurePosixPath(image.name).suffix):
        note = "; ".join(filter(None, [note, f"is written as {stem}.png"]))
    comparison = Comparison(picture.palette, delta_e_step(image.height, image.width))
    path = folder / f"{stem}.png"
    with replacing(path) as file:
        writer = _png_writer(file, picture)
        ditherer = None
        if look.dither and original:
            ditherer = Ditherer(picture.palette, image.width, look.dither, EDGE)
        for window in picture.bands():
            writer.write_rows(_rows(picture, window, compared, ditherer, comparison))
        writer.close()
    return ExportedImage(
        image.name,
        picture.k,
        f"{stem}.png",
        image.width,
        image.height,
        path.stat().st_size,
        original.size_bytes if original else None,
        comparison.squared_error,
        comparison.n_values,
        comparison.means.ssim,
        comparison.means.delta_e,
        note,
    )


def _is_indexed(picture: RunPicture) -> bool:
    return len(picture.palette) + (picture.image.unclustered is not None) <= 256


def _png_writer(file: Any, picture: RunPicture) -> PngWriter:
    palette, width, height = picture.palette, picture.image.width, picture.image.height
    transparent = picture.image.unclustered is not None
    if not _is_indexed(picture):
        channels = 4 if transparent or picture.has_alpha else 3
        return PngWriter(file, width, height, channels=channels)
    if not transparent:
        return PngWriter(file, width, height, palette=palette)
    colors = np.concatenate([palette, np.zeros((1, palette.shape[1]), np.uint8)])
    if picture.has_alpha:
        return PngWriter(file, width, height, palette=colors)
    return PngWriter(file, width, height, palette=colors, transparent=len(palette))


def _rows(
    picture: RunPicture,
    window: Window,
    original: Original | None,
    ditherer: Ditherer | None,
    comparison: Comparison,
) -> np.ndarray:
    """Rows of the PNG, compared with the original on the way."""
    labels = picture.labels(window)
    nowhere = picture.unclustered(labels)
    if original is not None:
        wanted = original.rgb(window)
        if ditherer is not None:
            labels = ditherer(wanted, nowhere)
    index = labels if nowhere is None else np.where(nowhere, 0, labels)
    if original is not None:
        comparison.add(wanted, index, nowhere)
    if _is_indexed(picture):
        if nowhere is not None:
            index[nowhere] = len(picture.palette)
        return index.astype(np.uint8, copy=False)
    if nowhere is None or picture.has_alpha:
        return picture.recolored(labels)
    return np.dstack([picture.palette[index], np.where(nowhere, 0, 255).astype(np.uint8)])


def require_polygons(run: Run) -> None:
    """Refuse runs of which no polygons can be made, before anything is written.

    Raises
    ------
    UsageError : rasterio is not installed, or an image is a volume.
    """
    if find_spec("rasterio") is None:
        raise UsageError("--polygons needs rasterio: pip install 'kmdist[geo]'")
    first = run.fits[0]
    volumes = [name for name in first.images if first.images[name].planes]
    if volumes:
        raise UsageError(f"--polygons: {volumes[0]} is a volume; polygons are of pictures")


def write_polygons(path: Path, picture: RunPicture, placed: Path, min_area: float) -> None:
    """Write a polygon for each region of one cluster that hangs together by sides of pixels.

    Coordinates are those of the reference system of the source, which the member ``crs`` names
    (GeoJSON of 2008): RFC 7946 knows longitude and latitude alone, and moving corners of pixels
    there would leave gaps. Of images that lie nowhere they are columns and rows. Regions without
    data have no polygon.

    Parameters
    ----------
    placed : the label map as GeoTIFF; need not be there.
    min_area : of polygons that are written, in squared units of the reference system, or pixels.
    """
    import rasterio

    head: dict[str, Any] = {"type": "FeatureCollection", "name": path.stem}
    if placed.exists():
        with rasterio.open(placed) as raster:
            if raster.crs:
                code = raster.crs.to_epsg()
                name = f"urn:ogc:def:crs:EPSG::{code}" if code else raster.crs.to_wkt()
                head["crs"] = {"type": "name", "properties": {"name": name}}
            _write_features(
                path, head, _features(picture, rasterio.band(raster, 1), raster.transform), min_area
            )
        return
    whole = Window(0, 0, picture.image.height, picture.image.width)
    labels = picture.labels(whole)
    labels = labels.astype(np.int32) if labels.dtype == np.uint32 else labels
    _write_features(path, head, _features(picture, labels, rasterio.Affine.identity()), min_area)


def _features(picture: RunPicture, labels: Any, transform: Any) -> Iterator[dict[str, Any]]:
    """Polygons in the order of their first pixels, with cluster, colour and area."""
    from rasterio.features import shapes

    for geometry, value in shapes(labels, connectivity=4, transform=transform):
        cluster = int(value)
        if cluster < picture.k:
            color = hex_color(picture.palette[cluster])
            said = {"cluster": cluster, "color": color, "area": _area(geometry["coordinates"])}
            yield {"type": "Feature", "properties": said, "geometry": geometry}


def _area(rings: list[list[tuple[float, float]]]) -> float:
    """Of the first ring without the others, its holes (the surveyor's formula)."""
    areas = []
    for ring in rings:
        x, y = (np.array(ring) - ring[0]).T
        areas.append(abs(float(x[:-1] @ y[1:] - x[1:] @ y[:-1])) / 2)
    return areas[0] - sum(areas[1:])


def _write_features(
    path: Path, head: dict[str, Any], features: Iterator[dict[str, Any]], min_area: float
) -> None:
    large = (one for one in features if one["properties"]["area"] >= min_area)
    with replacing(path) as file:
        file.write(json.dumps(head)[:-1].encode() + b', "features": [')
        for number, feature in enumerate(large):
            file.write((b",\n" if number else b"\n") + json.dumps(feature).encode())
        file.write(b"\n]}\n")
