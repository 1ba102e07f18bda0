"""Imports point down only, as the table says, and importing kmdist stays cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.folders import ROOT

PACKAGE = ROOT / "kmdist"

JOB = (
    "job",
    "cluster",
    "store",
    "images",
    "estimators",
    "filters",
    "engine",
    "options",
    "urls",
    "errors",
)
RECIPES = ("recipes/quantize", "recipes/texture", "recipes/digits")

# Package → the packages it may import. Two packages of one floor cannot import each other.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "errors": (),
    "urls": ("errors",),
    "options": ("errors",),
    "kernel_cache": (),
    "engine/kernels": ("kernel_cache",),
    "engine": ("engine/kernels", "errors"),
    "filters": ("kernel_cache", "errors"),
    "estimators": ("engine", "engine/kernels", "errors"),
    "images": ("urls", "errors"),
    "store": ("urls", "errors"),
    "cluster": ("engine", "options", "errors"),
    "job": JOB[1:],
    **dict.fromkeys(RECIPES, (*JOB, "engine/kernels", "kernel_cache")),
    "recipes": (*RECIPES, *JOB),
    "pictures": ("recipes", *RECIPES, *JOB, "kernel_cache"),
    "nightly": ("recipes", *JOB),
    "cli": ("nightly", "pictures", "recipes", *RECIPES, *JOB),
}


def package_of(module: str) -> str:
    """The row of the table that a module of kmdist belongs to, by its dotted name."""
    parts = module.split(".")[1:]
    for depth in (2, 1):
        name = "/".join(parts[:depth])
        if name in MAY_IMPORT:
            return name
    return name


def kmdist_imports(path: Path) -> set[str]:
    """Dotted names of the modules of kmdist that a file imports, in functions as well."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                raise AssertionError(f"{path}: relative import; write it in full")
            module = node.module or ""
            if module == "kmdist":
                found.update(f"kmdist.{alias.name}" for alias in node.names)
            elif module.startswith("kmdist."):
                found.add(module)
        elif isinstance(node, ast.Import):
            found.update(a.name for a in node.names if a.name.startswith("kmdist."))
    return found - {"kmdist.__version__"}


SOURCES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path.parent != PACKAGE or not path.name.startswith("__")
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = package_of(".".join(("kmdist", *path.relative_to(PACKAGE).with_suffix("").parts)))
    assert own in MAY_IMPORT, f"{path}: give the new package a row in the table"
    for module in kmdist_imports(path):
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
    (module,) = kmdist_imports(upward)
    assert package_of(module) == "recipes/quantize"
    assert package_of(module) not in MAY_IMPORT["engine"]


def test_importing_kmdist_is_light_and_changes_nothing() -> None:
    code = (
        "import os, sys; before = dict(os.environ); import kmdist;"
        "heavy = {'numpy', 'dask', 'distributed', 'numba', 'cv2', 'zarr', 'matplotlib'};"
        "print(sorted(heavy & set(sys.modules)), before == dict(os.environ))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "True"]
