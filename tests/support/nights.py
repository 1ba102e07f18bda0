"""Nights over an input folder that a test fills, at a time that it sets."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from kmdist.nightly import Night, Settings, find, run_night

BLOCK = (64, 100)
"""An image that fills a block of 0.01 Mpx."""

START = datetime(2026, 3, 1, 1, 0, tzinfo=UTC)


class World:
    """An input folder, results, and a clock that a test sets."""

    def __init__(self, folder: Path) -> None:
        self.inbox = folder / "inbox"
        self.inbox.mkdir()
        self.now = START
        self.settings = Settings(
            (str(self.inbox),), folder / "results", options={"k": 4, "workers": 1}, grace=600
        )

    @property
    def results(self) -> Path:
        return self.settings.results

    def put(
        self, name: str, value: int = 0, age_s: float = 3600, shape: tuple[int, int] = (12, 16)
    ) -> Path:
        """A small photograph of its own colours, modified `age_s` before the present night."""
        path = self.inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(value)
        pixels = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        assert cv2.imwrite(str(path), pixels)
        return self.touch(path, age_s)

    def touch(self, path: Path, age_s: float = 3600) -> Path:
        then_s = self.now.timestamp() - age_s
        os.utime(path, (then_s, then_s))
        return path

    def night(self, **changes: Any) -> Night:
        """The next night: a day has gone by."""
        night = run_night(replace(self.settings, **changes), clock=lambda: self.now)
        self.now += timedelta(days=1)
        return night

    def state(self, name: str) -> Any:
        return find(self.results, self.inbox / name)["state"]
