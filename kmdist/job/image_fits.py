"""Clusters that images share or that each has of its own, and what a run holds of a fit.

Tasks of images that have their own: one a block. An image larger than a block goes through the
passes of images that share clusters.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kmdist.engine.fits import FitOptions
from kmdist.engine.lloyd import State
from kmdist.engine.passes import usable_cores
from kmdist.errors import KmdistError, quantity, shown
from kmdist.images import Piece, Rejection
from kmdist.job.block_pass import BlockPass, Stage
from kmdist.job.job import Job
from kmdist.job.label_maps import WRITE, KeptLabels, Layer, label_blocks, open_sink, tiles_of
from kmdist.job.memory import NOTHING, Held
from kmdist.job.progress import Message
from kmdist.job.work import Work, each_piece
from kmdist.store import RunWriter, unclustered_value

Arrays = Mapping[str, tuple[np.ndarray, tuple[str, ...]]]
"""By name: values, and the names of their dimensions."""
_COMMON: Mapping[str, tuple[str, ...]] = {
    "palette": ("cluster", "channel"),
    "counts": ("cluster",),
    "history": ("iteration", "quantity"),
}
"""Dimensions of what every fit of pixels has beside what its model is made of."""


@dataclass(frozen=True)
class WantedClusters:
    """Which clusters a job is asked for.

    Parameters
    ----------
    ks : numbers of clusters, ascending; one entry of 0 where k is to be found.
    choices : numbers of clusters of which one is chosen; or empty.
    min_region : pixels of the smallest region of a label map; 0: any.
    """

    ks: tuple[int, ...]
    choices: tuple[int, ...]
    min_region: int = field(default=0, kw_only=True)

    @property
    def at_most(self) -> tuple[int, ...]:
        """`ks`, and where k is to be found the largest that it may be."""
        return tuple(k or max(self.choices) for k in self.ks)

    def prefix(self, k: int) -> str:
        """Group of the fit for `k`: the root for a single one, ``kN`` for several."""
        return f"k{k}" if len(self.ks) > 1 else ""


def choose_k(
    rows: np.ndarray,
    choices: Sequence[int],
    fit: FitOptions,
    on_state: Callable[[State], None] | None = None,
) -> tuple[int, dict[str, Any]]:
    """The best of some numbers of clusters by label-free scores, and what a record says of it."""
    from kmdist.estimators.selection import select_k

    selection = select_k(
        rows,
        choices,
        max_iter=fit.max_iter,
        tol=fit.tol,
        random_state=fit.seed,
        on_state=on_state,
    )
    scores = [{n: v for n, v in vars(row).items() if n != "state"} for row in selection.table]
    return selection.k, {"k": selection.k, "reason": selection.reason, "scores": scores}


@dataclass(frozen=True)
class FitResult:
    """What a run holds of one k: its arrays, and what its record says.

    Parameters
    ----------
    arrays : what labels new images, ``centroids`` (k, d) among them, and what the recipe stores
        besides.
    palette : (k, 3) uint8 sRGB; (k, 4) with alpha.
    counts : (k,) int64 pixels, or positions.
    history : (iterations, 3) float64: inertia, shift, empty clusters repaired.
    space : of the centroids.
    warning : None, or what the user should be told. selection : how k was chosen, or None.
    further : what the record says besides.
    """

    arrays: Arrays
    palette: np.ndarray
    counts: np.ndarray
    history: np.ndarray
    space: str
    inertia: float
    n_iter: int
    stop_reason: str | None
    warning: str | None = None
    selection: Mapping[str, Any] | None = None
    further: Mapping[str, Any] = field(default_factory=dict)

    @property
    def k(self) -> int:
        """Number of clusters."""
        return len(self.palette)

    def write(self, writer: Any, key: str) -> None:
        """Write the arrays into a group of the run; empty for the root."""
        common = {name: (getattr(self, name), axes) for name, axes in _COMMON.items()}
        for name, (values, axes) in {**self.arrays, **common}.items():
            writer.write_array(f"{key}/{name}" if key else name, values, axes)

    def record(self) -> dict[str, Any]:
        """What the run's record says."""
        return {
            "k": self.k,
            "space": self.space,
            "inertia": self.inertia,
            "n_iter": self.n_iter,
            "stop_reason": self.stop_reason,
            "warning": self.warning,
            "selection": self.selection,
            **self.further,
        }


def write_predicted(
    job: Job, arrays: Arrays, palette: np.ndarray, totals: tuple[np.ndarray, float], **further: Any
) -> dict[str, Any]:
    """Write what a run holds whose images were labelled with the clusters of another.

    Parameters
    ----------
    arrays, palette : as of `FitResult`.
    totals : (k,) int64 counts, and the inertia of all pixels.
    further : what the record says besides, ``space`` at least.

    Returns
    -------
    dict : what the run's record says.

    Raises
    ------
    NoUsableImageError : no pixel has a label.
    """
    counts, inertia = totals
    if not counts.any():
        raise job.no_pixel("labelled")
    history, space = np.array([[inertia, 0.0, 0.0]]), further.pop("space")
    fit = FitResult(
        arrays, palette, counts, history, space, inertia, 0, "predicted", further=further
    )
    fit.write(job.writer, "")
    return fit.record()


