"""Fit a palette to a colour histogram: exact weighted k-means on the distinct colours.

The objective is that of k-means on all the pixels; an iteration takes milliseconds whatever
the size of the collection.
"""

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from kmdist.engine.fits import FitOptions, cluster_order
from kmdist.engine.lloyd import Options, State, final_state, iterate, last
from kmdist.engine.passes import ThreadPool
from kmdist.engine.rows import rows_of_array
from kmdist.errors import UsageError, quantity
from kmdist.images.color import over_black_and_white
from kmdist.recipes.quantize.kernels.histogram import Colors
from kmdist.recipes.quantize.palette.cloud import (
    AlphaCloud,
    AlphaMeans,
    ColorCloud,
    Means,
    Medians,
)
from kmdist.recipes.quantize.palette.seeding import (
    drawn_seeds,
    pace,
    plus_plus_seeds,
    random_seeds,
    random_stream,
    seeds_beside,
)

Method = type[Means] | type[Medians] | type[AlphaMeans]
METRICS: dict[str, Method] = {"euclidean": Means, "manhattan": Medians}

Float32Array = npt.NDArray[np.float32]
Labels = npt.NDArray[np.unsignedinteger]
_NO_COLOR = np.empty(0, np.uint8)


@dataclass(frozen=True)
class PaletteOptions(FitOptions):
    """How a palette is fitted; an `init` of colours is (k, 3) in sRGB, 0 … 255.

    `kmdist.recipes.quantize.options.QuantizeOptions` checks what is asked for.

    Attributes
    ----------
    metric : ``euclidean`` (k-means), or ``manhattan`` (k-medians, exact, only in `rgb`, and of
        colours without alpha), for which inertia is Σ w Σ|x − c|.
    locked : (m, 3) uint8 sRGB, different, or (m, 4) with alpha: centroids that never move.
    refine : None, or ``breathing``: move badly used centroids (`kmdist.engine.refining`).
    """

    metric: str = "euclidean"
    locked: npt.NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 3), np.uint8))
    refine: str | None = None


@dataclass(frozen=True)
class Palette:
    """A fitted palette: clusters by count, descending, then by centroid.

    Attributes
    ----------
    state : the last state; its `centroids` (k, 3) float32 in `space`, `counts` (k,) int64.
    space : the colour space of the centroids.
    palette : (k, 3) uint8 sRGB that a display can show; (k, 4) with alpha.
    labels : (n,) uint8 (uint16 where k > 256) nearest centroid of each distinct colour.
    history : (iterations + 1, 3) float64: inertia, shift, empty clusters repaired.
    warning : None, or what the caller of the fit should be told.
    selection : how k was chosen, where it was not given; set by those who choose.
    locked : the clusters whose colours were given.
    """

    state: State
    space: str
    palette: npt.NDArray[np.uint8]
    labels: Labels
    history: npt.NDArray[np.float64] = field(repr=False)
    warning: str | None = None
    selection: Mapping[str, object] | None = field(default=None, repr=False)
    locked: tuple[int, ...] = ()

    @property
    def k(self) -> int:
        """Colours in the palette: fewer than asked for where the pixels have fewer."""
        return len(self.palette)


def iterate_palette(
    cloud: ColorCloud,
    k: int,
    options: PaletteOptions | None = None,
    *,
    attempt: int = 0,
) -> Generator[State, None, None]:
    """Fit k centroids by Lloyd's method (1982), one state after another.

    From seeds, steps are over-relaxed, which ends in a fixed point of Lloyd's all the same; from
    given colours they are Lloyd's own, as in other programs.

    Parameters
    ----------
    k : at least 1. As many centroids as there are colours, at most.
    attempt : which of the `n_init` starts this is; it selects the random numbers.

    Yields
    ------
    State for the initial centres (iteration 0) and after each update; the last has a
    `stop_reason`, and inertia from differences in float64. Centroids keep the order of the
    initial ones. In `rgb` sums are exact integers.

    Raises
    ------
    UsageError : initial colours that do not fit k.
    """
    options = options or PaletteOptions()
    method, n_locked = _method(cloud, options.metric), len(options.locked)
    centroids = _first_centroids(cloud, k, options, attempt).astype(np.float32)
    iteration, shift, n_repaired = 0, math.inf, 0
    stop_reason: str | None = None
    tolerance = options.tol * cloud.variance
    relaxed = method.relaxes and isinstance(options.init, str)
    while True:
        if stop_reason is None and iteration >= options.max_iter:
            stop_reason = "max_iter"
        if stop_reason is None:
            counts, inertia, updated, next_repaired = method.step(cloud, centroids, n_locked)
            updated[:n_locked] = centroids[:n_locked]
            if np.array_equal(updated, centroids):
                stop_reason = "converged"
        if stop_reason is not None:
            _, counts, inertia = method.assign(cloud, centroids)
            yield State(centroids, counts, inertia, iteration, stop_reason, shift, n_repaired)
            return
        yield State(centroids, counts, inertia, iteration, None, shift, n_repaired)
        iteration, n_repaired = iteration + 1, next_repaired
        own = not relaxed or n_repaired or iteration == options.max_iter
        step = 1.0 if own else pace(iteration)
        move = step * (updated.astype(np.float64) - centroids)
        shift = float((move**2).sum())
        if shift <= tolerance:
            stop_reason = "tolerance"
        elif step > 1:
            updated = (centroids + move).astype(np.float32)
        centroids = updated


