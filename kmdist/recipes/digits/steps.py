"""What a digits job does, pass by pass: its dry run and its budget of memory are made of this."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kmdist.engine.fits import FitOptions
from kmdist.engine.rows import kept_row_bytes
from kmdist.job.memory import Held, Outline, Step, row_pass
from kmdist.job.resumable_fit import ROWS, SEEDING_PASSES
from kmdist.recipes.digits.features import CELLS, DIRECTIONS, SIZE_PX
from kmdist.recipes.digits.fitting import DESCRIBE, LANDMARK_ITERATIONS
from kmdist.recipes.digits.labellers import MAX_CENTRES
from kmdist.recipes.digits.landmarks import landmark_count
from kmdist.recipes.digits.model import Preset
from kmdist.recipes.digits.opening import CHECK, Opened
from kmdist.recipes.digits.results import MEMBERS

ARRAY_BYTES = 20_000
"""Of all that a fit holds beside arrays that grow: metadata, partly filled disk blocks."""
STATE_BYTES = 3072
"""Of a checkpoint beside its arrays: names, headers, a line in the manifest."""
SOLVER_BYTES = 120_000_000
"""Of each process: SciPy, its solvers and their scratch."""
TIE_BYTES = 16
"""An entry of an affinity: value, column, and what a product of sparse matrices keeps apart."""
TIES_EACH = 20
"""Others that a landmark is tied to, for each neighbour a row has (MNIST: 10 to 15)."""
_MEMBERS_BYTES = 2 * MEMBERS * 8


@dataclass(frozen=True)
class Sizes:
    """Of a digits job: its images, its rows and what is fitted to them."""

    opened: Opened
    preset: Preset
    ks: Sequence[int]

    @property
    def pixels(self) -> int:
        """Of an image."""
        return self.opened.stack.height * self.opened.stack.width

    @property
    def features(self) -> int:
        """Of an image, of which components are found; 0: the pixels are the rows."""
        return DIRECTIONS * CELLS**2 if self.preset.components else 0

    @property
    def d(self) -> int:
        """Length of a row."""
        return self.preset.components or self.pixels

    @property
    def item_bytes(self) -> int:
        """Of a pixel."""
        return {"uint8": 1, "uint16": 2}.get(self.opened.blocks[0].source.dtype, 4)

    @property
    def row_bytes(self) -> int:
        """Of a row."""
        return (4 if self.preset.components else self.item_bytes) * self.d

    @property
    def shown(self) -> int:
        """Pixels of an image as clusters' means are made of."""
        return SIZE_PX**2 if self.preset.images == "normalise" else self.pixels

    @property
    def loading(self) -> float:
        """Bytes for each pixel of a block of which rows are made: images, features, the rows."""
        each = 2 * self.item_bytes * self.pixels + 8 * self.features + self.row_bytes
        return (each + 12 * max(self.pixels, self.shown)) / self.pixels

    @property
    def landmarks(self) -> int:
        """In each set; 0: plain k-means."""
        preset, k = self.preset, max(self.ks)
        if not preset.sets:
            return 0
        return landmark_count(self.opened.stack.n, k, preset.rows_each, preset.per_cluster)

    @property
    def tie_bytes(self) -> int:
        """Of the affinity of the landmarks of all sets, at most."""
        p, neighbours = self.preset.sets * self.landmarks, self.preset.sets * self.preset.neighbours
        return TIE_BYTES * min(
            p**2, self.opened.n_usable * neighbours**2, TIES_EACH * neighbours * p
        )

    @property
    def kept_bytes(self) -> int:
        """Of rows that are kept, their labels and bounds, and projections of them."""
        return int(self.opened.n_usable * kept_row_bytes(self.row_bytes))


def outline(sizes: Sizes, fit: FitOptions, *, keep: bool) -> Outline:
    """Passes, what is kept, checkpoints and results of a job that fits."""
    stack = sizes.opened.stack
    steps = [
        *first_steps(sizes, keep=keep),
        *row_steps(sizes, keep=keep),
        *fit_steps(sizes, fit, keep=keep),
        _rows("rank", sizes, keep=keep),
        label_step(sizes),
    ]
    pictures = 4 * max(sizes.pixels, sizes.shown)
    ks, d = sizes.ks, sizes.d
    fits = sum(4 * stack.n + k * (12 * d + pictures + _MEMBERS_BYTES) + ARRAY_BYTES for k in ks)
    names = len(ks) * sum(len(os.fsencode(one)) + 1 for one in (*stack.names, *stack.paths))
    results = fits + len(ks) * _model_bytes(sizes) + names
    return Outline(steps, "rows", sizes.kept_bytes * keep, _state_bytes(sizes, fit), results)


def relabel_outline(sizes: Sizes, *, keep: bool) -> Outline:
    """Of a job that changes clusters of a run: rows, a change, labels."""
    steps = [*row_steps(sizes, keep=keep), _rows("rank", sizes, keep=keep), label_step(sizes)]
    return Outline(steps, "rows", sizes.kept_bytes * keep)


def predict_outline(sizes: Sizes) -> Outline:
    """Of a job that labels with the clusters of a run."""
    return Outline([*check_steps(sizes), label_step(sizes)])


def check_steps(sizes: Sizes) -> list[Step]:
    """A pass that finds damaged files, where images are files."""
    return [CHECK.step(sizes.opened.blocks)] if sizes.opened.stack.names else []


