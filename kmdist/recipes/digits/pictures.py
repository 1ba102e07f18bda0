"""What a digits run shows, as data for its report; the same drawn as single pictures."""

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
"""The largest ones, whose members are shown."""
PANEL_ROWS = 48
"""Rows of a table of many clusters, of which several parts then stand side by side."""
MEMBERS = {"nearest": "Members nearest to the centroid", "drawn": "Members drawn at random"}


def exhibits(run: Run) -> Sequence[Exhibit]:
    """Of several k how they compare; of one its clusters."""
    if run.runs:
        return _by_k(run)
    shown = [*_scores(run), _means(run)]
    try:
        shown += _members(run)
    except (KmdistError, OSError) as error:
        shown.append(Gallery(MEMBERS["nearest"], note=f"the images cannot be read: {error}"))
    return [*shown, *_confusion(run)]


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
    if what == "sweep":
        return _drawn_curves(_by_k(run))
    if what == "confusion":
        return _drawn_table(run)
    if what == "members":
        return _drawn_beside([_means(run), *_members(run)])
    return _drawn_gallery(_means(run) if what == "centroids" else _normalised(run))


def _by_k(run: Run) -> list[Curves]:
    ks, runs = list(run.runs), list(run.runs.values())
    inertia = [float(one.inertia or 0.0) for one in runs]
    elbow = find_elbow(np.array(ks), np.array(inertia))
    note = "" if elbow is None else f"elbow at k = {elbow}"
    shown = [Curves("Inertia against k", "k", ks, {"inertia": inertia}, elbow, note)]
    scores = [one.attributes.get("scores") or {} for one in runs]
    names = [name for name in scores[0] if all(name in one for one in scores)]
    if names:
        lines = {_words(name): [float(one[name]) for one in scores] for name in names}
        shown.append(Curves("Agreement with the classes against k", "k", ks, lines))
    return shown


def _words(name: str) -> str:
    return {"nmi": "NMI", "ari": "ARI"}.get(name, name.replace("_", " "))


def _scores(run: Run) -> list[Exhibit]:
    given = {"images": run.attributes.get("scores"), "test": run.attributes.get("scores_test")}
    scored = {name: scores for name, scores in given.items() if scores}
    if not scored:
        return []
    names = list(next(iter(scored.values())))
    rows = [[_words(n), *(f"{s[n]:.4f}" for s in scored.values())] for n in names]
    note = "classes score the clusters and do not make them"
    return [Table("Scores", ["score", *scored], rows, note)]


def _means(run: Run) -> Gallery:
    means = enumerate(np.asarray(run.array("means")))
    pictures = [(cluster_title(run, i), grey_levels(mean)) for i, mean in means]
    return Gallery("Mean image of each cluster", pictures)


def cluster_title(run: Run, cluster: int) -> str:
    """The cluster's number, the class most of its members have, and how many members."""
    count = 0 if run.counts is None else int(run.counts[cluster])
    maps = run.attributes.get("maps")
    if not maps:
        return f"#{cluster} ({count:,})"
    return f"#{cluster}: {run.attributes['class_names'][maps['majority'][cluster]]} ({count:,})"


def _members(run: Run) -> list[Gallery]:
    galleries = []
    for name, heading in MEMBERS.items():
        numbers = np.asarray(run.array(f"members/{name}"))
        rows = map(_row, images_of(run, numbers[:MOST_CLUSTERS]))
        pictures = [(cluster_title(run, i), row) for i, row in enumerate(rows)]
        more = len(numbers) > len(pictures)
        note = f"the {len(pictures)} largest of {len(numbers)} clusters" if more else ""
        galleries.append(Gallery(heading, pictures, note))
    return galleries


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


