"""Where the checkout and the public material lie."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
"""The checkout."""

DATA = Path(os.environ.get("KMDIST_DATA", ROOT.parent / "shared" / "data"))
"""The public material."""


def data_folder(name: str) -> Path:
    """A folder of the public material, or a skip that says what is missing."""
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"public material {name!r} is not there (KMDIST_DATA)")
    return folder
