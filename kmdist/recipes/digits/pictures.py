"""Pictures of a digits run (centroids, members, confusion, sweep), and what its report shows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kmdist.engine.fits import find_elbow
from kmdist.errors import KmdistError, UsageError
from kmdist.job.exhibits import Curves, Exhibit, Gallery, HeatMap, Table, grey_levels
from kmdist.job.options import JobOptions
from kmdist.recipes.digits.model import DigitModel
from kmdist.recipes.digits.opening import fitted_input
from kmdist.recipes.digits.stacks.stack import light_ink
from kmdist.store import Run

READ_IMAGES = 1024
"""Images of one file that are read at once: going into a gzip file costs as much as reading it."""
MOST_CLUSTERS = 64
"""Whose members are drawn."""
PANEL_ROWS = 48
"""Rows of a table of many clusters, of which several parts then stand side by side."""


def figure(run: Run, what: str | None = None) -> Any:
    """One picture of a digits run, as a figure of matplotlib.

    Parameters
    ----------
    what : ``centroids``: the mean image of each cluster with its class; ``members``: 20 nearest
        and 20 random ones beside it; ``confusion``: clusters × classes; ``sweep``: scores
        against k, for a run of several; ``normalised``: originals beside what is clustered.
        None: the sweep of several k, the centroids of one.

    Raises
    ------
    UsageError : the run has no such picture, or its images are not where they were.
    """
    what = what or ("sweep" if run.runs else "centroids")
    if (what == "sweep") != bool(run.runs):
        needs = "several k; fit -k 10,16,36" if what == "sweep" else "one k; name RUN.zarr/kN"
        raise UsageError(f"--what {what} needs a run of {needs}")
    return {
        "centroids": _centroids,
        "members": _members,
        "confusion": _confusion,
        "sweep": _sweep,
        "normalised": _normalised,
    }[what](run)


def _figure(width_in: float, height_in: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout="constrained")


def cluster_title(run: Run, cluster: int) -> str:
    """The cluster's number, the class most of its members have, and how many members."""
    count = 0 if run.counts is None else int(run.counts[cluster])
    maps = run.attributes.get("maps")
    if not maps:
        return f"#{cluster} ({count:,})"
    return f"#{cluster}: {run.attributes['class_names'][maps['majority'][cluster]]} ({count:,})"


def _show(axes: Any, image: np.ndarray) -> None:
    axes.imshow(image, cmap="gray", interpolation="nearest")
    axes.set_axis_off()


