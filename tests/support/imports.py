"""Packages of kmdist, what they may import, and what they do import."""

import ast
from pathlib import Path

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
    "arguments",
    "urls",
    "typed_data",
    "errors",
    "yaml_files",
    "kernel_cache",
)
RECIPES = ("recipes/quantize", "recipes/texture", "recipes/digits", "recipes/segment")

# Package → the packages it may import. Two packages of one floor cannot import each other.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "errors": (),
    "typed_data": (),
    "arguments": ("errors",),
    "urls": ("errors",),
    "options": ("arguments", "typed_data", "errors"),
    "yaml_files": ("urls", "errors"),
    "kernel_cache": (),
    "engine/kernels": ("kernel_cache",),
    "engine": ("engine/kernels", "errors"),
    "filters": ("kernel_cache", "arguments", "errors"),
    "estimators": ("engine", "engine/kernels", "kernel_cache", "arguments", "errors"),
    "store": ("urls", "arguments", "typed_data", "errors"),
    "images": ("store", "urls", "arguments", "errors"),
    "cluster": ("engine", "options", "yaml_files", "urls", "errors"),
    "job": JOB[1:],
    **dict.fromkeys(RECIPES, (*JOB, "engine/kernels")),
    "recipes": (*RECIPES, *JOB),
    "pictures": ("recipes", *RECIPES, *JOB),
    "nightly": ("recipes", *JOB),
    "pages": ("nightly", "pictures", "recipes", *RECIPES, *JOB),
    "cli": ("pages", "nightly", "pictures", "recipes", *RECIPES, *JOB),
}


def package_of(module: str) -> str:
    """The row of the table that a module of kmdist belongs to, by its dotted name."""
    parts = module.split(".")[1:]
    for depth in (2, 1):
        name = "/".join(parts[:depth])
        if name in MAY_IMPORT:
            return name
    return name


def imports_of(path: Path, top: str = "kmdist") -> set[str]:
    """Dotted names of the modules of a package that a file imports, in functions as well."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                raise AssertionError(f"{path}: relative import; write it in full")
            module = node.module or ""
            if module == top or module.startswith(f"{top}."):
                found.update(_module_of(module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            found.update(a.name for a in node.names if a.name.startswith(f"{top}."))
    return found - {"kmdist.__version__"}


def _module_of(module: str, name: str) -> str:
    """What ``from module import name`` imports: a module below, or the module."""
    path = ROOT.joinpath(*module.split("."), name)
    below = path.is_dir() or path.with_suffix(".py").is_file()
    return f"{module}.{name}" if below or "." not in module else module


SOURCES = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if path.parent != PACKAGE or not path.name.startswith("__")
)


def arrows() -> set[tuple[str, str]]:
    """Pairs of packages of which the first imports the second."""
    pairs = {
        (package_of(dotted_name(path)), package_of(module))
        for path in SOURCES
        for module in imports_of(path)
    }
    return {(one, other) for one, other in pairs if one != other}


def dotted_name(path: Path) -> str:
    """Of the module in a file of kmdist."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
