"""Cut out the pixels of some clusters of an image: a face from its background."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kmdist.arguments import checked_arguments
from kmdist.errors import UsageError
from kmdist.images import Window
from kmdist.job.recipe import Original
from kmdist.pictures.export import file_stems
from kmdist.pictures.output_files import (
    check_folder,
    check_picture_path,
    make_folder,
    refuse_originals,
    replacing,
    written_to,
)
from kmdist.pictures.png import PngWriter
from kmdist.pictures.run_pictures import RunPicture, find_image, try_original
from kmdist.store import Run
from kmdist.store.reader import single_k


@dataclass(frozen=True)
class Cutout:
    """What was extracted.

    Parameters
    ----------
    clusters : the clusters that were kept, ascending.
    n_kept : pixels of them; `n_pixels` of the image.
    note : why cluster colours stand for the original's, or empty.
    """

    path: str | Path
    clusters: tuple[int, ...]
    n_kept: int
    n_pixels: int
    note: str = ""


@checked_arguments
def extract(
    run: Run | str | Path,
    image: str,
    output: str | Path,
    *,
    clusters: Sequence[int] = (),
    at: Sequence[tuple[int, int]] = (),
    mask: bool = False,
) -> Cutout:
    """Write the pixels of some clusters as an RGBA PNG, transparent elsewhere.

    Where colours have alpha, pixels keep theirs.

    Where the original is gone, its pixels are replaced by the colours of their clusters.

    Parameters
    ----------
    run : of one k.
    image : name in the run, or path of the photograph.
    output : a .png file, or its URL.
    clusters : to keep, 0 … k − 1.
    at : points (column, row) after EXIF orientation; the clusters there are kept as well.
    mask : write a grey picture instead: 255 where a pixel is kept, 0 elsewhere.

    Raises
    ------
    UsageError : no such image, cluster or point; nothing to keep; the point lies on a pixel that
        is not clustered; `output` is no .png or is the original.
    KmdistError : the file cannot be written.
    """
    run = single_k(run, "extract")
    picture = RunPicture(run, find_image(run, image))
    if picture.image.planes:
        raise UsageError(
            f"{picture.image.name} is a volume, and kmdist extract cuts pictures: take its labels "
            "with kmdist export, or open the run in napari"
        )
    place = check_picture_path(output, (".png",), not_over=picture.image.source)
    kept = chosen_clusters(picture, clusters, at)
    original, note = (None, "") if mask else try_original(picture)
    if note:
        note += "; the cutout shows the colours of its clusters instead"
    n_kept = 0
    width, height = picture.image.width, picture.image.height
    with written_to(place) as path, replacing(path) as file:
        writer = PngWriter(file, width, height, channels=1 if mask else 4)
        for window in picture.bands():
            labels = picture.labels(window)
            inside = _is_kept(picture, labels, kept)
            n_kept += int(inside.sum())
            alpha = np.where(inside, 255, 0).astype(np.uint8)
            writer.write_rows(alpha if mask else _cut(picture, window, labels, alpha, original))
        writer.close()
    return Cutout(place, kept, n_kept, width * height, note)


def extract_all(
    run: Run | str | Path, folder: str | Path, clusters: Sequence[int], *, mask: bool = False
) -> list[Cutout]:
    """Write the pixels of some clusters of every image of a run, ``STEM.png`` each.

    Parameters
    ----------
    run : of one k, whose images share their clusters.
    folder : or the URL of a prefix, made if need be; files of the same names in it are replaced.
    clusters, mask : as of `extract`.

    Raises
    ------
    UsageError : each image has clusters of its own, originals would be overwritten, or as of
        `extract`.
    KmdistError : a file cannot be written.
    """
    run = single_k(run, "extract")
    if run.attributes.get("per_image"):
        raise UsageError(
            f"{run.path}: each image has clusters of its own; give the name of one image"
        )
    place = check_folder(folder, overwrite=True)
    stems = file_stems(list(run.images))
    sources = (run.images[name].source for name in stems)
    refuse_originals((f"{place}/{stem}.png" for stem in stems.values()), sources)
    for path in (
        {(place / stem).parent for stem in stems.values()} if isinstance(place, Path) else ()
    ):
        make_folder(path)
    return [
        extract(run, name, f"{place}/{stem}.png", clusters=clusters, mask=mask)
        for name, stem in stems.items()
    ]


def chosen_clusters(
    picture: RunPicture, clusters: Sequence[int], points: Sequence[tuple[int, int]]
) -> tuple[int, ...]:
    """Clusters that are named, and those at points, ascending.

    Raises
    ------
    UsageError : none, or one that does not exist.
    """
    image, k = picture.image, picture.k
    chosen = set(clusters)
    for cluster in sorted(chosen):
        if not 0 <= cluster < k:
            raise UsageError(f"--clusters {cluster}: {image.name} has clusters 0 to {k - 1}")
    for x, y in points:
        if not (0 <= x < image.width and 0 <= y < image.height):
            raise UsageError(
                f"--at {x},{y}: outside {image.name}, whose columns are 0 to {image.width - 1} and "
                f"rows 0 to {image.height - 1} (--at is column,row)"
            )
        label = int(picture.labels(Window(y, x, y + 1, x + 1))[0, 0])
        if label == image.unclustered:
            raise UsageError(
                f"--at {x},{y}: this pixel of {image.name} is transparent, in no cluster"
            )
        chosen.add(label)
    if not chosen:
        raise UsageError("nothing to extract: give --clusters, such as 2,5, or --at COLUMN,ROW")
    return tuple(sorted(chosen))


def _is_kept(picture: RunPicture, labels: np.ndarray, clusters: Sequence[int]) -> np.ndarray:
    keep = np.zeros(picture.k + 1, bool)
    keep[list(clusters)] = True
    # The marker of unclustered pixels is no index: it becomes k, which is never kept.
    return keep[np.minimum(labels, picture.k)]


def _cut(
    picture: RunPicture,
    window: Window,
    labels: np.ndarray,
    alpha: np.ndarray,
    original: Original | None,
) -> np.ndarray:
    """RGBA rows; colours are black where they do not show, which compresses and hides nothing."""
    colors = picture.recolored(labels) if original is None else original.rgb(window)
    if colors.shape[2] == 3:
        colors = np.concatenate([colors, alpha[..., None]], axis=2)
    return np.where(alpha[..., None] == 0, np.uint8(0), colors)
