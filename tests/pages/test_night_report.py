"""`kmdist nightly report`."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kmdist.errors import KmdistError
from kmdist.nightly import Settings, run_night, status
from kmdist.nightly.ledger import LEDGER, Ledger
from kmdist.pages.night_report import night_report
from tests.support.folders import ROOT
from tests.support.permissions import as_user


def test_the_page_of_a_night_lists_images_models_and_quarantine(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(photos / "a.png")
    (photos / "<b>bad.png").write_bytes(b"\x89PNG\r\n\x1a\n none")
    options = {"k": 3, "workers": 1}
    settings = Settings((str(photos),), tmp_path / "results", options=options, grace=0)
    night = run_night(settings)
    text = night_report(tmp_path / "results", tmp_path / "nights.html").read_text("utf-8")
    assert night.done == 1
    assert f'<th scope="row">{night.stamp}</th>' in text
    assert "0001" in text
    assert "&lt;b&gt;bad.png" in text
    assert "<b>bad" not in text


@pytest.mark.slow
def test_what_cannot_be_written_is_read_all_the_same(tmp_path: Path) -> None:
    """Somebody who may look and not write; the ledger's log is gone with the last night."""
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "photos" / "a.png")
    results = tmp_path / "results"
    options = {"k": 2, "workers": 1}
    run_night(Settings((str(tmp_path / "photos"),), results, options=options, grace=0))
    look = "import sys; from pathlib import Path; from kmdist.nightly import status, verify;"
    look += "found = Path(sys.argv[1]); print(status(found)['files'], verify(found))"
    results.chmod(0o555)
    done = subprocess.run(
        as_user([sys.executable, "-c", look, str(results)]),
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    results.chmod(0o755)
    assert (done.stdout, done.stderr) == ("{'done': 1} []\n", "")


@pytest.mark.parametrize("text", ['{"a', "[1]", "{}", '{"stamp": 5}', "[" * 100_000, ""])
def test_the_record_of_a_night_that_is_damaged(tmp_path: Path, text: str) -> None:
    with Ledger.open(tmp_path / LEDGER):
        (tmp_path / "nights").mkdir()
        (tmp_path / "nights" / "20260101T000000Z.json").write_text(text)
    for read in (status, lambda results: night_report(results, tmp_path / "nights.html")):
        with pytest.raises(KmdistError, match=r"20260101T000000Z.json is damaged: .* be removed"):
            read(tmp_path)
