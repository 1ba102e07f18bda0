"""Texture: the filter bank against OpenCV, and the whole job against the walk-through done well.

    python -m benchmarks texture [--part bank|job|all] [--repeats 5]

CPU time of one thread; both sides in one run, in turn, best of the repeats. The job's peers have a
process each, see `benchmarks.texture_job`. Quality is measured
by ``python -m benchmarks texture_quality``.
"""

import argparse
import time
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.public_data import DATA
from benchmarks.texture_job import compare_jobs
from kmdist.filters import FilterBank, gabor, leung_malik, pieces, with_halo
from kmdist.filters.cells import CELL, average_cells


def main(argv: list[str]) -> None:
    """Print the comparisons asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks texture")
    parser.add_argument("--part", choices=("bank", "job", "all"), default="all")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(argv)
    cv2.setNumThreads(1)
    if options.part != "job":
        compare_banks(options.repeats)
    if options.part != "bank":
        compare_jobs(DATA / "kodak", options.repeats)


def compare_banks(repeats: int) -> None:
    """ns per pixel for all magnitudes of a bank, averaged over cells as they are made."""
    photo = cv2.imread(str(DATA / "kodak" / "kodim01.png"), cv2.IMREAD_GRAYSCALE)
    noise = np.random.default_rng(0).random((2048, 2048), dtype=np.float32)
    images = {"2048 × 2048": noise}
    if photo is not None:
        images[f"{photo.shape[0]} × {photo.shape[1]} photograph"] = photo.astype(np.float32)
    kernels = leung_malik().kernels.astype(np.float32)
    for name, image in images.items():
        ours = lambda image=image: consume(image, leung_malik())  # noqa: E731
        theirs = lambda image=image: opencv(image, kernels)  # noqa: E731
        pairs = lambda image=image: consume(image, gabor())  # noqa: E731
        times = fastest([ours, theirs, pairs], repeats)
        nanoseconds = [1e9 * t / image.size for t in times]
        print(
            f"{name}: 48 |responses| {nanoseconds[0]:.0f} ns per pixel; 48 cv2.filter2D float32 "
            f"{nanoseconds[1]:.0f}: {times[1] / times[0]:.2f} times; "
            f"36 Gabor magnitudes {nanoseconds[2]:.0f}"
        )


def fastest(functions: list[Callable[[], object]], repeats: int) -> list[float]:
    """CPU seconds of the fastest of several calls of each, the functions taking turns."""
    best = [float("inf")] * len(functions)
    for function in functions:
        function()  # spectra and compiled code are kept
    for _ in range(repeats):
        for index, function in enumerate(functions):
            started_s = time.thread_time()
            function()
            best[index] = min(best[index], time.thread_time() - started_s)
    return best


def consume(image: NDArray[np.float32], bank: FilterBank) -> NDArray[np.float32]:
    """All magnitudes of a bank, each averaged over cells of 4 × 4 px when it is made."""
    padded = with_halo(image, (0, 0, *image.shape), bank.halo)
    shape = (-(-image.shape[0] // CELL), -(-image.shape[1] // CELL), bank.n_features)
    cells = np.empty(shape, np.float32)
    for piece in pieces(padded, bank, CELL):
        average_cells(piece, cells, quadrature=bank.quadrature)
    return cells


def opencv(image: NDArray[np.float32], kernels: NDArray[np.float32]) -> None:
    """The peer: every response by itself, thrown away."""
    for kernel in kernels:
        cv2.filter2D(image, cv2.CV_32F, kernel)
