"""Palettes that users give, as files of several kinds."""

import io
import json
import os
import re
from pathlib import Path, PurePosixPath

import numpy as np

from kmdist.errors import ImageError, UsageError
from kmdist.images import Found, decode, probe, to_rgb8
from kmdist.images.finding.files import read_bytes
from kmdist.recipes.quantize.kernels.histogram import count_colors
from kmdist.urls import is_url

MAX_COLORS = 256
"""Of a picture whose colours are a palette."""
SUFFIXES = (".gpl", ".json", ".npy", ".css", ".hex", ".txt")
ALLOWED = "a palette (.gpl, .json, .npy, or #rrggbb in .css, .hex, .txt), a picture, or a run"


def read_palette(path: str | Path, option: str = "init") -> np.ndarray:
    """Read colours.

    Parameters
    ----------
    path : a ``.gpl``, ``.json`` or ``.npy`` file; one that has colour codes (``.css``, ``.hex``,
        ``.txt``); a picture of few colours; or a run; or the URL of one.
    option : that named it.

    Returns
    -------
    (k, 3) float64, 0 … 255 sRGB; (k, 4) of palettes with alpha. Those of a picture are sorted.

    Raises
    ------
    UsageError : no such file, or it holds no palette.
    """
    try:
        colors = np.asarray(_read(os.path.expanduser(path)), dtype=np.float64)
    except ImageError as error:
        raise UsageError(
            f"--{option} {str(path)!r}: {error.reason}; give {ALLOWED}"
            + (", or random or k-means++" if option == "init" else "")
        ) from error
    except (
        ValueError, LookupError, TypeError, AttributeError, OSError, EOFError, RecursionError,
        MemoryError,
    ) as error:  # fmt: skip
        raise UsageError(f"--{option} {path}: holds no palette ({error})") from error
    if colors.ndim != 2 or colors.shape[1] not in (3, 4) or not len(colors):
        raise UsageError(f"--{option} {path}: a palette is (k, 3) sRGB, found shape {colors.shape}")
    if not np.isfinite(colors).all() or colors.min() < 0 or colors.max() > 255:
        raise UsageError(f"--{option} {path}: colours must lie in 0 … 255")
    return colors


def _read(path: str) -> object:
    suffix = PurePosixPath(path).suffix.lower()
    if os.path.isdir(path) or (is_url(path) and suffix not in SUFFIXES):
        from kmdist.store import open_run

        return open_run(path).palette
    if suffix not in SUFFIXES:
        return _colors_of_picture(path)
    content = read_bytes(path)
    if suffix == ".npy":
        return np.load(io.BytesIO(content), allow_pickle=False)
    text = content.decode("utf-8")
    if suffix == ".json":
        entries = json.loads(text)["palette"]
        with_alpha = any("alpha" in entry for entry in entries)
        return [[*one["rgb"], *([one["alpha"]] if with_alpha else [])] for one in entries]
    if suffix != ".gpl":
        codes = re.findall(r"(?<![0-9a-z])#?([0-9a-f]{6})(?![0-9a-z])", text.lower())
        return [list(bytes.fromhex(code)) for code in codes]
    rows = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 3 and all(word.isdigit() for word in words[:3]):
            rows.append([int(word) for word in words[:3]])
    return rows


def _colors_of_picture(path: str) -> np.ndarray:
    rgb, transparent = to_rgb8(decode(probe(Found(path, path))))
    colors = count_colors(rgb, transparent).rgb
    if len(colors) > MAX_COLORS:
        raise ValueError(
            f"{len(colors):,} colours, and a palette has at most {MAX_COLORS}; quantize it first"
        )
    return colors
