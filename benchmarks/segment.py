"""A large multispectral scene on workers of little memory; and exact Lloyd on a small one.

    python -m benchmarks segment FOLDER [--side 20000] [--exact-side 4096] [--workers 2] ...

Writes a scene of 8 channels in 16 bits, 3 % of it without data, tile by tile; clusters it on worker
processes of 1.5 GiB and prints what each used; times against it reading the file once with tifffile
on as many processes, and scikit-learn's mini-batches fed by tile. Then exact Lloyd on the corner of
the scene, from the file to labels on the disk, against scikit-learn's. What of the file was in the
system's page cache is said of each time; ``--cold`` takes it out before each.
"""

import argparse
import ctypes
import mmap
import os
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from benchmarks.texture_large import Peaks, say, workers

TILE_PX = 512
N_CHANNELS = 8
K = 8
NO_DATA_SHARE = 0.03


def main(argv: list[str]) -> None:
    """Make the scenes unless they are there, cluster and compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks segment")
    parser.add_argument("folder", type=Path, help="for the scenes and the runs")
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--exact-side", type=int, default=4_096)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory", default="1.5GiB")
    parser.add_argument("--block-mpx", type=float, default=16.0)
    parser.add_argument("--cold", action="store_true", help="read from the disk, each time anew")
    parser.add_argument("--without", nargs="*", default=[], help="of: scene minibatch exact")
    options = parser.parse_args(argv)
    options.folder.mkdir(parents=True, exist_ok=True)
    if "exact" not in options.without:
        compare_exact(options)
    if "scene" not in options.without:
        segment_large(options)


def tiles(side: int) -> Iterator[np.ndarray]:
    """Tiles in the order of a TIFF: fields with spectra of their own, a corner without data."""
    rng = np.random.default_rng(0)
    spectra = rng.integers(800, 9_000, (3 * K, N_CHANNELS))
    noise = rng.normal(0, 250, (TILE_PX, TILE_PX, N_CHANNELS))
    reach = side * np.sqrt(2 * NO_DATA_SHARE)
    for y0 in range(0, side, TILE_PX):
        for x0 in range(0, side, TILE_PX):
            kinds = np.kron(rng.integers(0, len(spectra), (8, 8)), np.ones((64, 64), int))
            turned = np.roll(noise, tuple(rng.integers(0, TILE_PX, 2)), (0, 1))
            tile = np.clip(spectra[kinds] + turned, 1, 65_535).astype(np.uint16)
            y, x = np.ogrid[y0 : y0 + TILE_PX, x0 : x0 + TILE_PX]
            tile[y + x < reach] = 0
            yield tile


def scene_of(folder: Path, side: int) -> Path:
    """The scene of a size; written unless it is there."""
    path = folder / f"scene-{side}.tif"
    if not path.exists():
        partial = path.with_suffix(".partial")
        with tifffile.TiffWriter(partial, bigtiff=True) as writer:
            writer.write(
                tiles(side),
                shape=(side, side, N_CHANNELS),
                dtype=np.uint16,
                tile=(TILE_PX, TILE_PX),
                photometric="minisblack",
                planarconfig="contig",
                extratags=[(42113, "s", 0, "0", True)],
            )
        partial.rename(path)
    print(f"{path.name}: {path.stat().st_size / 1e9:.2f} GB", flush=True)
    return path


def cached_share(path: Path) -> float:
    """Of a file's pages, those in the page cache (`mincore` of Linux)."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        pages = np.zeros(-(-len(mapped) // mmap.PAGESIZE), np.uint8)
        view = np.frombuffer(mapped, np.uint8)
        address, size = ctypes.c_void_p(view.ctypes.data), ctypes.c_size_t(len(mapped))
        failed = ctypes.CDLL(None).mincore(address, size, ctypes.c_void_p(pages.ctypes.data))
        del view
    if failed:
        raise OSError(f"mincore of {path}")
    return float((pages & 1).mean())


def timed(
    what: str, function: Callable[[], Any], path: Path, *, cold: bool = False
) -> tuple[float, Any]:
    """Seconds that a function takes of a file, and what it returns."""
    if cold:
        with path.open("rb") as file:
            os.fsync(file.fileno())  # pages that are not yet written stay
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    share = cached_share(path)
    started_s = time.perf_counter()
    result = function()
    elapsed_s = time.perf_counter() - started_s
    print(f"{what}: {elapsed_s:.1f} s, {share:.0%} of the file in the page cache", flush=True)
    return elapsed_s, result


