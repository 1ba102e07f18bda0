"""Palettes that users give, as files of several kinds."""

import io
import json
import os
from pathlib import Path, PurePosixPath

import numpy as np

from kmdist.errors import ImageError, UsageError
from kmdist.images.finding.files import read_bytes
from kmdist.urls import is_url


def read_palette(path: str | Path) -> np.ndarray:
    """Read initial colours.

    Parameters
    ----------
    path : a ``.gpl``, ``.json`` or ``.npy`` file, or a run; or the URL of one.

    Returns
    -------
    (k, 3) float64, 0 … 255 sRGB; (k, 4) of palettes with alpha.

    Raises
    ------
    UsageError : no such file, or it holds no palette.
    """
    try:
        colors = np.asarray(_read(os.path.expanduser(path)), dtype=np.float64)
    except ImageError as error:
        raise UsageError(
            f"--init {str(path)!r}: {error.reason}; give random, k-means++, or a palette: .gpl, "
            ".json, .npy or a run"
        ) from error
    except (
        ValueError, LookupError, TypeError, AttributeError, OSError, EOFError, RecursionError,
        MemoryError,
    ) as error:  # fmt: skip
        raise UsageError(f"--init {path}: holds no palette ({error})") from error
    if colors.ndim != 2 or colors.shape[1] not in (3, 4) or not len(colors):
        raise UsageError(f"--init {path}: a palette is (k, 3) sRGB, found shape {colors.shape}")
    if not np.isfinite(colors).all() or colors.min() < 0 or colors.max() > 255:
        raise UsageError(f"--init {path}: colours must lie in 0 … 255")
    return colors


def _read(path: str) -> object:
    suffix = PurePosixPath(path).suffix.lower()
    if os.path.isdir(path) or (is_url(path) and suffix not in (".gpl", ".json", ".npy")):
        from kmdist.store import open_run

        return open_run(path).palette
    content = read_bytes(path)
    if suffix == ".npy":
        return np.load(io.BytesIO(content), allow_pickle=False)
    text = content.decode("utf-8")
    if suffix == ".json":
        entries = json.loads(text)["palette"]
        with_alpha = any("alpha" in entry for entry in entries)
        return [[*one["rgb"], *([one["alpha"]] if with_alpha else [])] for one in entries]
    rows = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 3 and all(word.isdigit() for word in words[:3]):
            rows.append([int(word) for word in words[:3]])
    return rows
