"""Imports point down only, as the design fixes it, and importing kmdist stays cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "kmdist"

# Lower number: lower layer. A module may import its own layer and those below it.
LAYERS = {
    "errors": 0,
    "kernels": 1,
    "color": 1,
    "filters": 1,
    "digit_features": 1,
    "projection": 1,
    "landmarks": 1,
    "relabel": 1,
    "blas": 1,
    "state": 2,
    "passes": 2,
    "rows": 3,
    "dask_rows": 3,
    "block_steps": 3,
    "seeding": 3,
    "coreset": 3,
    "medians": 3,
    "lloyd": 3,
    "palette": 3,
    "filtering": 4,
    "texture_model": 3,
    "digit_labels": 4,
    "digit_model": 4,
    "images": 4,
    "stacks": 4,
    "store": 4,
    "inputs": 4,
    "centroid_model": 4,
    "parameters": 4,
    "estimators": 4,
    "merging": 4,
    "hierarchy": 4,
    "spread": 4,
    "selection": 4,
    "scores": 4,
    "cluster": 5,
    "recipes": 5,
    "nightly": 6,
    "cli": 6,
}
LEAVES = {
    "kernels",
    "color",
    "filters",
    "digit_features",
    "projection",
    "landmarks",
    "relabel",
    "blas",
}


def module_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def kmdist_imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{path}: relative import; write it in full")
        if isinstance(node, ast.ImportFrom) and node.module == "kmdist":
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kmdist."):
            found.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            found.update(
                alias.name.split(".")[1] for alias in node.names if alias.name.startswith("kmdist.")
            )
    return found - {"__version__"}


SOURCES = sorted(
    path for path in ROOT.rglob("*.py") if path.parent != ROOT or not path.name.startswith("__")
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    own = module_of(path)
    assert own in LAYERS, f"{path}: give the new module a layer"
    for other in kmdist_imports(path) - {own}:
        assert other in LAYERS, f"{path} imports kmdist.{other}, which has no layer"
        assert LAYERS[other] <= LAYERS[own], f"{path} imports kmdist.{other}, which is above it"
        assert own not in LEAVES, f"{path} imports kmdist.{other}; kernels import nothing of kmdist"


def test_the_check_can_fail(tmp_path: Path) -> None:
    upward = tmp_path / "kernels.py"
    upward.write_text("from kmdist.recipes import quantize\n")
    assert kmdist_imports(upward) == {"recipes"}
    assert LAYERS["recipes"] > LAYERS["kernels"]


def test_importing_kmdist_is_light_and_changes_nothing() -> None:
    code = (
        "import os, sys; before = dict(os.environ); import kmdist;"
        "heavy = {'numpy', 'dask', 'distributed', 'numba', 'cv2', 'zarr', 'matplotlib'};"
        "print(sorted(heavy & set(sys.modules)), before == dict(os.environ))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "True"]
