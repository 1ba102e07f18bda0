"""One large texture mosaic, by tile, on workers of little memory.

    python -m benchmarks texture_large [--side 20000] [--workers 2] [--block-mpx 4] ...

Writes a mosaic of synthetic textures as a compressed tiled TIFF, tile by tile; segments it on
worker processes of 1.5 GiB; prints the projection and what each worker used, fifth by fifth of the
time. ``--against RUN.zarr`` compares the labels with an earlier run's, a window at a time.
"""

import argparse
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import tifffile
import zarr

from benchmarks.process import tree_memory_bytes

TILE_PX = 512
PERIOD_PX = 1024
N_TEXTURES = 6


def main(argv: list[str]) -> None:
    """Make the mosaic unless it is there, segment it, compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks texture_large")
    parser.add_argument("folder", type=Path, help="for the mosaic and the runs")
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory", default="1.5GiB")
    parser.add_argument("--block-mpx", type=float, default=4.0)
    parser.add_argument("--preset", default="textons")
    parser.add_argument("--run", default="run.zarr", help="name of the run")
    parser.add_argument("--against", help="name of the run to compare with")
    options = parser.parse_args(argv)
    options.folder.mkdir(parents=True, exist_ok=True)
    mosaic = options.folder / f"mosaic-{options.side}.tif"
    if not mosaic.exists():
        write_mosaic(mosaic, options.side)
    print(f"{mosaic.name}: {mosaic.stat().st_size / 1e6:.0f} MB", flush=True)
    segment(mosaic, options)
    if options.against:
        compare(options.folder / options.against, options.folder / options.run, mosaic.name)


def textures() -> np.ndarray:
    """(N_TEXTURES, period, period) uint8: noise in bands of scale and direction, repeating."""
    rng = np.random.default_rng(0)
    frequency = np.fft.fftfreq(PERIOD_PX)
    fy, fx = frequency[:, None], frequency[None, :]
    made = []
    for number in range(N_TEXTURES):
        radius, angle = (0.05, 0.11, 0.22)[number % 3], np.pi * (number // 3) / 3
        along = fx * np.cos(angle) + fy * np.sin(angle)
        across = fy * np.cos(angle) - fx * np.sin(angle)
        band = np.exp(-((np.abs(along) - radius) ** 2 + (across / 2) ** 2) / (0.3 * radius) ** 2)
        noise = np.fft.fft2(rng.normal(size=(PERIOD_PX, PERIOD_PX)))
        texture = np.fft.ifft2(noise * band).real
        made.append(np.clip(128 + 40 * texture / texture.std(), 0, 255))
    return np.array(made).round().astype(np.uint8)


def tiles(side: int) -> Iterator[np.ndarray]:
    """The mosaic's tiles in the order of a TIFF: Voronoi regions, each of one texture."""
    rng = np.random.default_rng(1)
    material = textures()
    n_sites = max(8, (side // 500) ** 2 // 4)
    sites = (rng.random((n_sites, 2)) * side).astype(np.float32)
    kinds = rng.integers(0, N_TEXTURES, n_sites)
    for y0 in range(0, side, TILE_PX):
        for x0 in range(0, side, TILE_PX):
            centre = np.array([y0, x0]) + TILE_PX / 2
            distance = np.hypot(*(sites - centre).T)
            near = np.flatnonzero(distance <= distance.min() + 1.5 * TILE_PX)
            y, x = np.ogrid[y0 : y0 + TILE_PX, x0 : x0 + TILE_PX]
            squares = [(y - sy) ** 2 + (x - sx) ** 2 for sy, sx in sites[near]]
            kind = kinds[near][np.argmin(squares, axis=0)]
            yield material[kind, y % PERIOD_PX, x % PERIOD_PX]


def write_mosaic(path: Path, side: int) -> None:
    """Write the mosaic, holding one tile at a time."""
    partial = path.with_suffix(".partial")
    with tifffile.TiffWriter(partial, bigtiff=True) as writer:
        writer.write(
            tiles(side),
            shape=(side, side),
            dtype=np.uint8,
            tile=(TILE_PX, TILE_PX),
            compression="deflate",
            predictor=True,
            photometric="minisblack",
        )
    partial.rename(path)


def segment(mosaic: Path, options: argparse.Namespace) -> None:
    """Run the job and say what it took."""
    import kmdist

    with workers(options.workers, options.memory) as (client, processes):
        peaks = Peaks(processes)
        started_s = time.perf_counter()
        with peaks:
            kmdist.texture(
                mosaic,
                options.folder / options.run,
                k=N_TEXTURES,
                preset=options.preset,
                block_mpx=options.block_mpx,
                client=client,
                overwrite=True,
                watch=say,
            )
        elapsed_s = time.perf_counter() - started_s
    for pid, samples in peaks.samples.items():
        fifths = np.array_split(np.array(samples), 5)
        each = ", ".join(f"{part.max() / 1e6:.0f}" for part in fifths if len(part))
        print(f"worker {pid}: peak {max(samples) / 1e6:.0f} MB; by fifths of the time {each}")
    own = psutil.Process().memory_info().rss
    print(
        f"{options.run}: {options.side} px a side, {options.workers} workers of {options.memory}, "
        f"blocks of {options.block_mpx} Mpx: {elapsed_s:.0f} s; workers' peaks together "
        f"{sum(max(one) for one in peaks.samples.values()) / 1e6:.0f} MB, this process "
        f"{own / 1e6:.0f} MB",
        flush=True,
    )


def say(event: Any) -> None:
    """Print messages, and each stage's end."""
    total = getattr(event, "total", None)
    if total is None:
        print(f"  {event.text}", flush=True)
    elif total and event.done == total:
        print(f"  {event.stage}: {total} {event.unit}", flush=True)


class workers:  # noqa: N801 - read as a function
    """A Dask cluster of worker processes of one thread and limited memory."""

    def __init__(self, count: int, memory: str) -> None:
        self.count, self.memory = count, memory

    def __enter__(self) -> tuple[Any, list[int]]:
        from distributed import Client, LocalCluster

        self.cluster = LocalCluster(
            n_workers=self.count,
            threads_per_worker=1,
            memory_limit=self.memory,
            dashboard_address=None,
        )
        self.client = Client(self.cluster)
        pids = [int(pid) for pid in self.client.run(lambda: __import__("os").getpid()).values()]
        return self.client, pids

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.cluster.close()


class Peaks:
    """Samples the memory (PSS) of processes four times a second."""

    def __init__(self, pids: list[int]) -> None:
        self.samples: dict[int, list[int]] = {pid: [] for pid in pids}
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._finished.wait(0.25):
            for pid, found in self.samples.items():
                found.append(tree_memory_bytes(pid))

    def __enter__(self) -> "Peaks":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finished.set()
        self._thread.join()


def compare(one: Path, other: Path, name: str) -> None:
    """Count the pixels that have other labels."""
    key = f"images/{name}/labels/kmeans/s0/labels"
    first, second = zarr.open_array(str(one / key)), zarr.open_array(str(other / key))
    different = 0
    for y in range(0, first.shape[0], 2048):
        different += int(np.count_nonzero(first[y : y + 2048] != second[y : y + 2048]))
    pixels = first.shape[0] * first.shape[1]
    print(
        f"{other.name} against {one.name}: {different:,} of {pixels:,} labels differ "
        f"({different / pixels * 1e6:.2f} in 10⁶)"
    )


if __name__ == "__main__":
    cv2.setNumThreads(1)