@dataclass
class SharedFit(ABC):
    """Images that share clusters: the whole collection, or one image larger than a block.

    Parameters
    ----------
    work : the blocks of these images.
    keep : what can be kept on the workers between the passes is kept.
    label : label maps are written.
    name : tells the manifests of several groups of images apart.
    at_image : it is one image, in whose group the arrays lie.
    """

    job: Job
    wanted: Any
    work: Sequence[Work]
    keep: bool = False
    label: bool = True
    name: str = ""
    at_image: bool = False

    @abstractmethod
    def run(self) -> dict[int, dict[str, Any]]:
        """Fit, label and write; what the run's record says, by the k that was asked for."""

    @property
    def image(self) -> str:
        """Name of the first image; the only one where clusters are `at_image`."""
        return self.work[0].pieces[0].source.name

    @property
    def threads(self) -> int:
        """For a fit in this process, while the workers wait."""
        return self.job.options.workers or usable_cores()

    def usable(self) -> list[Work]:
        """The blocks without images that are left out."""
        left = (work.without(self.job.rejected) for work in self.work)
        return [work for work in left if work.pieces]

    def kept_labels(self, ks: Sequence[int]) -> KeptLabels | None:
        """Where a pass puts labels whose clusters are sorted when all are counted."""
        return KeptLabels(tuple(ks), self.job.writer) if self.label else None

    def say(self, fits: Mapping[int, FitResult]) -> None:
        """Say how each k was chosen, and what its fit warns of."""
        for fit in fits.values():
            if fit.selection and not self.at_image:
                self.job.watch(Message(str(fit.selection["reason"])))
            if fit.warning and not self.at_image:
                self.job.watch(Message(fit.warning, warning=True))

    def write(self, fits: Mapping[int, FitResult]) -> list[Layer]:
        """Write the arrays of every fit; the layers of their label maps.

        Raises
        ------
        KmdistError : the one image was left out meanwhile.
        """
        writer, layers = self.job.writer, []
        if self.at_image and self.image in self.job.rejected:
            raise KmdistError(f"{self.image}: {self.job.rejected[self.image].reason}")
        self.say(fits)
        for k, fit in fits.items():
            prefix = self.wanted.prefix(k)
            fit.write(writer, writer.image_group(self.image, prefix) if self.at_image else prefix)
            attributes = fit.record() if self.at_image else {}
            layers.append(Layer(prefix, fit.k, fit.palette, attributes))
        return layers

    def write_kept(
        self,
        fits: Mapping[int, FitResult],
        orders: Sequence[np.ndarray],
        items: Sequence[Work],
        marked: frozenset[str],
    ) -> dict[int, dict[str, Any]]:
        """Write every fit, and a pass that writes the labels that were kept, and the pyramids.

        Parameters
        ----------
        orders : for each fit the old label of each cluster.
        items : the blocks of the labelling pass.
        marked : images with pixels that are not clustered.

        Returns
        -------
        dict : what the run's record says, by the k that was asked for.
        """
        job, layers = self.job, self.write(fits)
        marked = marked - set(job.rejected)
        if self.label:
            shown = [item for one in items if (item := one.without(job.rejected)).pieces]
            sink = open_sink(job, shown, layers, marked, self.wanted.min_region)
            label_blocks(job, WRITE, shown, sink, tuple(orders), group=self.name)
        return {
            k: {**fit.record(), "unclustered": unclustered_value(fit.k, bool(marked))}
            for k, fit in fits.items()
        }


NAMED = 10
"""Images of which warnings are said one by one."""
Fits = Mapping[int, Mapping[str, Any]]
"""Attributes of one image's fits, by the number of clusters asked for."""
FittedImage = Iterator[tuple[int, FitResult, np.ndarray, np.ndarray | None]]
"""Of one image, for each number of clusters asked for: the fit, the label of each pixel (y, x), and
where (y, x) they have none, or None: nowhere."""


