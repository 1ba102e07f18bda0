"""Pictures of a digits run: centroids, members, confusion, sweep, normalised images."""

from pathlib import Path
from typing import Any

import numpy as np

from kmdist.digit_features import normalise
from kmdist.errors import UsageError
from kmdist.recipes.digit_job import fitted_input
from kmdist.store import Run

READ_IMAGES = 1024
"""Images of one file that are read at once: going into a gzip file costs as much as reading it."""
WHAT = ("centroids", "members", "confusion", "sweep", "normalised")


def draw_digits(run: Run, output: str | Path, what: str = "centroids") -> Path:
    """Draw one picture of a digits run.

    Parameters
    ----------
    what : ``centroids``: the mean image of each cluster with its class; ``members``: 20 nearest
        and 20 random ones beside it; ``confusion``: clusters × classes; ``sweep``: scores
        against k, for a run of several; ``normalised``: originals beside what is clustered.

    Raises
    ------
    UsageError : the run has no such picture, or its images are not where they were.
    """
    if what not in WHAT:
        raise UsageError(f"--what {what!r}: must be one of {', '.join(WHAT)}")
    if run.recipe != "digits":
        raise UsageError(f"{run.path} is a run of {run.recipe}; --what is for runs of digits")
    if (what == "sweep") != bool(run.runs):
        needs = "several k; fit -k 10,16,36" if what == "sweep" else "one k; name RUN.zarr/kN"
        raise UsageError(f"--what {what} needs a run of {needs}")
    path = Path(output)
    figure = {
        "centroids": _centroids,
        "members": _members,
        "confusion": _confusion,
        "sweep": _sweep,
        "normalised": _normalised,
    }[what](run)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be written: {error}") from error
    return path


def _figure(width_in: float, height_in: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout="constrained")


def _title(run: Run, cluster: int) -> str:
    """The cluster's number, the class most of its members have, and how many members."""
    count = 0 if run.counts is None else int(run.counts[cluster])
    maps = run.attributes.get("maps")
    if not maps:
        return f"{cluster} ({count:,})"
    return f"{run.attributes['class_names'][maps['majority'][cluster]]} ({count:,})"


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
        axes.set_title(_title(run, cluster), fontsize=7)
    return figure


def _images_of(run: Run, numbers: np.ndarray) -> np.ndarray:
    """Some images of the stack the run was fitted to; blank where the number is −1."""
    stack, flat = fitted_input(run, 16.0).stack, numbers.ravel()
    images = np.zeros((flat.size, stack.height, stack.width), stack.source.dtype)
    step = 1 if stack.names else READ_IMAGES
    for start in np.unique(flat[flat >= 0] // step) * step:
        stop = min(int(start) + step, stack.n)
        here = (flat >= start) & (flat < stop)
        images[here] = stack.read(int(start), stop)[flat[here] - start]
    return images.reshape(*numbers.shape, stack.height, stack.width)


def _tiled(images: np.ndarray) -> np.ndarray:
    """(m, h, w) side by side."""
    return np.concatenate(list(images), axis=1)


def _members(run: Run) -> Any:
    means = np.asarray(run.array("means"))[:64]
    nearest = _images_of(run, np.asarray(run.array("members/nearest"))[:64])
    drawn = _images_of(run, np.asarray(run.array("members/drawn"))[:64])
    figure = _figure(13, 0.5 * len(means) + 0.4)
    axes = figure.subplots(len(means), 3, width_ratios=[1, 20, 20], squeeze=False)
    for row, mean, near, random in zip(axes, means, nearest, drawn, strict=True):
        for one, image in zip(row, (mean, _tiled(near), _tiled(random)), strict=True):
            _show(one, image)
    for cluster, row in enumerate(axes):
        row[0].set_title(_title(run, cluster), fontsize=6)
    axes[0, 1].set_title("nearest to the centroid", fontsize=8)
    axes[0, 2].set_title("drawn at random", fontsize=8)
    return figure


def _confusion(run: Run) -> Any:
    table = run.array("confusion")
    if table is None:
        raise UsageError(f"{run.path} has no classes to compare with; fit it with --labels")
    names = [str(name) for name in run.attributes["class_names"]]
    full = np.zeros((len(table) + 1, len(names) + 1), np.int64)
    full[:-1, :-1] = table
    full[-1, :-1], full[:, -1] = table.sum(axis=0), full[:, :-1].sum(axis=1)
    full[-1, -1] = table.sum()
    figure = _figure(1.5 + 0.6 * full.shape[1], 1.2 + 0.35 * full.shape[0])
    axes = figure.add_subplot()
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    shown = np.zeros(full.shape)
    shown[:-1, :-1] = shares
    axes.imshow(shown, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for i, j in np.ndindex(*full.shape):
        color = "white" if shown[i, j] > 0.6 else "black"
        axes.text(j, i, f"{full[i, j]:,}", ha="center", va="center", fontsize=7, color=color)
    axes.set_xticks(range(full.shape[1]), [*names, "total"])
    axes.set_yticks(range(full.shape[0]), [*map(str, range(len(table))), "total"])
    axes.set_xlabel("class")
    axes.set_ylabel("cluster")
    return figure


def _sweep(run: Run) -> Any:
    from kmdist.selection import find_elbow

    ks = sorted(run.runs)
    inertia = [float(run.runs[k].inertia or 0.0) for k in ks]
    figure = _figure(8, 4)
    left, right = figure.subplots(1, 2)
    left.plot(ks, inertia, "o-")
    left.set_xlabel("k")
    left.set_ylabel("inertia")
    elbow = find_elbow(np.array(ks), np.array(inertia)) if len(ks) > 2 else None
    if elbow is not None:
        left.axvline(elbow, color="gray", linestyle="--")
        left.set_title(f"elbow at k = {elbow}", fontsize=9)
    for name in ("homogeneity", "accuracy_majority"):
        values = [(run.runs[k].attributes.get("scores") or {}).get(name) for k in ks]
        if all(value is not None for value in values):
            right.plot(ks, values, "o-", label=name.replace("_", " "))
    right.set_xlabel("k")
    if right.lines:
        right.legend(fontsize=8)
    return figure


def _normalised(run: Run) -> Any:
    chosen = np.asarray(run.array("members/drawn"))[:10, :6]
    originals = _images_of(run, chosen)
    if run.attributes.get("dark_ink"):
        originals = originals.max() - originals
    figure = _figure(8, 0.65 * len(chosen))
    axes = figure.subplots(*chosen.shape, squeeze=False)
    for row, images in zip(axes, originals, strict=True):
        for one, image, upright in zip(row, images, normalise(images), strict=True):
            side = np.zeros((upright.shape[0], image.shape[1]), np.float32)
            top = max((side.shape[0] - image.shape[0]) // 2, 0)
            part = image[: side.shape[0]] / max(float(image.max()), 1e-9)
            side[top : top + len(part)] = part
            _show(one, np.concatenate([side, upright], axis=1))
    return figure
