"""`kmdist nightly report`."""

from pathlib import Path

import numpy as np
from PIL import Image

from kmdist.nightly import Settings, run_night
from kmdist.pages.night_report import night_report


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
