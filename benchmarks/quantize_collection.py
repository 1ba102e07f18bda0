"""`kmdist quantize` on whole collections against the floor: decode once, write once.

Parts (b), (c) and (d) of ``python -m benchmarks quantize``. Photographs are made from the Kodak
images: enlarged, with sensor noise, saved as JPEG of quality 90; hard links repeat them.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import zarr

from benchmarks.process import Measured, measure
from benchmarks.public_data import DATA

N_DISTINCT = 8


def make_photographs(folder: Path, width: int, height: int) -> list[Path]:
    """Eight JPEG photographs of the given size."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    paths = []
    for source in sorted((DATA / "kodak").glob("*.png"))[:N_DISTINCT]:
        image = cv2.imread(str(source))
        if image.shape[0] > image.shape[1]:
            image = np.ascontiguousarray(image.transpose(1, 0, 2))
        large = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
        noisy = large + rng.normal(0, 2.0, large.shape).astype(np.float32)
        path = folder / f"{source.stem}.jpg"
        cv2.imwrite(
            str(path), np.clip(noisy, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90]
        )
        paths.append(path)
    return paths


def hard_links(originals: list[Path], folder: Path, n: int) -> None:
    """A folder of `n` names for the given files."""
    folder.mkdir()
    for i in range(n):
        os.link(originals[i % len(originals)], folder / f"{i:06d}.jpg")


def decode_only(paths: list[str]) -> int:
    """Decode files; one process of the decoding floor."""
    return sum(cv2.imread(path, cv2.IMREAD_COLOR).size for path in paths)


def decode_and_write(task: tuple[list[str], dict[str, list[np.ndarray]], str]) -> int:
    """Decode files and write label arrays of the same content; one process of the floor."""
    paths, labels, output = task
    cv2.setNumThreads(1)
    codec = zarr.codecs.ZstdCodec(level=3, checksum=True)
    for path in paths:
        pixels = cv2.imread(path, cv2.IMREAD_COLOR)
        key = str(Path(path).stat().st_ino)
        group = zarr.create_group(f"{output}/{Path(path).name}")
        for level, content in enumerate(labels[key]):
            array = group.create_array(
                f"s{level}/labels",
                shape=content.shape,
                chunks=(1024, 1024),
                dtype=content.dtype,
                compressors=[codec],
                fill_value=0,
            )
            array[:] = content
        del pixels
    return len(paths)


def floor_seconds(folder: Path, run: Path | None, output: Path, n_processes: int) -> float:
    """Seconds of the floor; with a run, label arrays of its content are written too."""
    import time

    paths = sorted(str(path) for path in folder.iterdir())
    shares = [paths[i::n_processes] for i in range(n_processes)]
    labels: dict[str, list[np.ndarray]] = {}
    if run is not None:
        for path in paths[:N_DISTINCT]:
            group = zarr.open_group(
                str(run / "images" / Path(path).name / "labels" / "kmeans"), mode="r"
            )
            levels = sorted(name for name in group.group_keys())
            labels[str(Path(path).stat().st_ino)] = [group[f"{name}/labels"][:] for name in levels]
    context = get_context("spawn")
    with context.Pool(n_processes) as pool:
        pool.map(decode_only, [[path] for path in paths[:n_processes]])  # start-up is not counted
        started_s = time.perf_counter()
        if run is None:
            pool.map(decode_only, shares, chunksize=1)
        else:
            pool.map(
                decode_and_write, [(share, labels, str(output)) for share in shares], chunksize=1
            )
        return time.perf_counter() - started_s


TOUCH = """
import time, numpy as np, psutil
n = int(0.7 * psutil.virtual_memory().available) >> 25
started_s = time.perf_counter()
held = [np.ones(1 << 25, np.uint8) for _ in range(n)]
print((time.perf_counter() - started_s) / (n / 32))
"""


def back_memory() -> float:
    """Touch most of the free memory once and release it; seconds per GiB.

    A virtual machine whose host takes idle memory back pays for touching it again: 2 s a GiB
    where this was measured, against 0.2 s a GiB when the host still backs it. Runs that need
    gigabytes begin with memory that is backed; it costs what the kernel had cached of the disk.
    """
    done = subprocess.run([sys.executable, "-c", TOUCH], capture_output=True, text=True, check=True)
    return float(done.stdout)


