"""What each shortcut of the kernels is worth: the jobs that use it, with it and without it.

Each is switched off by what takes its place in a fresh process; results must not change by a bit
where both are exact. `sums`, `frame`, `manhattan`, `fidelity` and `moments` have no line: there is
no other way to what they compute, or it is another result.
"""

import argparse
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.kmeans import dataset, initial
from benchmarks.peers import measure
from benchmarks.public_data import DATA
from benchmarks.quantize_fit import read_rgb

Outcome = Callable[[], Any]
WORTH = 1.2
"""Times as long without it: what gains less on all its lines is to be deleted."""


@dataclass(frozen=True)
class Shortcut:
    """What is switched off, and the jobs that it is for.

    Parameters
    ----------
    module : of kmdist, where it is.
    instead : attribute → what takes its place, by their dotted names; or variables of the
        environment.
    jobs : names of `JOBS`.
    """

    module: str
    name: str
    instead: dict[str, str]
    jobs: tuple[str, ...]


_STEPS, _ASSIGN = "kmdist.engine.block_steps", "kmdist.engine.kernels.assign"
_PALETTE = "kmdist.recipes.quantize.palette"
SHORTCUTS = (
    Shortcut(
        "engine.kernels.projected, .subspace",
        "projections of rows",
        {f"{_STEPS}._projects": "never", f"{_STEPS}._begins_projected": "never"},
        ("784/10", "784/256", "784/1000"),
    ),
    Shortcut(
        "engine.kernels.projected, .subspace",
        "bounds for groups of centroids",
        {f"{_STEPS}.most_groups": "one_group"},
        ("784/256", "784/1000"),
    ),
    Shortcut(
        "engine.kernels.bounds",
        "bounds of rows",
        {f"{_STEPS}._wants_bounds": "only_projected"},
        ("48/6", "48/6 whole", "48/64 whole", "3/16 whole", "3/256"),
    ),
    Shortcut(
        "engine.kernels.bounds",
        "panels of neighbours",
        {f"{_STEPS}.panels_pay": "never"},
        ("48/64", "48/64 whole", "3/256"),
    ),
    Shortcut(
        "engine.kernels.nearest",
        "blocks in registers",
        {"KMDIST_PLAIN_KERNELS": "1"},
        ("48/6 plain", "48/64 plain", "784/10 plain", "784/256 plain"),
    ),
    Shortcut(
        "engine.kernels.columns",
        "vectors over rows of few features",
        {f"{_ASSIGN}.MAX_FEATURES": "zero"},
        ("3/16 plain", "3/64"),
    ),
    Shortcut(
        "engine.kernels.assign",
        "tiles read where they lie",
        {"kmdist.engine.rows.make_frame": "unfolded"},
        ("784/10",),
    ),
    Shortcut(
        "engine.kernels.sums",
        "sums that only rows that move change",
        {f"{_STEPS}.assign_lightly": "assign_afresh"},
        ("48/6",),
    ),
    Shortcut(
        "recipes.quantize.kernels.color_tree",
        "cells of colours",
        {f"{_PALETTE}.cloud.sum_chunk": "sum_by_rows"},
        ("palette 16", "palette 256"),
    ),
    Shortcut(
        "recipes.quantize.kernels.color_tree",
        "two levels of cells",
        {"kmdist.recipes.quantize.kernels.color_tree._NODE_SIZE": "huge"},
        ("palette 16", "palette 256"),
    ),
    Shortcut(
        "recipes.quantize.kernels.color_vectors",
        "vectors of eight colours",
        {"KMDIST_PLAIN_KERNELS": "1"},
        ("palette 16", "palette 256"),
    ),
    Shortcut(
        "recipes.quantize.palette.seeding",
        "over-relaxed steps",
        {f"{_PALETTE}.fit.pace": "one", f"{_PALETTE}.seeding.pace": "one"},
        ("palette 16", "palette 256"),
    ),
    Shortcut(
        "recipes.quantize.kernels.histogram",
        "table of colours",
        {"benchmarks.ablation.count": "count_by_sorting"},
        ("histogram",),
    ),
    Shortcut(
        "recipes.quantize.kernels.label_table",
        "table of labels",
        {"benchmarks.ablation.look_up": "look_up_by_search"},
        ("look-up",),
    ),
)


