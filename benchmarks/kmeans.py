"""k-means on rows in memory, one thread, against every peer from the same initial centres."""

import argparse
import gzip
import subprocess
import tempfile
import warnings
from pathlib import Path

import numpy as np

from benchmarks.peers import Measured, measure
from benchmarks.public_data import DATA, TRAIN

CASES = {
    "48/64": ("responses", 64),
    "48/6": ("responses", 6),
    "784/10": ("mnist", 10),
    "784/256": ("mnist", 256),
    "784/1000": ("mnist", 1000),
    "3/16": ("colours", 16),
}
SEEDING = {"responses": 64, "mnist": 64, "colours": 64}
_FEW, _MANY = 2, 12
_SLOW = ("opencv", "dask-ml")
_SLOW_MANY, _SLOW_ROWS = 5, 200_000
"""The time an iteration of slow peers is measured on fewer iterations and rows, and scaled."""
_NO_TOLERANCE = ("faiss", "opencv", "dask-ml")
"""Peers without a relative tolerance to stop by: they do as many iterations as scikit-learn."""


def main(argv: list[str]) -> None:
    """Print seconds per iteration, whole fits and seeding of every peer, as ratios to ours."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks kmeans", description=__doc__)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument(
        "--peers",
        default="kmdist,kmdist lloyd,sklearn,sklearn elkan,sklearnex,faiss,superkmeans,opencv,"
        "dask-ml",
    )
    parser.add_argument(
        "--part", choices=("iterations", "fit", "seeding", "beyond", "all"), default="all"
    )
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--rows", type=int, default=1_000_000, help="of filter responses")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--seeding", default=",".join(SEEDING), help="data that are seeded")
    options = parser.parse_args(argv)
    cases = [case for case in options.cases.split(",") if case]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.part in ("iterations", "all"):
            for case in cases:
                compare_iterations(folder, case, options)
        if options.part in ("fit", "all"):
            compare_fit(folder, options)
        if options.part in ("seeding", "all"):
            compare_seeding(folder, options)
        if options.part in ("beyond", "all"):
            compare_beyond(folder, options)


def dataset(folder: Path, kind: str, n: int) -> Path:
    """Rows as a file: filter responses, MNIST's digits, or colours; made once."""
    path = folder / f"{kind}.npy"
    if not path.exists():
        rows = {"responses": responses, "mnist": mnist, "colours": colours}[kind](n)
        np.save(path, np.ascontiguousarray(rows, dtype=np.float32))
    return path


def responses(n: int) -> np.ndarray:
    """|responses| of photographs to 48 oriented filters, n rows."""
    import cv2

    kernels = []
    for sigma in (1.4, 2.8, 4.2):
        axis = np.arange(-24, 25, dtype=np.float64)
        x, y = np.meshgrid(axis, axis)
        for turn in range(6):
            c, s = np.cos(np.pi * turn / 6), np.sin(np.pi * turn / 6)
            u, v = c * x + s * y, c * y - s * x
            bell = np.exp(-(u**2) / (18 * sigma**2) - v**2 / (2 * sigma**2))
            kernels += [-v * bell, (v**2 / sigma**2 - 1) * bell]
    for sigma in (1.0, 1.4, 2.0, 2.8, 3.5, 4.2):
        bell = np.exp(-(x**2 + y**2) / (2 * sigma**2))
        kernels += [bell, (x**2 + y**2 - 2 * sigma**2) * bell]
    parts = []
    photographs = _photographs()
    for grey in photographs:
        stack = [
            np.abs(cv2.filter2D(grey, cv2.CV_32F, kernel / np.abs(kernel).sum()))
            for kernel in kernels
        ]
        parts.append(np.stack(stack, axis=-1).reshape(-1, len(kernels)))
    rows = np.concatenate(parts)
    chosen = np.random.default_rng(0).choice(len(rows), n, replace=n > len(rows))
    return rows[np.sort(chosen)]


def _photographs() -> list[np.ndarray]:
    import cv2

    paths = sorted((DATA / "kodak").glob("*.png"))[:4]
    images = [cv2.imread(str(path)) for path in paths]
    if not images:
        from skimage import data

        images = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
    return [cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32) for image in images]


def mnist(_: int) -> np.ndarray:
    """MNIST's 60,000 training images; random blobs of that shape where they are missing."""
    path = TRAIN
    if not path.exists():
        warnings.warn(f"{path} is missing: random blobs stand in for MNIST", stacklevel=2)
        from sklearn.datasets import make_blobs

        return make_blobs(60_000, 784, centers=30, cluster_std=8, random_state=0)[0]
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784)