def fit_each(
    job: Job,
    stage: str,
    one: Callable[[Piece, Any, RunWriter], FittedImage],
    tiled: type[SharedFit],
    wanted: WantedClusters,
    blocks: Sequence[Work],
) -> dict[int, dict[str, Mapping[str, Any]]]:
    """Fit, label and write images one by one.

    Parameters
    ----------
    stage : name of the pass, for progress.
    one : fits and labels one whole image; called in tasks, with `wanted` and the run's writer, so
        that it must be a function of a module. It raises `ImageError` for an image that cannot be
        used.
    tiled : does the same on the driver for an image larger than a block. It raises `KmdistError`
        after rejecting the image where that cannot be used.
    wanted : what clusters are asked for.

    Returns
    -------
    dict : for each k that was asked for, attributes of the fits by image, in the order of names.

    Raises
    ------
    NoUsableImageError : no image has a pixel that can be clustered.
    """
    whole = [work for work in blocks if work.tile_of is None]
    prefixes = [wanted.prefix(k) for k in wanted.ks]
    each = BlockPass(job, each_stage(stage), prefixes=prefixes)
    fits = dict(each.run(whole, one, wanted, job.writer).fits)
    for name, tiles in tiles_of(blocks).items():
        try:
            fits[name] = tiled(job, wanted, tiles, name=f"-{tiles[0].index}", at_image=True).run()
        except KmdistError:
            if name not in job.rejected:
                raise
    if not fits:
        raise job.no_pixel("clustered")
    by_k = {k: {name: fits[name][k] for name in sorted(fits)} for k in wanted.ks}
    for of_k in by_k.values():
        say_choices(job, of_k)
    return by_k


def say_choices(job: Job, fits: Mapping[str, Mapping[str, Any]]) -> None:
    """Say once how k was chosen, and what fits warn of, those of the first images by name."""
    by_name = {name: fit["selection"] for name, fit in fits.items() if fit.get("selection")}
    chosen = list(by_name.values())
    if len(chosen) == 1:
        of_one = "".join(f"{shown(name)}: " for name in by_name) if len(fits) > 1 else ""
        job.watch(Message(f"{of_one}{chosen[0]['reason']}"))
    elif chosen:
        ks = Counter(one["k"] for one in chosen)
        (most, n), *others = ks.most_common(2)
        span = f"{min(ks)} to {max(ks)}" if others else f"{most}"
        if others and n > others[0][1]:
            span += f", most often {most} ({n:,} of {quantity(len(chosen), 'image')})"
        job.watch(Message(f"k by image: {span}"))
    warned = [f"{shown(name)}: {fit['warning']}" for name, fit in fits.items() if fit["warning"]]
    if len(warned) > NAMED:
        warned[NAMED:] = [f"… and {quantity(len(warned) - NAMED, 'more image')}"]
    for text in warned:
        job.watch(Message(text, warning=True))


@dataclass(frozen=True)
class Finished:
    """What a task says of its images.

    Parameters
    ----------
    fits : by image name.
    """

    fits: Mapping[str, Fits]
    rejected: tuple[Rejection, ...]

    @staticmethod
    def merge(parts: Sequence["Finished"]) -> "Finished":
        """What several tasks say."""
        fits = {name: fit for part in parts for name, fit in part.fits.items()}
        return Finished(fits, tuple(one for part in parts for one in part.rejected))


def each_stage(name: str, held: Held = NOTHING) -> Stage:
    """The stage that works on each whole image of a block."""
    return Stage(name, each_of_block, Finished.merge, _no_fits, noted=Finished, held=held)


def _no_fits(rejected: tuple[Rejection, ...]) -> Finished:
    return Finished({}, rejected)


def each_of_block(
    work: Work, one: Callable[[Piece, Any, RunWriter], FittedImage], wanted: Any, writer: RunWriter
) -> Finished:
    """Work on each image of a block, and write what its own fits are; a task."""

    def written(piece: Piece) -> tuple[str, Fits]:
        source, fits = piece.source, {}
        for k, fit, labels, unclustered in one(piece, wanted, writer):
            prefix = wanted.prefix(k)
            described = Layer(prefix, fit.k, fit.palette, fit.record()).described(source)
            marker = writer.write_labels(source.name, labels, unclustered=unclustered, **described)
            fit.write(writer, writer.image_group(source.name, prefix))
            fits[k] = {**fit.record(), "unclustered": marker}
        return source.name, fits

    found, rejected = each_piece(work.pieces, written)
    return Finished(dict(found), rejected)


def record_of_images(by_name: Mapping[str, Mapping[str, Any]], **further: Any) -> dict[str, Any]:
    """Attributes of a run of one k from those of its images.

    Parameters
    ----------
    further : attributes that are those of the run alone, or of all its images.
    """
    fits = list(by_name.values())
    reasons = {fit["stop_reason"] for fit in fits}
    markers = [fit["unclustered"] for fit in fits if fit["unclustered"] is not None]
    return {
        "k": max(fit["k"] for fit in fits),
        "space": fits[0]["space"],
        "inertia": float(sum(fit["inertia"] for fit in fits)),
        "n_iter": max(fit["n_iter"] for fit in fits),
        "stop_reason": "max_iter" if "max_iter" in reasons else min(reasons),
        "per_image": True,
        **further,
        "unclustered": max(markers, default=None),
    }