def main(argv: list[str]) -> None:
    """Print the time of each job with and without what it uses."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks ablation", description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000, help="of filter responses")
    parser.add_argument("--repeats", type=int, default=3, help="two at the least")
    parser.add_argument("--only", default="", help="shortcuts whose module contains this")
    options = parser.parse_args(argv)
    useless = []
    with tempfile.TemporaryDirectory() as folder:
        for shortcut in SHORTCUTS:
            if options.only in shortcut.module:
                ratios = [_compare(Path(folder), shortcut, job, options) for job in shortcut.jobs]
                useless += [shortcut.name] if max(ratios) < WORTH else []
    print(f"less than {WORTH} x on every line: {', '.join(useless) or 'none'}")


def _compare(folder: Path, shortcut: Shortcut, job: str, options: argparse.Namespace) -> float:
    arguments: dict[str, Any] = {"job": job, "files": _files(folder, job, options.rows)}
    environment = {name: to for name, to in shortcut.instead.items() if name.isupper()}
    attributes = {name: to for name, to in shortcut.instead.items() if not name.isupper()}
    function = "benchmarks.ablation:prepare"
    whole = measure(function, {**arguments, "instead": {}}, options.repeats)
    with mock.patch.dict(os.environ, environment):
        without = measure(function, {**arguments, "instead": attributes}, options.repeats)
    ratio = without.cpu_s / whole.cpu_s
    same = "same" if whole.result == without.result else f"{whole.result} -> {without.result}"
    print(
        f"{shortcut.module:38} {shortcut.name:34} {job:14} {whole.cpu_s:8.3f} s, without "
        f"{without.cpu_s:8.3f} s = {ratio:5.2f} x; {same}",
        flush=True,
    )
    return ratio


def _files(folder: Path, job: str, n: int) -> list[str]:
    shape = job.split()[0]
    if "/" not in shape:
        return [str(sorted((DATA / "kodak").glob("*.png"))[0])]
    d, k = map(int, shape.split("/"))
    rows = dataset(folder, {48: "responses", 784: "mnist", 3: "colours"}[d], n)
    return [str(rows), str(initial(folder, rows, k))]


def prepare(job: str, files: list[str], instead: dict[str, str]) -> Callable[[], Outcome]:
    """Switch off what is said, compile, and return the job, of which the first may compile too."""
    for name, to in instead.items():
        mock.patch(name, globals()[to]).start()
    return _fit(files, job) if "/" in job else _on_image(files[0], job)


def _fit(files: list[str], job: str) -> Callable[[], Outcome]:
    """25 iterations from the same centres; five of the plain pass, or as many as it takes."""
    from kmdist import KMeans

    X, init = np.load(files[0]), np.load(files[1])
    kind = job.partition(" ")[2]
    model = KMeans(
        len(init),
        init=init,
        max_iter={"plain": 5, "whole": 300}.get(kind, 25),
        tol=1e-4 if kind == "whole" else 0,
        algorithm="lloyd" if kind == "plain" else "auto",
    )
    model.fit(X[:: max(1, len(X) // 5000)])  # compiles, but for what few rows do not need

    def run() -> Outcome:
        model.fit(X)
        return lambda: model.inertia_

    return run


def _on_image(path: str, job: str) -> Callable[[], Outcome]:
    from kmdist.recipes.quantize.kernels.histogram import count_colors
    from kmdist.recipes.quantize.palette import ColorCloud, fit_palette

    image = read_rgb(Path(path))
    colors = count_colors(image)
    if job == "histogram":
        return lambda: _told(count(image))
    if job == "look-up":
        labels = (np.arange(len(colors)) % 256).astype(np.uint8)
        return lambda: _told(look_up(image, colors.codes, labels))

    def run() -> Outcome:
        palette = fit_palette(ColorCloud(colors), int(job.split()[1]))
        return lambda: palette.state.inertia

    return run


def _told(values: np.ndarray) -> Outcome:
    return lambda: int(values.astype(np.int64).sum())


def count(image: np.ndarray) -> np.ndarray:
    """Pixels of each colour."""
    from kmdist.recipes.quantize.kernels.histogram import count_colors

    return count_colors(image).counts


def look_up(image: np.ndarray, codes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The label of each pixel."""
    from kmdist.recipes.quantize.kernels.label_table import apply_table, borrowed_table

    with borrowed_table(codes, labels) as table:
        return apply_table(image, table)


def never(*_: Any) -> bool:
    """Instead of what decides whether to take a shortcut."""
    return False


zero = 0
huge = 1 << 30


def one(_: int) -> float:
    """The pace of Lloyd's own steps."""
    return 1.0


def only_projected(block: Any, memory: Any, centers: Any, frame: Any) -> bool:
    """Instead of `block_steps._wants_bounds`, where rows are projected alone."""
    from kmdist.engine.block_steps import _projects

    return memory.centroids is not None and _projects(block, memory, centers, frame)


def one_group(*_: Any) -> int:
    """Instead of `subspace.most_groups`."""
    return 1


def unfolded(moments: Any) -> Any:
    """Instead of `frame.make_frame`: rows are copied into each tile."""
    from kmdist.engine.kernels.frame import make_frame

    return make_frame(moments)._replace(fold=False)


def assign_afresh(*arguments: Any, sums: Any = None, **others: Any) -> Any:
    """Instead of `assign.assign_lightly`: all rows are added."""
    from kmdist.engine.kernels.assign import assign

    return assign(*arguments, **others)


def sum_by_rows(tree: Any, chunk: int, centroids: np.ndarray) -> np.ndarray:
    """Instead of `color_tree.sum_chunk`: each colour against all centroids, in registers."""
    from kmdist.engine.kernels.assign import assign
    from kmdist.engine.kernels.frame import make_frame, moments

    first, last = tree.leaf_starts[tree.node_starts[tree.chunk_starts[chunk : chunk + 2]]]
    points, weights = np.ascontiguousarray(tree.points[:, first:last].T), tree.weights[first:last]
    masses = weights.astype(np.float64)
    sums = assign(points, masses, centroids, make_frame(moments(points, masses)))
    return np.column_stack([sums.totals, sums.weights]).astype(tree.weights.dtype)


def count_by_sorting(image: np.ndarray) -> np.ndarray:
    """Instead of `histogram.count_colors`."""
    codes = image.reshape(-1, 3).astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    return np.unique(codes, return_counts=True)[1]


def look_up_by_search(image: np.ndarray, codes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Instead of `label_table`."""
    from kmdist.recipes.quantize.kernels.histogram import encode_colors

    found = np.searchsorted(codes, encode_colors(image.reshape(-1, 3)))
    return labels[found].reshape(image.shape[:2])
