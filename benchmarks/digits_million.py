"""A million digits made on the fly, on two workers of little memory: linear time, flat memory.

    python -m benchmarks digits_million [--images 60000,1000000] [--limit 1.5GiB]

Images are MNIST's under small seeded affine maps; none is stored.
"""

import argparse
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import psutil

from benchmarks.process import tree_memory_bytes
from benchmarks.public_data import TRAIN
from kmdist.recipes.digits.stacks import open_stack


@lru_cache(maxsize=1)
def _originals() -> tuple[np.ndarray, np.ndarray]:
    stack, _ = open_stack(TRAIN)
    return stack.read(0, stack.n), np.asarray(stack.classes)


@dataclass(frozen=True)
class Augmented:
    """MNIST's training images, over and over, each under a map that its number alone decides.

    Rotation up to 10°, shear up to 0.2, scale 0.9 to 1.1, shift up to 2 px.
    """

    n: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """n, height, width."""
        return self.n, 28, 28

    @property
    def dtype(self) -> str:
        """uint8."""
        return "uint8"

    def read(self, start: int, stop: int) -> np.ndarray:
        """Images as (m, 28, 28)."""
        images, _ = _originals()
        out = np.empty((stop - start, 28, 28), np.uint8)
        for image, number in zip(out, range(start, stop), strict=True):
            chance = np.random.Generator(np.random.Philox(key=[7, number])).uniform(-1, 1, 5)
            turn, scale = np.deg2rad(10 * chance[0]), 1 + 0.1 * chance[1]
            cosine, sine = np.cos(turn) / scale, np.sin(turn) / scale
            linear = np.array([[cosine, -sine + 0.2 * chance[2]], [sine, cosine]])
            offset = 13.5 - linear @ [13.5, 13.5] + 2 * chance[3:]
            matrix = np.concatenate([linear, offset[:, None]], axis=1)
            flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
            image[:] = cv2.warpAffine(images[number % len(images)], matrix, (28, 28), flags=flags)
        return out

    def identity(self) -> Sequence[Any]:
        """The seed."""
        return ["augmented MNIST", 7]


def main(argv: list[str]) -> None:
    """Run each size on a cluster of its own."""
    parser = argparse.ArgumentParser(prog="benchmarks digits_million", description=__doc__)
    parser.add_argument("--images", default="60000,1000000")
    parser.add_argument("--limit", default="1.5GiB", help="memory of a worker")
    parser.add_argument("--preset", default="landmark")
    parser.add_argument("--keep-pixels", default="auto", help="auto, always or never: rows kept")
    options = parser.parse_args(argv)
    per_image = []
    for n in map(int, options.images.split(",")):
        wall_s, cpu_s = run(n, options)
        per_image.append((n, wall_s / n, cpu_s / n))
    first = per_image[0]
    for n, wall_s, cpu_s in per_image[1:]:
        print(
            f"an image of {n:,} takes {wall_s / first[1]:.3f} of the wall time and "
            f"{cpu_s / first[2]:.3f} of the CPU time of one of {first[0]:,}"
        )


def run(n: int, options: argparse.Namespace) -> tuple[float, float]:
    """Wall and CPU seconds of one size."""
    from distributed import Client, LocalCluster

    from kmdist.job.progress import Message
    from kmdist.recipes.digits.recipe import digits
    from kmdist.recipes.digits.scores import score_labels

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=options.limit, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        pids = [worker.pid for worker in cluster.workers.values()]
        digits("sample:digits", preset=options.preset, k=2, client=client)  # compile kernels
        client.run(_originals)
        peaks, stop = [0], threading.Event()

        def sample() -> None:
            while not stop.wait(0.2):
                peaks[0] = max(peaks[0], *(tree_memory_bytes(pid) for pid in pids))

        thread = threading.Thread(target=sample, daemon=True)
        thread.start()
        before_s, started_s = _cpu_s(pids), time.perf_counter()
        done = digits(
            Augmented(n),
            preset=options.preset,
            k=10,
            keep_pixels=options.keep_pixels,
            client=client,
            watch=lambda said: print(f"  {said.text}") if isinstance(said, Message) else None,
        )
        wall_s, cpu_s = time.perf_counter() - started_s, _cpu_s(pids) - before_s
        stop.set()
        thread.join()
        same = sorted(pids) == sorted(worker.pid for worker in cluster.workers.values())
    classes = np.resize(_originals()[1], n)
    accuracy = score_labels(np.asarray(done.labels()[:]), classes).accuracy_hungarian
    print(
        f"{n:,} images, {options.preset}: {wall_s:.0f} s, {cpu_s:.0f} s CPU "
        f"({1e6 * cpu_s / n:.0f} µs an image), peak of a worker {peaks[0] / 2**20:.0f} MiB of "
        f"{options.limit}, workers {'not ' if same else ''}restarted, one-to-one accuracy "
        f"{accuracy:.4f}; stages {done.attributes['timings']}",
        flush=True,
    )
    return wall_s, cpu_s


def _cpu_s(pids: Sequence[int]) -> float:
    """CPU seconds of workers and of this process."""
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(one.user + one.system for one in times) + time.process_time()