def quantize(folder: Path, output: Path, *extra: str) -> Measured:
    """One `kmdist quantize -k 256` process and what it took."""
    shutil.rmtree(output, ignore_errors=True)
    done = measure(
        [
            sys.executable,
            "-m",
            "kmdist",
            "quantize",
            str(folder),
            "-o",
            str(output),
            "-k",
            "256",
            *extra,
        ]
    )
    if done.returncode:
        raise SystemExit(f"kmdist quantize failed:\n{done.stderr}")
    return done


def projected_bytes(done: Measured) -> float:
    """The projection that kmdist printed."""
    found = re.search(r"memory: projected peak ([\d.,]+) GB", done.stderr)
    return float(found.group(1).replace(",", "")) * 1e9 if found else float("nan")


def report(label: str, done: Measured, floor_s: float | None = None) -> None:
    """One line: seconds, ratio to the floor, memory against the projection."""
    ratio = f"  {done.wall_s / floor_s:5.2f} x floor ({floor_s:.1f} s)" if floor_s else ""
    print(
        f"{label:<42} {done.wall_s:7.1f} s{ratio}  peak {done.peak_bytes / 1e9:5.2f} GB of "
        f"{projected_bytes(done) / 1e9:5.2f} GB projected",
        flush=True,
    )


def large_photographs(work: Path, gpx: float) -> None:
    """Part (b): 12-Mpx JPEGs against decode and write."""
    originals = make_photographs(work / "large", 4000, 3000)
    n = int(np.ceil(gpx * 1e9 / 12e6))
    hard_links(originals, work / "b", n)
    print(f"memory first touched at {back_memory():.2f} s a GiB, then {back_memory():.2f}")
    print(f"(b) {n} JPEGs of 12 Mpx, {n * 12e6 / 1e9:.2f} Gpx, k = 256")
    kept = quantize(work / "b", work / "b.zarr")
    back_memory()
    floor_s = floor_seconds(work / "b", work / "b.zarr", work / "floor", os.cpu_count() or 1)
    shutil.rmtree(work / "floor")
    report("  --keep-pixels auto", kept, floor_s)
    back_memory()
    report(
        "  --keep-pixels never",
        quantize(work / "b", work / "b.zarr", "--keep-pixels", "never"),
        floor_s,
    )
    shutil.rmtree(work / "b.zarr")


def small_photographs(work: Path, n: int) -> None:
    """Part (c): many VGA JPEGs against decoding them once."""
    originals = make_photographs(work / "vga", 640, 480)
    hard_links(originals, work / "c", n)
    print(f"(c) {n} VGA JPEGs, k = 256")
    done = quantize(work / "c", work / "c.zarr")
    report("  kmdist quantize", done, floor_seconds(work / "c", None, work, os.cpu_count() or 1))
    shutil.rmtree(work / "c.zarr")


def flat_memory(work: Path, n: int) -> None:
    """Part (d): peak memory over 1, 4 and 16 times the files, pixels not kept."""
    originals = make_photographs(work / "medium", 2000, 1500)
    print("(d) peak memory, --keep-pixels never, worker processes")
    for factor in (1, 4, 16):
        folder = work / f"d{factor}"
        hard_links(originals, folder, n * factor)
        done = quantize(
            folder, work / "d.zarr", "--keep-pixels", "never", "--worker-kind", "process"
        )
        report(f"  {n * factor} images of 3 Mpx", done)
    shutil.rmtree(work / "d.zarr")


def main(argv: list[str]) -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks quantize_collection")
    parser.add_argument("--parts", default="bcd")
    parser.add_argument("--gpx", type=float, default=4.0, help="size of part (b)")
    parser.add_argument("--vga", type=int, default=20_000, help="files of part (c)")
    parser.add_argument("--medium", type=int, default=24, help="files of part (d), times 1, 4, 16")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        work = Path(name)
        if "b" in options.parts:
            large_photographs(work, options.gpx)
        if "c" in options.parts:
            small_photographs(work, options.vga)
        if "d" in options.parts:
            flat_memory(work, options.medium)


if __name__ == "__main__":
    main(sys.argv[1:])
