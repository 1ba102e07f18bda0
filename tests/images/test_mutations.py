"""Damaged files of every format: rejected or read, never a crash, a hang or another error.

`KMDIST_MUTATIONS` sets how many are tried; a run of 10,000 takes some minutes.
"""

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zarr

from kmdist.images import Found
from tests.support.damage import outcome
from tests.support.folders import ROOT
from tests.support.small_files import PICTURE, small_files

pytestmark = pytest.mark.slow

COUNT = int(os.environ.get("KMDIST_MUTATIONS", "300"))
PEAK_KIB = 1 << 20


def flip_bits(data: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def overwrite(data: bytearray, rng: random.Random) -> None:
    start, length = rng.randrange(len(data)), rng.randint(1, 16)
    value = rng.choice([b"\0", b"\xff", bytes([rng.randrange(256)])])
    data[start : start + length] = value * len(data[start : start + length])


def cut_out(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    del data[start : start + rng.randint(1, 32)]


def repeat(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data))
    data[start:start] = data[start : start + rng.randint(1, 64)]


def in_the_header(data: bytearray, rng: random.Random) -> None:
    data[rng.randrange(min(64, len(data)))] = rng.choice([0, 1, 127, 128, 255])


MUTATIONS: list[Callable[[bytearray, random.Random], None]] = [
    flip_bits,
    overwrite,
    cut_out,
    repeat,
    in_the_header,
]


def mutated(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        if changed:
            rng.choice(MUTATIONS)(changed, rng)
    return bytes(changed)


def in_a_process_of_its_own(campaign: str, *words: str) -> None:
    """Run a function of this module; its peak of memory is nobody else's."""
    code = (
        f"import sys; from {__name__} import {campaign}; {campaign}(*sys.argv[1:]);"
        "from tests.support.damage import peak_kib; print(peak_kib())"
    )
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.splitlines()[-1]) < PEAK_KIB


def mutate_files(folder: str) -> None:
    files = sorted(small_files().items())
    for seed in range(COUNT):
        rng = random.Random(seed)
        name, data = files[seed % len(files)]
        path = Path(folder, f"{seed}-{name}")
        path.write_bytes(mutated(data, rng))
        try:
            outcome(Found(path.name, str(path)))
        except BaseException as error:
            error.add_note(f"seed {seed}, {name}")
            raise
        path.unlink()


def mutate_zarr_metadata(folder: str, form: str) -> None:
    array = Path(folder, "a.zarr")
    zarr.create_array(array, data=PICTURE, chunks=(4, 8, 3), zarr_format=2 if form == "2" else 3)
    metadata = array / ("zarr.json" if form == "3" else ".zarray")
    whole = metadata.read_bytes()
    for seed in range(COUNT // 10):
        metadata.write_bytes(mutated(whole, random.Random(seed)))
        try:
            outcome(Found(array.name, str(array)))
        except BaseException as error:
            error.add_note(f"seed {seed}: {metadata.read_bytes()!r}")
            raise


def test_mutated_files(tmp_path: Path) -> None:
    in_a_process_of_its_own("mutate_files", str(tmp_path))


@pytest.mark.parametrize("form", ["2", "3"])
def test_mutated_zarr_metadata(tmp_path: Path, form: str) -> None:
    in_a_process_of_its_own("mutate_zarr_metadata", str(tmp_path), form)
