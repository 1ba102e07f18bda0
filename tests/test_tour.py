"""The tour on the documentation's pages says what its commands print."""

import re
from pathlib import Path

import pytest

from docs.tour import DOCS, STOPS, Stop, printed, section

pytestmark = pytest.mark.slow
FIGURE = re.compile(r"\d[\d.,]*(e[+-]\d+)?%?|#[0-9a-f]{6}")


def _without_figures(text: str) -> str:
    return re.sub(" +", " ", FIGURE.sub("0", text))


@pytest.mark.parametrize("stop", STOPS[:3], ids=lambda stop: stop.title)
def test_the_tour_is_true(stop: Stop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits, which take longest, are run by the test of the README."""
    monkeypatch.chdir(tmp_path)
    now, page = section(stop, printed(stop)), (DOCS / "tour.rst").read_text("utf-8")
    if not stop.exact:
        now, page = _without_figures(now), _without_figures(page)
    assert now in page
    assert (tmp_path / stop.picture).exists()
    assert (DOCS / f"tour-{Path(stop.picture).stem}.webp").exists()
