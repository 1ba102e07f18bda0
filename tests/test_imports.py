"""Imports point down only, as the table says, and importing kmdist stays cheap."""

import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.folders import ROOT
from tests.support.imports import (
    MAY_IMPORT,
    PACKAGE,
    SOURCES,
    dotted_name,
    imports_of,
    package_of,
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = package_of(dotted_name(path))
    assert own in MAY_IMPORT, f"{path}: give the new package a row in the table"
    for module in imports_of(path):
        other = package_of(module)
        allowed = other == own or other in MAY_IMPORT[own]
        assert allowed, f"{path} imports {module}, which {own} may not"


def test_the_table_has_no_cycle() -> None:
    done: set[str] = set()
    while len(done) < len(MAY_IMPORT):
        ready = {p for p, below in MAY_IMPORT.items() if p not in done and set(below) <= done}
        assert ready, f"packages import each other: {sorted(set(MAY_IMPORT) - done)}"
        done |= ready


def test_the_check_can_fail(tmp_path: Path) -> None:
    upward = tmp_path / "lloyd.py"
    upward.write_text("from kmdist.recipes.quantize.recipe import quantize\n")
    (module,) = imports_of(upward)
    assert package_of(module) == "recipes/quantize"
    assert package_of(module) not in MAY_IMPORT["engine"]


@pytest.mark.parametrize("top", ["kmdist", "benchmarks", "tests"])
def test_no_modules_import_each_other(top: str) -> None:
    """Nor do imports in functions."""
    files = (ROOT / top).rglob("*.py")
    imported = {dotted_name(path): imports_of(path, top) for path in files}
    assert list(graphlib.TopologicalSorter(imported).static_order())


@pytest.mark.parametrize("top", ["benchmarks", "tests"])
def test_nothing_imports_a_test_and_no_test_a_benchmark(top: str) -> None:
    for path in (ROOT / top).rglob("*.py"):
        for module in imports_of(path, "tests"):
            assert module.startswith("tests.support"), f"{path} imports {module}"
        if top == "tests":
            assert not imports_of(path, "benchmarks"), path


@pytest.mark.slow
def test_jobs_import_nothing_that_takes_longer_than_a_photograph(tmp_path: Path) -> None:
    """Of scikit-image CIEDE2000 alone: 15 ms, since SciPy's algebra is there already."""
    code = (
        "import sys, numpy as np, cv2, kmdist\n"
        "cv2.imwrite('a.png', np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))\n"
        "for recipe in (kmdist.quantize, kmdist.segment, kmdist.texture):\n"
        "    recipe('a.png', recipe.__name__ + '.zarr', k=2, workers=1)\n"
        "heavy = {'sklearn', 'pandas', 'matplotlib', 'distributed', 'xarray'}\n"
        "of_color = {'color', 'exposure', 'util', '_shared', '_vendored'}\n"
        "skimage = {name.split('.')[1] for name in sys.modules if name.startswith('skimage.')}\n"
        "print(sorted(heavy & set(sys.modules) | skimage - of_color))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_importing_kmdist_is_light_and_changes_nothing() -> None:
    code = (
        "import os, sys; before = dict(os.environ); import kmdist;"
        "heavy = {'numpy', 'dask', 'distributed', 'numba', 'cv2', 'zarr', 'matplotlib'};"
        "print(sorted(heavy & set(sys.modules)), before == dict(os.environ))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "True"]
