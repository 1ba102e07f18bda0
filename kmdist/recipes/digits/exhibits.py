"""What a report of a digits run shows: scores, galleries of clusters, confusion."""

from collections.abc import Sequence

import numpy as np

from kmdist.errors import KmdistError
from kmdist.estimators.selection import find_elbow
from kmdist.job.exhibits import Curves, Exhibit, Gallery, HeatMap, Table, grey_levels
from kmdist.recipes.digits.pictures import cluster_title, diagonal_order, images_of
from kmdist.store import Run

SHOWN_MEMBERS = 10
SHOWN_CLUSTERS = 40
"""The largest ones, whose members are shown."""


def exhibits(run: Run) -> Sequence[Exhibit]:
    """Of several k how they compare; of one its clusters."""
    return _by_k(run) if run.runs else _of_one(run)


def _by_k(run: Run) -> list[Exhibit]:
    ks, runs = list(run.runs), list(run.runs.values())
    inertia = [float(one.inertia or 0.0) for one in runs]
    elbow = find_elbow(np.array(ks), np.array(inertia)) if len(ks) > 2 else None
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
    shown += _members(run)
    table = run.array("confusion")
    if table is not None:
        shown.append(_confusion(table, [str(name) for name in run.attributes["class_names"]]))
    return shown


def _members(run: Run) -> list[Exhibit]:
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


def _confusion(table: np.ndarray, classes: Sequence[str]) -> HeatMap:
    order = diagonal_order(table)
    table = table[order]
    totals = table.sum(axis=1)
    shades = table / np.maximum(totals, 1)[:, None]
    texts = [[f"{n:,}" if n else "" for n in row] for row in table.tolist()]
    rows = [f"cluster {i}" for i in order]
    return HeatMap("Confusion matrix", rows, classes, texts, shades, "images of each class")


def _words(name: str) -> str:
    return {"nmi": "NMI", "ari": "ARI"}.get(name, name.replace("_", " "))