def _row(images: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Images side by side, each as light as can be and centred on paper of one height."""
    height = max(len(image) for image in images)
    shown = []
    for image in images:
        light = np.asarray(image / max(float(np.max(image)), 1e-9), np.float64)
        above = (height - len(image)) // 2
        margins = ((above, height - len(image) - above), (0, max(1, height // 14)))
        shown.append(np.pad(light, margins))
    return grey_levels(np.concatenate(shown, axis=1))


def _normalised(run: Run) -> Gallery:
    numbers = np.asarray(run.array("members/drawn"))[:10, :6]
    model = DigitModel.of_run(run)
    flat = light_ink(images_of(run, numbers[numbers >= 0]), model.dark_ink)
    pairs = zip(flat, model.describer.prepared(flat), strict=True)
    captions = ["as it was | clustered"] * numbers.shape[1] + [""] * numbers.size
    pictures = [(caption, _row(pair)) for caption, pair in zip(captions, pairs, strict=False)]
    return Gallery("Originals beside what is clustered", pictures)


def _confusion(run: Run) -> list[HeatMap]:
    table = run.array("confusion")
    if table is None:
        return []
    order = np.lexsort((-table.max(axis=1), table.argmax(axis=1)))  # so that it is a diagonal
    full = np.pad(table[order], ((0, 1), (0, 1)))
    full[-1], full[:, -1] = full.sum(axis=0), full.sum(axis=1)
    full[-1, -1] = table.sum()
    shades = full / np.maximum(full[:, -1:], 1)
    shades[-1], shades[:, -1] = 0, 0
    texts = [[f"{n:,}" if n else "" for n in row] for row in full.tolist()]
    columns = [*map(str, run.attributes["class_names"]), "total"]
    note = "images of each class, by cluster"
    rows = [*map(str, order), "total"]
    return [HeatMap("Confusion matrix", rows, columns, texts, shades, note)]


def _figure(width_in: float, height_in: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout="constrained")


def _show(axes: Any, picture: np.ndarray, title: str = "", loc: str = "center") -> None:
    axes.imshow(picture, cmap="gray", interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title, fontsize=7, loc=loc)


def _drawn_gallery(gallery: Gallery) -> Any:
    n, (height, width) = len(gallery.pictures), gallery.pictures[0][1].shape
    columns = int(np.ceil(np.sqrt(n * height / width)))
    rows = -(-n // columns)
    figure = _figure(0.9 * columns * width / height, 1.05 * rows)
    for place, (caption, picture) in enumerate(gallery.pictures):
        _show(figure.add_subplot(rows, columns, place + 1), picture, caption)
    return figure


def _drawn_beside(galleries: Sequence[Gallery]) -> Any:
    """Galleries of which each picture of the last belongs to one of each."""
    pictures = [gallery.pictures for gallery in galleries]
    rows = len(pictures[-1])
    widths = [of[0][1].shape[1] / of[0][1].shape[0] for of in pictures]
    figure = _figure(0.32 * sum(widths), 0.5 * rows + 0.4)
    axes = figure.subplots(rows, len(widths), width_ratios=widths, squeeze=False)
    for place, (gallery, shown) in enumerate(zip(galleries, pictures, strict=True)):
        for one, (caption, picture) in zip(axes[:, place], shown[:rows], strict=True):
            _show(one, picture, "" if place else caption, "left")
        if place:
            axes[0, place].set_title(gallery.title, fontsize=8)
    figure.suptitle(galleries[-1].note, fontsize=9)
    return figure


def _drawn_table(run: Run) -> Any:
    """Counts of clusters in classes, on a ground as dark as their share of the cluster."""
    if not (found := _confusion(run)):
        raise UsageError(f"{run.path} has no classes to compare with; fit it with --labels")
    (table,) = found
    n, n_panels = len(table.rows), -(-len(table.rows) // PANEL_ROWS)
    height = -(-n // n_panels)
    figure = _figure(n_panels * (1.5 + 0.6 * len(table.columns)), 1.2 + 0.35 * height)
    for number, axes in enumerate(figure.subplots(1, n_panels, squeeze=False)[0]):
        part = slice(number * height, (number + 1) * height)
        rows, shades = table.rows[part], table.shades[part]
        axes.imshow(shades, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for i, j in np.ndindex(*shades.shape):
            text = table.texts[part][i][j]
            color = "white" if shades[i, j] > 0.6 else "black" if text else "silver"
            axes.text(j, i, text or "0", ha="center", va="center", fontsize=7, color=color)
        axes.set_xticks(range(len(table.columns)), table.columns)
        axes.set_yticks(range(len(rows)), rows)
        axes.set_xlabel("class")
        axes.set_ylabel("cluster")
    return figure


def _drawn_curves(shown: Sequence[Curves]) -> Any:
    figure = _figure(4 * len(shown), 4)
    for axes, curves in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for name, values in curves.lines.items():
            axes.plot(curves.x, values, "o-", label=name)
        if curves.mark is not None:
            axes.axvline(curves.mark, color="gray", linestyle="--")
        axes.set_xlabel(curves.x_label)
        axes.set_title(curves.note or curves.title, fontsize=9)
        axes.legend(fontsize=8)
    return figure
