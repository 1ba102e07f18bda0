"""The picture of the packages is that of the code, and their tables name what is there."""

import ast
import re
from pathlib import Path

import pytest

from docs.draw_architecture import PICTURE, draw, drawn, graph
from tests.support.imports import PACKAGE

TABLES = [
    path
    for path in PACKAGE.rglob("__init__.py")
    if re.search(r"^`\w", path.read_text(), re.MULTILINE)
]


def test_the_picture_shows_the_arrows_of_the_code() -> None:
    stale = "docs/architecture.svg is not of this code: run python -m docs.draw_architecture"
    assert drawn(PICTURE) == set(graph().edges), stale


@pytest.mark.slow
def test_a_drawn_picture_is_read_back(tmp_path) -> None:
    draw(tmp_path / "once.svg")
    draw(tmp_path / "again.svg")
    assert drawn(tmp_path / "once.svg") == set(graph().edges)
    assert (tmp_path / "once.svg").read_bytes() == (tmp_path / "again.svg").read_bytes()


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.parent.name)
def test_the_table_of_a_package_names_what_is_there(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    first = "\n".join(re.findall(r"^(`\w.*?)  ", docstring, re.MULTILINE))
    given = path.with_suffix(".pyi")
    public = set(re.findall(r"as (\w+)", given.read_text())) if given.exists() else set()
    there = {one.stem for one in path.parent.iterdir()} | public
    assert set(re.findall(r"`(\w+)`", first)) <= there