def fit_palette(
    cloud: ColorCloud,
    k: int,
    options: PaletteOptions | None = None,
    *,
    on_state: Callable[[State], None] | None = None,
) -> Palette:
    """Fit a palette of k colours and label every distinct colour with it.

    Parameters
    ----------
    on_state : called with every state, in order.

    Raises
    ------
    UsageError : as `iterate_palette`.
    """
    options = options or PaletteOptions()
    seeded = isinstance(options.init, str) and not len(options.locked)
    if isinstance(cloud, AlphaCloud) and cloud.is_opaque and seeded:
        opaque = ColorCloud(cloud.colors, cloud.space, cloud.threads)
        return _with_alpha(fit_palette(opaque, k, options, on_state=on_state))
    attempts = []
    for attempt in range(options.n_init):
        history = []
        for state in iterate_palette(cloud, k, options, attempt=attempt):
            history.append((state.inertia, state.shift, state.n_repaired))
            if on_state is not None:
                on_state(state)
        attempts.append((state, history))
    best, best_history = min(attempts, key=lambda done: done[0].inertia)
    if options.refine is not None and best.inertia > 0:
        best = _refined(cloud, best, options)
        best_history.append((best.inertia, best.shift, best.n_repaired))
    warning = None
    if len(best.centroids) < k:
        whose = "the pixels and those locked" if len(options.locked) else "the pixels"
        warning = (
            f"{quantity(k, 'colour')} asked for, and {whose} have only "
            f"{quantity(len(best.centroids), 'colour')}: the palette is exact"
        )
    rows = np.array(best_history, np.float64)
    unsorted = Palette(best, cloud.space, _NO_COLOR, _NO_COLOR, rows, warning)
    return palette_for(cloud, unsorted, options)


def _refined(cloud: ColorCloud, state: State, options: PaletteOptions) -> State:
    """A fit gone on from by adding and taking away centroids, on all colours as weighted rows."""
    from kmdist.engine.refining import breathe

    pool = ThreadPool(cloud.threads)
    try:
        rows, _ = rows_of_array(cloud.points, cloud.colors.counts.astype(np.float64), pool)
        lloyd = Options(max_iter=max(1, options.max_iter), tol=options.tol)
        start = final_state(rows, replace(state, counts=state.counts.astype(np.float64)))
        found = last(iterate(rows, breathe(rows, start.centroids, options.seed), lloyd))
        n_iter = start.iteration + found.iteration
        found = replace(min(start, found, key=lambda one: one.inertia), iteration=n_iter)
    finally:
        pool.close()
    _, counts, inertia = _method(cloud, options.metric).assign(cloud, found.centroids)
    return replace(found, counts=counts, inertia=inertia)


def palette_for(cloud: ColorCloud, fit: Palette, options: PaletteOptions) -> Palette:
    """The palette of a fit with clusters sorted, labels, counts and inertia of some colours."""
    state, labels = _sorted(cloud, fit.state, _method(cloud, options.metric))
    given = cloud.placed(options.locked)
    locked = tuple(int(np.all(state.centroids == one, axis=1).argmax()) for one in given)
    colors = cloud.shown(state.centroids)
    return replace(fit, state=state, palette=colors, labels=labels, locked=locked)


def _with_alpha(fit: Palette) -> Palette:
    """A palette of opaque colours as one of colours with alpha; distances are the same."""
    state = replace(fit.state, centroids=np.tile(fit.state.centroids, (1, 2)))
    palette = np.pad(fit.palette, ((0, 0), (0, 1)), constant_values=255)
    return replace(fit, state=state, palette=palette)


def label_colors(
    cloud: ColorCloud, centroids: npt.NDArray[np.floating], metric: str = "euclidean"
) -> tuple[Labels, npt.NDArray[np.int64], float]:
    """Nearest centroid of every colour, in float64; ties go to the lowest index.

    Parameters
    ----------
    centroids : (k, 3) in the cloud's space, of this or of an older palette.

    Returns
    -------
    labels (n,) uint8, or uint16 where k > 256; counts (k,) int64; inertia Σ w‖x − c‖².
    """
    return _method(cloud, metric).assign(cloud, np.asarray(centroids, np.float32))


def _method(cloud: ColorCloud, metric: str) -> Method:
    return AlphaMeans if isinstance(cloud, AlphaCloud) else METRICS[metric]