def segment_large(options: argparse.Namespace) -> None:
    """The job on workers of little memory, reading, and mini-batches."""
    import kmdist

    path = scene_of(options.folder, options.side)
    read_s, _ = timed(
        f"reading once with tifffile, {options.workers} processes",
        lambda: read_once(path, options.workers),
        path,
        cold=options.cold,
    )
    with workers(options.workers, options.memory) as (client, processes):
        peaks = Peaks(processes)

        def job() -> Any:
            with peaks:
                return kmdist.segment(
                    path,
                    options.folder / "large.zarr",
                    k=K,
                    block_mpx=options.block_mpx,
                    client=client,
                    overwrite=True,
                    watch=say,
                )

        job_s, run = timed("kmdist segment", job, path, cold=options.cold)
    for pid, samples in peaks.samples.items():
        fifths = np.array_split(np.array(samples), 5)
        each = ", ".join(f"{part.max() / 1e6:.0f}" for part in fifths if len(part))
        print(f"worker {pid}: peak {max(samples) / 1e6:.0f} MB; by fifths of the time {each}")
    print(f"stages: {run.attributes['timings']}; {job_s / read_s:.1f} times reading", flush=True)
    if "minibatch" not in options.without:
        mini_s, inertia = timed(
            "MiniBatchKMeans fed by tile", lambda: mini_batches(path), path, cold=options.cold
        )
        print(
            f"kmdist is {mini_s / job_s:.1f} times as fast; inertia of kmdist over that of "
            f"mini-batches {run.inertia / inertia:.4f}",
            flush=True,
        )


def read_once(path: Path, processes: int) -> None:
    """Read and decode every tile."""
    with get_context("spawn").Pool(processes) as pool:
        pool.starmap(read_share, [(path, part, processes) for part in range(processes)])


def read_share(path: Path, part: int, parts: int) -> int:
    """Tiles of one process; their sum of first values, so that they are used."""
    return sum(int(tile[0, 0, 0]) for tile in tiles_of(path, part, parts))


def tiles_of(path: Path, part: int = 0, parts: int = 1) -> Iterator[np.ndarray]:
    """(y, x, c) tiles of a share of the file."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        share = np.array_split(np.arange(len(page.dataoffsets)), parts)[part]
        for index in share.tolist():
            tiff.filehandle.seek(page.dataoffsets[index])
            data = tiff.filehandle.read(page.databytecounts[index])
            segment, _, _ = page.decode(data, index)
            yield segment[0]


def mini_batches(path: Path) -> float:
    """Fit and label by tile; the inertia of all pixels with data."""
    from sklearn.cluster import MiniBatchKMeans

    model = MiniBatchKMeans(K, random_state=0, n_init=3)
    for tile in tiles_of(path):
        rows = tile[tile.any(axis=2)].astype(np.float32)
        if len(rows) >= K:
            model.partial_fit(rows)
    inertia = 0.0
    for tile in tiles_of(path):
        rows = tile[tile.any(axis=2)].astype(np.float32)
        if len(rows):
            inertia += inertia_of(rows, model.cluster_centers_, model.predict(rows))
    return inertia


def compare_exact(options: argparse.Namespace) -> None:
    """Exact Lloyd from the file to labels on the disk, from the same first centres."""
    import kmdist

    path = scene_of(options.folder, options.exact_side)
    whole = tifffile.imread(path)
    valid = whole[whole.any(axis=2)]
    start = valid[np.random.default_rng(0).choice(len(valid), K, replace=False)].astype(np.float64)
    del whole, valid
    own: dict[str, Any] = {"k": K, "init": start, "tol": 1e-4, "keep_pixels": "always"}
    kmdist.segment(path, options.folder / "exact.zarr", overwrite=True, max_iter=1, **own)
    own_s, run = timed(
        "kmdist segment, exact",
        lambda: kmdist.segment(path, options.folder / "exact.zarr", overwrite=True, **own),
        path,
        cold=options.cold,
    )

    def theirs() -> Any:
        from sklearn.cluster import KMeans

        scene = tifffile.imread(path)
        valid = scene.any(axis=2)
        fit = KMeans(K, init=start, n_init=1, tol=1e-4).fit(scene[valid].astype(np.float32))
        labels = np.full(valid.shape, 255, np.uint8)
        labels[valid] = fit.labels_
        tifffile.imwrite(options.folder / "labels.tif", labels, compression="zlib")
        return fit

    their_s, fit = timed("scikit-learn KMeans, from file to file", theirs, path, cold=options.cold)
    whole = tifffile.imread(path)
    rows = whole[whole.any(axis=2)]
    theirs_sum = inertia_of(rows, fit.cluster_centers_, fit.labels_)  # its own is summed in float32
    print(
        f"{their_s / own_s:.1f} times as fast; iterations {run.n_iter} and {fit.n_iter_}, inertia "
        f"ratio {run.inertia / theirs_sum:.9f}; stages {run.attributes['timings']}",
        flush=True,
    )


def inertia_of(rows: np.ndarray, centroids: np.ndarray, labels: np.ndarray) -> float:
    """Sum of the squared distances of rows to the centroids of their labels, in float64."""
    parts = zip(np.array_split(rows, 64), np.array_split(labels, 64), strict=True)
    return float(sum(((part - centroids[of]) ** 2.0).sum(dtype=np.float64) for part, of in parts))
