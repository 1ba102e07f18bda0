"""Small runs as an earlier version wrote them, kept for ever in `tests/store/format_1`."""

import zipfile
from pathlib import Path

from tests.support.folders import ROOT

FOLDER = ROOT / "tests" / "store" / "format_1"
KEPT = sorted(path.stem for path in FOLDER.glob("*.zip"))


def unpack(name: str, folder: Path) -> Path:
    """Unpack a kept run as ``NAME.zarr``."""
    path = folder / f"{name}.zarr"
    with zipfile.ZipFile(FOLDER / f"{name}.zip") as packed:
        packed.extractall(path)
    return path