def _first_centroids(
    cloud: ColorCloud, k: int, options: PaletteOptions, attempt: int
) -> Float32Array:
    n_locked = len(options.locked)
    if not n_locked:
        return _initial(cloud, min(k, len(cloud.colors)), options, attempt)
    if n_locked > k:
        raise UsageError(f"{quantity(n_locked, 'colour')} are locked; give -k {n_locked} or more")
    locked = cloud.placed(options.locked)
    random = random_stream(options.seed, attempt)
    free = seeds_beside(locked, cloud.points, cloud.colors.counts, k - n_locked, random)
    return np.concatenate([locked, free])


def _initial(cloud: ColorCloud, k: int, options: PaletteOptions, attempt: int) -> Float32Array:
    counts, points = cloud.colors.counts, cloud.points
    if len(points) == k:
        return points
    if not isinstance(options.init, str):
        colors = np.asarray(options.init)
        allowed = (3, 4) if isinstance(cloud, AlphaCloud) else (3,)
        if colors.shape not in [(k, n) for n in allowed] or not np.isfinite(colors).all():
            raise UsageError(
                f"initial colours must be {k} finite rows of red, green, blue; received "
                f"an array of shape {colors.shape}"
            )
        return cloud.placed(colors)
    random = random_stream(options.seed, attempt)
    if options.init == "random":
        return random_seeds(points, counts, k, random)
    if isinstance(cloud, AlphaCloud):
        return drawn_seeds(points, counts, k, random)
    seeds = plus_plus_seeds(cloud.colors.codes, points, counts, k, random)
    # Medians are values that occur, and so are centres on the way to them.
    return np.rint(seeds) if options.metric == "manhattan" else seeds


def _sorted(cloud: ColorCloud, state: State, method: Method) -> tuple[State, Labels]:
    """Sort clusters by count, descending, then by centroid, and label the colours anew.

    Labels are those of the sorted centroids, so that a later look-up of the same colours
    agrees with them where two centroids are equally near; counts follow the labels.
    """
    centroids, counts = state.centroids, state.counts
    for _ in range(8):
        order = cluster_order(counts, centroids)
        centroids = np.ascontiguousarray(centroids[order])
        labels, counts, inertia = method.assign(cloud, centroids)
        if np.all(counts[:-1] >= counts[1:]):
            break
    return replace(state, centroids=centroids, counts=counts, inertia=inertia), labels


_MAX_K = 256


def psnr(
    colors: Colors, palette: npt.NDArray[np.uint8], labels: npt.NDArray[np.unsignedinteger]
) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and the three sRGB channels.

    Colours with alpha are compared as they look over black and over white, in equal parts.

    Parameters
    ----------
    palette : (k, 3) uint8 sRGB, the colours that are shown; or (k, 4) with alpha.
    labels : (n,) palette entry of each distinct colour.

    Returns
    -------
    10 log10(255² / mean squared error); infinite if every pixel keeps its colour.
    """
    seen: npt.NDArray[np.generic] = colors.rgb
    if palette.shape[1] == 4:
        seen, palette = (np.rint(over_black_and_white(one)) for one in (colors.rgba, palette))
    differences = seen.astype(np.int64) - palette[labels].astype(np.int64)
    squared_error = int((colors.counts * (differences**2).sum(axis=1)).sum())
    if squared_error == 0:
        return math.inf
    return 10 * math.log10(255**2 * seen.shape[1] * colors.n_pixels / squared_error)


def fit_to_psnr(
    cloud: ColorCloud,
    psnr_db: float,
    options: PaletteOptions | None = None,
) -> tuple[Palette, float, float | None]:
    """Find by bisection a palette that reaches a PSNR where one colour less does not.

    Where 256 colours do not reach it, theirs.

    Quality need not rise with every colour added, so this is not always the smallest k there
    is; that k − 1 as fitted falls short is checked, not inferred. At most 9 fits.

    Parameters
    ----------
    psnr_db : the PSNR to reach, of the displayed palette over all pixels.

    Returns
    -------
    palette : that just reaches it, or comes as near as 256 colours do.
    psnr_db : what it reaches.
    psnr_db_below : what the palette of one colour less, fitted in the same way, reaches; None for
        a palette of one colour, and for one that falls short.

    Raises
    ------
    UsageError : it is not a number, or the options fix k.
    """
    options = options or PaletteOptions()
    if math.isnan(psnr_db):
        raise UsageError("the PSNR to reach is not a number; give it in dB, for example 38")
    if not isinstance(options.init, str):
        raise UsageError("initial colours fix k; a PSNR to reach needs init k-means++ or random")
    fits: dict[int, tuple[Palette, float]] = {}

    def reaches(k: int) -> bool:
        palette = fit_palette(cloud, k, options)
        fits[k] = palette, psnr(cloud.colors, palette.palette, palette.labels)
        return fits[k][1] >= psnr_db

    n_locked = len(options.locked)
    short, enough = max(n_locked - 1, 0), min(_MAX_K, len(cloud.colors) + n_locked)
    if not reaches(enough):
        return *fits[enough], None
    while enough - short > 1:
        k = (short + enough) // 2
        if reaches(k):
            enough = k
        else:
            short = k
    return *fits[enough], fits[short][1] if short in fits else None