def _centroids(run: Run) -> Any:
    means = np.asarray(run.array("means"))
    columns = int(np.ceil(np.sqrt(len(means))))
    rows = -(-len(means) // columns)
    figure = _figure(0.9 * columns, 1.05 * rows)
    for cluster, image in enumerate(means):
        axes = figure.add_subplot(rows, columns, cluster + 1)
        _show(axes, image)
        axes.set_title(cluster_title(run, cluster), fontsize=7)
    return figure


def images_of(run: Run, numbers: np.ndarray) -> np.ndarray:
    """Some images of the stack the run was fitted to; blank where the number is −1."""
    stack, flat = fitted_input(run, JobOptions()).stack, numbers.ravel()
    images = np.zeros((flat.size, stack.height, stack.width), stack.source.dtype)
    step = 1 if stack.names else READ_IMAGES
    for start in np.unique(flat[flat >= 0] // step) * step:
        stop = min(int(start) + step, stack.n)
        here = (flat >= start) & (flat < stop)
        images[here] = stack.read(int(start), stop)[flat[here] - start]
    return images.reshape(*numbers.shape, stack.height, stack.width)


def _tiled(images: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """(m, h, w) side by side with gaps between; nothing (NaN) in these and where there is none."""
    shown = images.astype(np.float32)
    shown[numbers < 0] = np.nan
    gap = max(1, images.shape[2] // 8)
    padded = np.pad(shown, ((0, 0), (0, 0), (0, gap)), constant_values=np.nan)
    return np.concatenate(list(padded), axis=1)


def _members(run: Run) -> Any:
    k = len(np.asarray(run.array("means")))
    means = np.asarray(run.array("means"))[:MOST_CLUSTERS]
    figure = _figure(13, 0.5 * len(means) + 0.4)
    axes = figure.subplots(len(means), 3, width_ratios=[1, 20, 20], squeeze=False)
    for column, name in ((1, "nearest"), (2, "drawn")):
        numbers = np.asarray(run.array(f"members/{name}"))[:MOST_CLUSTERS]
        images = images_of(run, numbers)
        for one, some, which in zip(axes[:, column], images, numbers, strict=True):
            _show(one, _tiled(some, which))
    for cluster, (row, mean) in enumerate(zip(axes, means, strict=True)):
        _show(row[0], mean)
        row[0].set_title(cluster_title(run, cluster), fontsize=7, loc="left")
    axes[0, 1].set_title("nearest to the centroid", fontsize=8)
    axes[0, 2].set_title("drawn at random", fontsize=8)
    if k > len(means):
        figure.suptitle(f"the {len(means)} largest of {k} clusters", fontsize=9)
    return figure


def _confusion(run: Run) -> Any:
    table = run.array("confusion")
    if table is None:
        raise UsageError(f"{run.path} has no classes to compare with; fit it with --labels")
    names = [str(name) for name in run.attributes["class_names"]]
    order = diagonal_order(table)
    table = table[order]
    full = np.zeros((len(table) + 1, len(names) + 1), np.int64)
    full[:-1, :-1] = table
    full[-1, :-1], full[:, -1] = table.sum(axis=0), full[:, :-1].sum(axis=1)
    full[-1, -1] = table.sum()
    shown = np.zeros(full.shape)
    shown[:-1, :-1] = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    rows = [*map(str, order), "total"]
    columns = [*names, "total"]
    n_panels = -(-len(full) // PANEL_ROWS)
    height = -(-len(full) // n_panels)
    figure = _figure(n_panels * (1.5 + 0.6 * len(columns)), 1.2 + 0.35 * height)
    for number, axes in enumerate(figure.subplots(1, n_panels, squeeze=False)[0]):
        part = slice(number * height, (number + 1) * height)
        _draw_table(axes, full[part], shown[part], rows[part], columns)
    return figure


def diagonal_order(table: np.ndarray) -> np.ndarray:
    """Clusters by the class that most of their members have, so that a confusion is a diagonal."""
    return np.lexsort((-table.max(axis=1), table.argmax(axis=1)))


def _draw_table(
    axes: Any, counts: np.ndarray, shares: np.ndarray, rows: list[str], columns: list[str]
) -> None:
    """Counts of clusters in classes, on a ground as dark as their share of the cluster."""
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for i, j in np.ndindex(*counts.shape):
        color = "white" if shares[i, j] > 0.6 else "black" if counts[i, j] else "silver"
        axes.text(j, i, f"{counts[i, j]:,}", ha="center", va="center", fontsize=7, color=color)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("class")
    axes.set_ylabel("cluster")


def _sweep(run: Run) -> Any:
    ks = sorted(run.runs)
    inertia = [float(run.runs[k].inertia or 0.0) for k in ks]
    scores = [run.runs[k].attributes.get("scores") for k in ks]
    scored = all(scores)
    figure = _figure(8 if scored else 4, 4)
    left, *others = figure.subplots(1, 1 + scored, squeeze=False)[0]
    left.plot(ks, inertia, "o-")
    left.set_xlabel("k")
    left.set_ylabel("inertia")
    elbow = find_elbow(np.array(ks), np.array(inertia))
    if elbow is not None:
        left.axvline(elbow, color="gray", linestyle="--")
        left.set_title(f"elbow at k = {elbow}", fontsize=9)
    for right in others:
        for name, label in _CURVES.items():
            right.plot(ks, [one[name] for one in scores if one], "o-", label=label)
        right.set_xlabel("k")
        right.set_title("agreement with the classes", fontsize=9)
        right.legend(fontsize=8)
    return figure


_CURVES = {"homogeneity": "homogeneity", "accuracy_majority": "accuracy by majority"}


def _normalised(run: Run) -> Any:
    numbers = np.asarray(run.array("members/drawn"))[:10, :6]
    model = DigitModel.of_run(run)
    originals = images_of(run, numbers)
    flat = light_ink(originals.reshape(-1, *originals.shape[2:]), model.dark_ink)
    prepared = model.describer.prepared(flat)
    figure = _figure(8, 0.65 * len(numbers) + 0.3)
    axes = figure.subplots(*numbers.shape, squeeze=False)
    for one, number, image, upright in zip(axes.flat, numbers.flat, flat, prepared, strict=True):
        if number < 0:
            one.set_axis_off()
            continue
        _show(one, _beside(image, upright))
    for one in axes[0]:
        one.set_title("as it was | clustered", fontsize=7)
    return figure


def _beside(*images: np.ndarray) -> np.ndarray:
    """Images as light as can be, each centred on paper of one height, with gaps between."""
    height = max(len(image) for image in images)
    gap = np.full((height, max(1, height // 14)), np.nan, np.float32)
    shown: list[np.ndarray] = []
    for image in images:
        light = np.asarray(image / max(float(image.max()), 1e-9), np.float32)
        above = (height - len(image)) // 2
        below = height - len(image) - above
        shown += [gap, np.pad(light, ((above, below), (0, 0)))]
    return np.concatenate(shown[1:], axis=1)


SHOWN_MEMBERS = 10
SHOWN_CLUSTERS = 40
"""The largest ones, whose members are shown."""


def exhibits(run: Run) -> Sequence[Exhibit]:
    """Of several k how they compare; of one its clusters."""
    return _by_k(run) if run.runs else _of_one(run)


def _by_k(run: Run) -> list[Exhibit]:
    ks, runs = list(run.runs), list(run.runs.values())
    inertia = [float(one.inertia or 0.0) for one in runs]
    elbow = find_elbow(np.array(ks), np.array(inertia))
    note = "" if elbow is None else f"elbow at k = {elbow}"
    shown: list[Exhibit] = [Curves("Inertia against k", "k", ks, {"inertia": inertia}, elbow, note)]
    scores = [one.attributes.get("scores") or {} for one in runs]
    names = [name for name in scores[0] if all(name in one for one in scores)]
    if names:
        lines = {_words(name): [float(one[name]) for one in scores] for name in names}
        shown.append(Curves("Agreement with the classes against k", "k", ks, lines))
    return shown


def _of_one(run: Run) -> list[Exhibit]:
    shown: list[Exhibit] = []
    given = {"images": run.attributes.get("scores"), "test": run.attributes.get("scores_test")}
    scored = {name: scores for name, scores in given.items() if scores}
    if scored:
        names = list(next(iter(scored.values())))
        rows = [[_words(n), *(f"{s[n]:.4f}" for s in scored.values())] for n in names]
        note = "classes score the clusters and do not make them"
        shown.append(Table("Scores", ["score", *scored], rows, note))
    means = np.asarray(run.array("means"))
    pictures = [(cluster_title(run, i), grey_levels(mean)) for i, mean in enumerate(means)]
    shown.append(Gallery("Mean image of each cluster", pictures))
    shown += _member_galleries(run)
    table = run.array("confusion")
    if table is not None:
        shown.append(
            _confusion_exhibit(table, [str(name) for name in run.attributes["class_names"]])
        )
    return shown


def _member_galleries(run: Run) -> list[Exhibit]:
    numbers = np.asarray(run.array("members/nearest"))[:SHOWN_CLUSTERS, :SHOWN_MEMBERS]
    title = "Members nearest to the centroid"
    try:
        images = images_of(run, numbers)
    except (KmdistError, OSError) as error:
        return [Gallery(title, note=f"the images cannot be read: {error}")]
    rows = [(cluster_title(run, i), _row(row)) for i, row in enumerate(images)]
    return [Gallery(title, rows)]


def _row(images: np.ndarray) -> np.ndarray:
    """Members side by side, an empty column between."""
    padded = np.pad(np.asarray(images, np.float64), ((0, 0), (0, 0), (0, 1)))
    return grey_levels(np.concatenate(list(padded), axis=1))


def _confusion_exhibit(table: np.ndarray, classes: Sequence[str]) -> HeatMap:
    order = diagonal_order(table)
    table = table[order]
    totals = table.sum(axis=1)
    shades = table / np.maximum(totals, 1)[:, None]
    texts = [[f"{n:,}" if n else "" for n in row] for row in table.tolist()]
    rows = [f"cluster {i}" for i in order]
    return HeatMap("Confusion matrix", rows, classes, texts, shades, "images of each class")


def _words(name: str) -> str:
    return {"nmi": "NMI", "ari": "ARI"}.get(name, name.replace("_", " "))