def first_steps(sizes: Sizes, *, keep: bool) -> list[Step]:
    """What is known of all images before there are rows; see `kmdist.recipes.digits.fitting`."""
    if sizes.features:
        task = 3 * 8 * sizes.features**2
        return [DESCRIBE.step(sizes.opened.blocks, _solving(block=sizes.loading, task=task))]
    return check_steps(sizes) if keep else [CHECK.step(sizes.opened.blocks)]


def row_steps(sizes: Sizes, *, keep: bool) -> list[Step]:
    """Rows that are kept, and their moments."""
    made = [ROWS.step(sizes.opened.blocks, Held(block=sizes.loading))] if keep else []
    return [*made, _rows("rows", sizes, keep=keep)]


def fit_steps(sizes: Sizes, fit: FitOptions, *, keep: bool) -> list[Step]:
    """Passes over rows: plain k-means; or landmarks, affinities, groups, relabelling."""
    ks, d, p, sets = sizes.ks, sizes.d, sizes.landmarks, sizes.preset.sets
    if not sets:
        times = len(ks) * fit.n_init * (SEEDING_PASSES + fit.max_iter + 1)
        return [_rows("fit", sizes, keep=keep, times=times, task=24 * max(ks) * d)]
    remedy = "Use a smaller -k, or --preset gradient."
    times = sets * (LANDMARK_ITERATIONS + 2)
    ties = sizes.tie_bytes
    attach = Held(
        block=0.0 if keep else sizes.loading,
        task=24.0 * p * d + 3 * ties,  # as it is multiplied, as rows, sorted
        result=lambda _: ties,
        worker=SOLVER_BYTES + 4 * sets * p * d,
        here=SOLVER_BYTES,
    )
    steps = [
        _rows("landmarks", sizes, keep=keep, times=times, task=24 * p * d),
        replace(row_pass("affinity", sizes.opened.blocks, attach, reads=not keep), remedy=remedy),
        Step("group", _solving() + Held(here=2 * ties), remedy=remedy),
    ]
    if sizes.preset.relabelled:
        centres = min(p, MAX_CENTRES)
        gram = 8 * centres**2
        held = Held(block=0.0 if keep else sizes.loading, task=gram, result=lambda _: gram)
        times = sizes.preset.relabelled * len(ks)
        steps.append(row_pass("relabel", sizes.opened.blocks, held, times=times, reads=not keep))
    return steps


def label_step(sizes: Sizes) -> Step:
    """Labels, and what the run records of the images."""
    measured = sum(8 * k * _measured(sizes) for k in sizes.ks)
    worker = 4 * max(1, sizes.preset.sets) * max(sizes.landmarks, *sizes.ks, 1) * sizes.d
    held = Held(block=sizes.loading, task=measured, result=lambda _: measured)
    held += _solving(worker=worker)
    return row_pass("label", sizes.opened.blocks, held)


def _solving(block: float = 0.0, task: float = 0.0, worker: float = 0.0) -> Held:
    """What a step holds in processes that have SciPy loaded."""
    return Held(block=block, task=task, worker=worker + SOLVER_BYTES, here=SOLVER_BYTES)


def _rows(name: str, sizes: Sizes, *, keep: bool, times: int = 1, task: int = 0) -> Step:
    """Passes over rows, made anew from the images where they are not kept."""
    held = Held(block=0.0 if keep else sizes.loading, task=task)
    return row_pass(name, sizes.opened.blocks, held, times=times, reads=not keep)


def _measured(sizes: Sizes) -> int:
    """Numbers that the last pass measures of a cluster."""
    return sizes.shown + 4 * MEMBERS + len(sizes.opened.stack.class_names) + 2


def _state_bytes(sizes: Sizes, fit: FitOptions) -> int:
    """What is kept for a resume, at most.

    With b blocks: b × 8 (F² + F) of moments of F features; b × 8 k (h w + 4 × 20 + classes + 2) of
    each k, what the last pass measures; components; landmarks and their affinities, or centroids
    of each fit; weights of a kernel.
    """
    features, d, ks, p = sizes.features, sizes.d, sizes.ks, sizes.landmarks
    blocks = len(sizes.opened.blocks)
    total = blocks * (8 * (features**2 + features) + STATE_BYTES)  # components, or what is damaged
    total += blocks * sum(8 * k * _measured(sizes) + STATE_BYTES for k in ks)
    total += 4 * (features + 1) * sizes.preset.components
    if sizes.preset.sets:
        total += sizes.preset.sets * _fit_bytes(p, d, LANDMARK_ITERATIONS)
        total += sizes.tie_bytes + 3 * STATE_BYTES
        total += sum(4 * MAX_CENTRES * k + STATE_BYTES for k in ks if sizes.preset.relabelled)
        return total
    return total + fit.n_init * sum(_fit_bytes(k, d, fit.max_iter) for k in ks)


def _fit_bytes(k: int, d: int, iterations: int) -> int:
    """A fit's last state: centroids, counts, history."""
    return 8 * (k * (d + 1) + 3 * (iterations + 1)) + STATE_BYTES


def _model_bytes(sizes: Sizes) -> int:
    """What labels images: components, landmarks or centroids, and a kernel."""
    preset, p, d, k = sizes.preset, sizes.landmarks, sizes.d, max(sizes.ks)
    kernel = min(p, MAX_CENTRES) * (d + k) if preset.relabelled else 0
    components = (sizes.features + 1) * preset.components
    return 4 * (components + preset.sets * p * (d + 1) + kernel + 2 * k * d)
