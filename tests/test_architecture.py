"""The picture of the packages is that of the code."""

import pytest

from docs.draw_architecture import PICTURE, draw, drawn, graph


def test_the_picture_shows_the_arrows_of_the_code() -> None:
    stale = "docs/architecture.svg is not of this code: run python -m docs.draw_architecture"
    assert drawn(PICTURE) == set(graph().edges), stale


@pytest.mark.slow
def test_a_drawn_picture_is_read_back(tmp_path) -> None:
    draw(tmp_path / "once.svg")
    draw(tmp_path / "again.svg")
    assert drawn(tmp_path / "once.svg") == set(graph().edges)
    assert (tmp_path / "once.svg").read_bytes() == (tmp_path / "again.svg").read_bytes()
