"""Each recipe's job in two worker processes: is its peak what the job projected before it began?

``measured ≤ projected ≤ 1.5 × measured`` is to hold, measured over the whole tree of processes (see
`benchmarks.process`); exits with an error where it does not.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.process import measure
from benchmarks.public_data import DATA
from benchmarks.quantize_collection import hard_links, make_photographs, projected_bytes

LOOSEST = 1.5
"""Projected bytes for each measured one, at most."""

SEGMENT = ["segment", "-k", "8", "--max-iter", "10"]
"""Few iterations: what a job holds does not depend on their number."""

JOBS: dict[str, tuple[str, list[str]]] = {
    "quantize, shared": ("large", ["quantize", "-k", "256"]),
    "quantize, shared, pixels not kept": (
        "large",
        ["quantize", "-k", "256", "--keep-pixels", "never"],
    ),
    "quantize, per image": ("large", ["quantize", "-k", "64", "--per-image"]),
    "texture, gabor": ("middling", ["texture", "-k", "6", "--preset", "gabor", "--shared"]),
    "texture, textons": ("middling", ["texture", "-k", "6", "--preset", "textons", "--shared"]),
    "texture, color+texture": (
        "middling",
        ["texture", "-k", "6", "--preset", "color+texture", "--shared"],
    ),
    "texture, per image": ("middling", ["texture", "-k", "6"]),
    "digits": ("mnist", ["digits"]),
    "digits, gradient": ("mnist", ["digits", "--preset", "gradient", "-k", "10"]),
    "segment": ("bands", [*SEGMENT, "--scale", "standard"]),
    "segment, rows not kept": ("bands", [*SEGMENT, "--keep-pixels", "never"]),
    "segment, components, regions": ("scene", [*SEGMENT, "--components", "3", "--min-region", "9"]),
    "segment, per image": ("bands", [*SEGMENT, "--scale", "robust", "--per-image"]),
}
"""Inputs and command of each job."""


def make_bands(work: Path) -> Path:
    """Six images of eight 16-bit channels, 4 Mpx each."""
    import tifffile

    folder = work / "bands"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        coarse = rng.integers(200, 4000, (8, 64, 64))
        image = coarse.repeat(32, 1).repeat(32, 2) + rng.integers(0, 200, (8, 2048, 2048))
        path = folder / f"{number:02d}.tif"
        tifffile.imwrite(path, image.astype(np.uint16), photometric="minisblack", tile=(256, 256))
    return folder


def make_scene(work: Path) -> Path:
    """One image of four 16-bit channels, larger than a block."""
    import tifffile

    rng = np.random.default_rng(0)
    coarse = rng.integers(200, 4000, (4, 96, 96))
    image = coarse.repeat(64, 1).repeat(64, 2) + rng.integers(0, 200, (4, 6144, 6144))
    path = work / "scene.tif"
    tifffile.imwrite(path, image.astype(np.uint16), photometric="minisblack", tile=(256, 256))
    return path


def make_large(work: Path) -> Path:
    """Sixteen photographs of 12 Mpx."""
    hard_links(make_photographs(work / "of-large", 4000, 3000), work / "large", 16)
    return work / "large"


def make_middling(work: Path) -> Path:
    """Twelve photographs of 2 Mpx."""
    hard_links(make_photographs(work / "of-middling", 1600, 1200), work / "middling", 12)
    return work / "middling"


INPUTS: dict[str, Callable[[Path], Path]] = {
    "large": make_large,
    "middling": make_middling,
    "mnist": lambda _: DATA / "mnist" / "train-images-idx3-ubyte.gz",
    "bands": make_bands,
    "scene": make_scene,
}


def main(argv: list[str]) -> None:
    """Run the jobs whose names contain a word that is given, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks memory", description=__doc__)
    parser.add_argument("words", nargs="*", help="jobs to run: those whose names contain one")
    words = parser.parse_args(argv).words
    chosen = {name: job for name, job in JOBS.items() if not words or any(w in name for w in words)}
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        work, made = Path(folder), {}
        for name, (inputs, command) in chosen.items():
            made[inputs] = made.get(inputs) or INPUTS[inputs](work)
            if not run(name, [command[0], str(made[inputs]), *command[1:]], work / "run.zarr"):
                missed.append(name)
    if missed:
        sys.exit(f"projected less than measured, or over {LOOSEST} times: {', '.join(missed)}")


def run(name: str, command: list[str], output: Path) -> bool:
    """One job; whether its projection holds."""
    shutil.rmtree(output, ignore_errors=True)
    workers = ["--workers", "2", "--worker-kind", "process"]
    done = measure([sys.executable, "-m", "kmdist", *command, *workers, "-o", str(output)])
    if done.returncode:
        raise SystemExit(f"kmdist {' '.join(command)} failed:\n{done.stderr}")
    projected = projected_bytes(done)
    ratio = projected / done.peak_bytes
    print(
        f"{name:<36} {done.wall_s:6.1f} s  measured {done.peak_bytes / 1e9:5.2f} GB, "
        f"projected {projected / 1e9:5.2f} GB, {ratio:4.2f} x",
        flush=True,
    )
    return 1.0 <= ratio <= LOOSEST
