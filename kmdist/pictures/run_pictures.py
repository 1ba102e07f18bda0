"""Images of a run as pictures are made of them: labels, colours and, while it exists, the original.

Everything is read band by band (`RunPicture.bands`), so that pictures are as large as they like.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np

from kmdist.errors import ImageError, KmdistError, UsageError
from kmdist.images import Window
from kmdist.job.recipe import Original
from kmdist.recipes.registry import recipe_named
from kmdist.store import Run, RunImage

MAX_ORIGINAL_PIXELS = 200_000_000
"""Larger originals are not read to be drawn a few hundred pixels wide."""
BAND_PIXELS = 4 << 20
BAND_ROWS = 1024
"""Bands are of whole chunks, so that none is read twice."""

T = TypeVar("T")


@dataclass(frozen=True)
class RunPicture:
    """One image of a run.

    Parameters
    ----------
    run : of one k.
    image : of the run.
    """

    run: Run
    image: RunImage

    @cached_property
    def has_own_palette(self) -> bool:
        """Whether the image was fitted on its own."""
        return self.image.palette is not None

    @cached_property
    def palette(self) -> np.ndarray:
        """(k, 3) uint8 sRGB, or (k, 4) with alpha; of the image where each has its own.

        Raises
        ------
        KmdistError : clusters of this run have no colours.
        """
        own = self.image.palette
        palette = self.run.palette if own is None else own
        if palette is None:
            raise KmdistError(
                f"{self.run.path}: its clusters have no colours (recipe {self.run.recipe}); "
                "pictures cannot be recoloured from it"
            )
        return palette

    @property
    def has_alpha(self) -> bool:
        """Whether its colours have alpha."""
        return self.palette.shape[1] == 4

    @cached_property
    def counts(self) -> np.ndarray:
        """(k,) int64 members of each cluster, in this image where each is fitted on its own."""
        own = self.image.counts
        counts = self.run.counts if own is None else own
        return np.zeros(len(self.palette), np.int64) if counts is None else counts

    @property
    def k(self) -> int:
        """Number of clusters."""
        return len(self.palette)

    def bands(self) -> Iterator[Window]:
        """Windows of the full width from top to bottom, of about `BAND_PIXELS`."""
        rows = max(BAND_PIXELS // (self.image.width * BAND_ROWS), 1) * BAND_ROWS
        for y in range(0, self.image.height, rows):
            yield Window(y, 0, min(y + rows, self.image.height), self.image.width)

    def labels(self, window: Window) -> np.ndarray:
        """Labels of a window, with the marker where pixels are not clustered."""
        part = slice(window.y0, window.y1), slice(window.x0, window.x1)
        return self.image.read_labels(0, part, k=len(self.palette))

    def unclustered(self, labels: np.ndarray) -> np.ndarray | None:
        """Where labels are no cluster; None where the image has no such pixels."""
        marker = self.image.unclustered
        return None if marker is None else labels == marker

    def recolored(self, labels: np.ndarray) -> np.ndarray:
        """(y, x, 3 or 4) uint8: each pixel in the colour of its cluster, 0 where it has none."""
        nowhere = self.unclustered(labels)
        if nowhere is None:
            return self.palette[labels]
        colored = self.palette[np.where(nowhere, 0, labels)]
        colored[nowhere] = 0
        return colored


def original_of(picture: RunPicture) -> Original:
    """The picture that an image was labelled from, as its recipe shows it.

    Raises
    ------
    ImageError : it is gone, has another size than the label map, or cannot be read.
    """
    return recipe_named(picture.run.recipe).original(picture.run, picture.image)


def try_original(picture: RunPicture) -> tuple[Original | None, str]:
    """The original, or None and the reason in a sentence."""
    try:
        return original_of(picture), ""
    except ImageError as error:
        return None, error.reason


def require_label_maps(run: Run, command: str) -> None:
    """Refuse runs of recipes whose images have no label maps.

    Raises
    ------
    UsageError : there are none, of this recipe.
    """
    if not recipe_named(run.recipe).exported:
        raise UsageError(
            f"{run.path}: images of {run.recipe} have no label maps, of which kmdist {command} "
            "makes pictures; kmdist view draws what there is"
        )


def find_image(run: Run, name: str) -> RunImage:
    """An image by its name in the run, or by the path of its file.

    Raises
    ------
    UsageError : the run has no such image; similar names are listed.
    """
    if name not in run.images and os.path.exists(name):
        wanted = Path(name).resolve()
        for candidate in run.images:
            if Path(candidate).name != wanted.name:
                continue
            if Path(run.images[candidate].source).resolve() == wanted:
                return run.images[candidate]
    return run.image(name)


def evenly(items: Sequence[T], limit: int) -> list[T]:
    """At most so many, spread evenly, the first and the last among them."""
    if len(items) <= limit:
        return list(items)
    return [items[round(i * (len(items) - 1) / (limit - 1))] for i in range(limit)]
