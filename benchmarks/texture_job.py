"""The whole texture job against the walk-through's way done well; part of `benchmarks.texture`.

The walk-through: read a photograph in grey, filter it with all 48 kernels by `cv2.filter2D` in
float32, reshape, cluster all pixels with scikit-learn's `KMeans` (one start, in place), and save
the labels. Done for each photograph by itself, and for all of them with one set of clusters. Ours
filters, pools, fits, labels and writes a run, with the same k. Each side has a process of its own
on one core with one thread; time is without imports, memory is the process' largest resident size,
imports included.
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import Measured, measure

K = 6


def compare_jobs(folder: Path, repeats: int) -> None:
    """Print seconds of processor time and peak memory of ours and theirs."""
    paths = sorted(str(path) for path in folder.glob("*.png"))
    if not paths:
        print(f"whole job: no photographs in {folder}")
        return
    for shared in (False, True):
        how = "one set of clusters" if shared else "each by itself"
        print(f"{len(paths)} photographs, {how}, k = {K}, one thread")
        arguments: dict[str, Any] = {"paths": paths, "shared": shared}
        theirs = measure("benchmarks.texture_job:walk_through", arguments)
        print(f"  {'filter2D, KMeans on all pixels':32s} {figures(theirs)}")
        for preset in ("lm", "gabor", "textons"):
            ours = min(
                (
                    measure("benchmarks.texture_job:kmdist_job", {**arguments, "preset": preset})
                    for _ in range(repeats)
                ),
                key=lambda one: one.cpu_s,
            )
            print(
                f"  {f'kmdist texture --preset {preset}':32s} {figures(ours)}; "
                f"{theirs.cpu_s / ours.cpu_s:.1f} times faster, "
                f"1/{theirs.peak_bytes / ours.peak_bytes:.1f} of the memory",
                flush=True,
            )


def figures(measured: Measured) -> str:
    """Time and memory as text."""
    return (
        f"{measured.cpu_s:6.2f} s CPU, {measured.elapsed_s:6.2f} s, peak "
        f"{measured.peak_bytes / 1e6:5.0f} MB ({measured.input_bytes / 1e6:.0f} before it began)"
    )


def kmdist_job(paths: list[str], shared: bool, preset: str) -> Callable[[], Callable[[], Any]]:
    """Our side, for `measure`."""
    import kmdist

    folder = Path(tempfile.mkdtemp())

    def run() -> Callable[[], int]:
        made = kmdist.texture(
            paths,
            folder / "run.zarr",
            k=K,
            preset=preset,
            shared=shared,
            workers=1,
            worker_kind="thread",
            overwrite=True,
        )

        def finish() -> int:
            n_images = len(made.images)
            shutil.rmtree(folder)
            return n_images

        return finish

    return run


def walk_through(paths: list[str], shared: bool) -> Callable[[], Callable[[], Any]]:
    """Their side, for `measure`."""
    import cv2
    from sklearn.cluster import KMeans

    from kmdist.filters import leung_malik

    kernels = leung_malik().kernels.astype(np.float32)
    cv2.setNumThreads(1)
    folder = Path(tempfile.mkdtemp())

    def responses(path: str, out: np.ndarray) -> None:
        grey = cv2.imread(path, cv2.IMREAD_GRAYSCALE).astype(np.float32)
        stack = out.reshape(*grey.shape, len(kernels))
        for index, kernel in enumerate(kernels):
            stack[..., index] = cv2.filter2D(grey, cv2.CV_32F, kernel)

    def run() -> Callable[[], int]:
        groups = [paths] if shared else [[path] for path in paths]
        for group in groups:
            sizes = [cv2.imread(path, cv2.IMREAD_GRAYSCALE).shape for path in group]
            ends = np.cumsum([height * width for height, width in sizes])
            rows = np.empty((ends[-1], len(kernels)), np.float32)
            for path, part in zip(group, np.split(rows, ends[:-1]), strict=True):
                responses(path, part)
            labels = KMeans(K, n_init=1, random_state=0, copy_x=False).fit(rows).labels_
            for path, size, part in zip(group, sizes, np.split(labels, ends[:-1]), strict=True):
                np.save(folder / f"{Path(path).stem}.npy", part.astype(np.uint8).reshape(size))

        def finish() -> int:
            shutil.rmtree(folder)
            return len(paths)

        return finish

    return run
