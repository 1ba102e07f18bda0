"""Palettes that users give, as files of several kinds."""

import json
from pathlib import Path

import numpy as np

from kmdist.errors import UsageError


def read_palette(path: str | Path) -> np.ndarray:
    """Read initial colours.

    Parameters
    ----------
    path : a ``.gpl``, ``.json`` or ``.npy`` file, or a run.

    Returns
    -------
    (k, 3) float64, 0 … 255 sRGB; (k, 4) of palettes with alpha.

    Raises
    ------
    UsageError : no such file, or it holds no palette.
    """
    path = Path(path)
    if not path.exists():
        raise UsageError(
            f"--init {str(path)!r}: neither random, k-means++ nor a file; a palette is .gpl, "
            ".json, .npy or a run"
        )
    try:
        colors = np.asarray(_read(path), dtype=np.float64)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UsageError(f"--init {path}: holds no palette ({error})") from error
    if colors.ndim != 2 or colors.shape[1] not in (3, 4) or not len(colors):
        raise UsageError(f"--init {path}: a palette is (k, 3) sRGB, found shape {colors.shape}")
    if not np.isfinite(colors).all() or colors.min() < 0 or colors.max() > 255:
        raise UsageError(f"--init {path}: colours must lie in 0 … 255")
    return colors


def _read(path: Path) -> object:
    if path.is_dir():
        from kmdist.store import open_run

        return open_run(path).palette
    if path.suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if path.suffix == ".json":
        entries = json.loads(path.read_text("utf-8"))["palette"]
        with_alpha = any("alpha" in entry for entry in entries)
        return [[*one["rgb"], *([one["alpha"]] if with_alpha else [])] for one in entries]
    rows = []
    for line in path.read_text("utf-8").splitlines():
        words = line.split()
        if len(words) >= 3 and all(word.isdigit() for word in words[:3]):
            rows.append([int(word) for word in words[:3]])
    return rows
