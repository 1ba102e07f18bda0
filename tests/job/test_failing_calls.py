"""Every write, rename, sync and put of a run fails once: never a visible half, always resumable."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import fsspec
import numpy as np
import pytest

import kmdist
from kmdist.errors import KmdistError
from kmdist.store import open_run
from tests.support.failing_calls import failing

pytestmark = pytest.mark.slow

SHARE = float(os.environ.get("KMDIST_FAILING_CALLS", "0.03"))
"""Of all calls, so many fail in turn; 1: each of them."""

RECIPES: dict[str, Callable[..., Any]] = {
    "quantize": lambda folder, output, **o: kmdist.quantize(folder, output, k=3, **o),
    "quantize --per-image": lambda folder, output, **o: kmdist.quantize(
        folder, output, k=3, shared=False, **o
    ),
    "texture": lambda folder, output, **o: kmdist.texture(folder, output, k=2, shared=True, **o),
    "digits": lambda folder, output, **o: kmdist.digits(folder, output, k=2, preset="raw", **o),
    "segment": lambda folder, output, **o: kmdist.segment(folder, output, k=2, **o),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c", "d"):
        pixels = rng.integers(0, 4, (28, 28, 3), dtype=np.uint8) * 60
        assert cv2.imwrite(str(folder / f"{name}.png"), pixels)
    return str(folder)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_call_that_fails_on_disk(recipe: str, folder: str, tmp_path: Path) -> None:
    campaign(RECIPES[recipe], folder, lambda name: str(tmp_path / f"{name}.zarr"))


def test_a_call_that_fails_in_an_object_store(folder: str, tmp_path: Path) -> None:
    campaign(RECIPES["quantize"], folder, lambda name: f"memory://{tmp_path.name}/{name}.zarr")


def campaign(
    run: Callable[..., Any], folder: str, output: Callable[[str], str], workers: int = 1
) -> None:
    """Fail calls of a run one after the other, and resume it."""
    run(folder, output("first"), workers=workers)  # compiled kernels are written once
    with failing() as calls:
        run(folder, output("whole"), workers=workers)
    whole = content(output("whole"))
    count = len(calls.made)
    step = max(round(1 / SHARE), 1)
    offset = len(folder) % step
    assert count > 20
    for n in [*range(offset, count, step), count - 1]:
        where = output(f"n{n}")
        code = (errno.ENOSPC, errno.EIO)[n % 2]
        with failing(n, code) as tried:
            try:
                run(folder, where, workers=workers)
                failed = False
            except KmdistError:
                failed = True
        what = f"call {n} of {count}, {tried.made[n] if n < len(tried.made) else 'none'}"
        try:
            open_run(where)
            visible = True
        except KmdistError:
            visible = False
        assert visible or failed, what
        if visible:
            assert content(where) == whole, what
        run(folder, where, resume=True, workers=workers)
        assert content(where) == whole, what


def content(output: str) -> dict[str, Any]:
    """Objects of a run by key; of its record what does not tell the time."""
    fs, base = fsspec.url_to_fs(output)
    found = {}
    for path in fs.find(base):
        key = path[len(base) :].lstrip("/")
        if key.startswith("state/"):
            continue  # a claim in an object store that could not be withdrawn; it lapses
        data = fs.cat_file(path)
        if key == "zarr.json":
            data = json.loads(data)["attributes"]["kmdist"]
            data.pop("timings")
        found[key] = data
    return found