def colours(n: int) -> np.ndarray:
    """Ten times n rows of three floats in clusters."""
    random = np.random.default_rng(1)
    centres = random.random((40, 3)) * 255
    rows = centres[random.integers(0, 40, 10 * n)].astype(np.float32)
    return rows + random.normal(scale=12, size=rows.shape).astype(np.float32)


def initial(folder: Path, rows: Path, k: int) -> Path:
    """k distinct rows as initial centres."""
    path = folder / f"{rows.stem}-{k}.npy"
    if not path.exists():
        X = np.load(rows, mmap_mode="r")
        chosen = np.random.default_rng(k).choice(len(X), 8 * k, replace=False)
        distinct = np.unique(np.asarray(X[np.sort(chosen)]), axis=0)
        order = np.random.default_rng(0).permutation(len(distinct))[:k]
        np.save(path, distinct[order])
    return path


def compare_iterations(folder: Path, case: str, options: argparse.Namespace) -> None:
    """Seconds per iteration: the difference of two fits by the difference of their iterations."""
    kind, k = CASES[case]
    rows = dataset(folder, kind, options.rows)
    init = initial(folder, rows, k)
    shape = np.load(rows, mmap_mode="r").shape
    print(f"\n{case}: {shape[0]:,} × {shape[1]}, k = {k}; seconds per iteration, one thread")
    floor = measure("benchmarks.kmeans_peers:prepare_roofline", {"rows": str(rows), "k": k}).result
    floor_s = max(floor["sgemm_s"], floor["read_s"])
    print(
        f"  roofline: sgemm {2e-9 * shape[0] * shape[1] * k / floor['sgemm_s']:.0f} GFLOP/s, "
        f"{floor['sgemm_s']:.4f} s; reading {1e-9 * floor['bytes'] / floor['read_s']:.1f} GB/s, "
        f"{floor['read_s']:.4f} s",
        flush=True,
    )
    ours = 0.0
    for peer in options.peers.split(","):
        many, limit = (_SLOW_MANY, _SLOW_ROWS) if peer in _SLOW else (_MANY, shape[0])
        try:
            few = _fit(peer, rows, init, _FEW, options.repeats, limit)
            more = _fit(peer, rows, init, many, options.repeats, limit)
        except subprocess.CalledProcessError as error:
            print(f"  {peer:14s} failed: {error}")
            continue
        steps = max(more.result["iterations"] - few.result["iterations"], 1)
        share = min(limit, shape[0]) / shape[0]
        seconds = (more.cpu_s - few.cpu_s) / steps / share
        ours = ours or seconds
        print(
            f"  {peer:14s} {seconds:.4f} s = {seconds / ours:6.2f} × the first, "
            f"{floor_s / seconds:.2f} of the roofline; fit of {many}: {more.cpu_s:.3f} s, "
            f"{(more.peak_bytes - more.input_bytes) / 2**20:.0f} MiB beyond the input; inertia "
            f"{more.result['inertia']:.6g}" + (f" ({share:.0%} of the rows)" if share < 1 else ""),
            flush=True,
        )


def _fit(peer: str, rows: Path, init: Path, iterations: int, repeats: int, limit: int) -> Measured:
    arguments = {
        "peer": peer,
        "rows": str(rows),
        "init": str(init),
        "iterations": iterations,
        "limit": limit,
    }
    return measure("benchmarks.kmeans_peers:prepare", arguments, repeats)


def compare_fit(folder: Path, options: argparse.Namespace) -> None:
    """The whole fit of MNIST at k = 10 to convergence (tol 1e-4), from the same centres."""
    rows = dataset(folder, "mnist", options.rows)
    init = initial(folder, rows, 10)
    print("\n784/10: the whole fit to convergence (tol 1e-4)")
    arguments = {"rows": str(rows), "init": str(init)}
    ours, reference = 0.0, 300
    for peer in options.peers.split(","):
        alone = peer in _NO_TOLERANCE
        stop = {"iterations": reference if alone else 300, "tol": 0.0 if alone else 1e-4}
        done = measure(
            "benchmarks.kmeans_peers:prepare", {**arguments, **stop, "peer": peer}, options.repeats
        )
        ours = ours or done.cpu_s
        if peer == "sklearn":
            reference = done.result["iterations"]
        print(
            f"  {peer:14s} {done.cpu_s:.3f} s = {done.cpu_s / ours:5.2f} × kmdist; "
            f"{done.result['iterations']} iterations{' (set)' if alone else ''}, inertia "
            f"{done.result['inertia']:.7g}",
            flush=True,
        )


