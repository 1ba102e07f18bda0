"""Options of `kmdist.predict`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar

from kmdist.job.options import JobOptions, KeepPixels
from kmdist.options import Option
from kmdist.recipes.digits.options import CELL, Polarity, classes_option


class PredictOptions(JobOptions, frozen=True, kw_only=True):
    """Label new images with the clusters of RUN, and write a new run.

    Each pixel of photographs gets the nearest colour or texture; of a run of digits, each image
    gets its cluster. RUN has one set of clusters: a shared one, or RUN.zarr/k8 of several k.
    INPUT is as for the command that wrote RUN; image files for a run of digits are brought to
    the size of its images.

    \b
    kmdist predict run.zarr new-photos/ -o new.zarr
    kmdist predict digits.zarr t10k-images-idx3-ubyte.gz -o test.zarr
    """

    OMITTED: ClassVar[tuple[str, ...]] = ("seed", "keep_pixels")

    cell: Annotated[tuple[int, int] | None, replace(CELL, help=f"Digits: {CELL.help}")] = None
    labels: Annotated[
        str | Path | None,
        classes_option(
            "Digits: true classes, to score by the maps of RUN: rows of the sheet, or a file."
        ),
    ] = None
    polarity: Annotated[
        Polarity, Option("Digits: light: light ink on dark paper; auto: as the images of RUN.")
    ] = "auto"
    keep_pixels: KeepPixels = "never"