def compare_seeding(folder: Path, options: argparse.Namespace) -> None:
    """Time of seeding, and the mean final inertia from it, over seeds."""
    print(f"\nseeding: means of {options.seeds} seeds")
    for kind in options.seeding.split(","):
        k = SEEDING[kind]
        rows = dataset(folder, kind, options.rows)
        seeding = "benchmarks.kmeans_peers:prepare_seeding"
        ours, theirs = (_means(seeding, peer, rows, k, options.seeds) for peer in _SEEDERS)
        print(
            f"  {kind} k = {k}: {ours[0]:.3f} s, final inertia {ours[1]:.6g}; scikit-learn's "
            f"k-means++ {theirs[0]:.3f} s = {theirs[0] / ours[0]:.0f} ×, {theirs[1]:.6g} "
            f"({100 * (ours[1] / theirs[1] - 1):+.2f} % ours)",
            flush=True,
        )


_SEEDERS, _IMPROVERS = ("kmdist", "sklearn"), ("kmdist", "bkmeans")
_BEYOND_SEEDS = 3


def _means(prepare: str, peer: str, rows: Path, k: int, seeds: int) -> tuple[float, float]:
    """CPU seconds and final inertia, means over seeds."""
    asked = {"peer": peer, "rows": str(rows), "k": k}
    runs = [measure(prepare, {**asked, "seed": seed}) for seed in range(seeds)]
    seconds = float(np.mean([run.cpu_s for run in runs]))
    return seconds, float(np.mean([run.result["inertia"] for run in runs]))


def compare_beyond(folder: Path, options: argparse.Namespace) -> None:
    """``refine='breathing'`` beside bkmeans (m = 5) on ten data sets, means of three seeds."""
    print(f"\nbeyond the local optimum: means of {_BEYOND_SEEDS} seeds")
    for name, k in _BEYOND.items():
        path = folder / f"beyond-{name}.npy"
        np.save(path, _beyond_rows(folder, name, k, options.rows).astype(np.float32))
        beyond = "benchmarks.kmeans_peers:prepare_beyond"
        ours, theirs = (_means(beyond, peer, path, k, _BEYOND_SEEDS) for peer in _IMPROVERS)
        print(
            f"  {name:10s} k = {k:3d}: {ours[0]:.2f} s, inertia {ours[1]:.6g}; bkmeans "
            f"{theirs[0]:.2f} s = {theirs[0] / ours[0]:.1f} ×, {theirs[1]:.6g} "
            f"({100 * (ours[1] / theirs[1] - 1):+.3f} % ours)",
            flush=True,
        )


_BEYOND = {
    "blobs": 50,
    "many blobs": 100,
    "grid": 100,
    "spiral": 70,
    "uniform": 80,
    "uneven": 60,
    "heavy tail": 50,
    "colours": 64,
    "mnist": 50,
    "responses": 64,
}
_SHARES = {"colours": 400, "mnist": 12, "responses": 100}
"""One row of so many is taken."""


def _beyond_rows(folder: Path, name: str, k: int, n: int) -> np.ndarray:
    if name in _SHARES:
        return np.load(dataset(folder, name, n))[:: _SHARES[name]]
    random = np.random.default_rng(0)
    if name == "uniform":
        return random.random((8000, 2))
    if name == "heavy tail":
        return random.standard_t(3, size=(8000, 2))
    if name == "spiral":
        turn = random.random(5000) * 6 * np.pi
        rows = np.stack([turn * np.cos(turn), turn * np.sin(turn)], axis=1)
        return rows + random.normal(scale=0.3, size=rows.shape)
    sizes = random.random(k) ** 3 if name == "uneven" else np.ones(k)
    spread = 0.002 + 0.05 * random.random(k) if name == "uneven" else np.full(k, 0.02)
    centres = random.random((k, 2))
    if name == "grid":
        centres = np.stack(np.divmod(np.arange(k), 10), axis=1) / 10
        spread = np.full(k, 0.01)
    of = random.choice(k, 100 * k, p=sizes / sizes.sum())
    return centres[of] + spread[of, None] * random.normal(size=(len(of), 2))
