"""What palettes a quantize job is asked for, those of files among them."""

import io
import json
import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from kmdist.engine.fits import find_elbow
from kmdist.errors import ImageError, UsageError, quantity
from kmdist.images import Found, decode, probe, to_rgb8
from kmdist.images.finding.files import read_bytes
from kmdist.job.image_fits import WantedClusters
from kmdist.recipes.quantize.kernels.histogram import Colors, count_colors
from kmdist.recipes.quantize.options import MAX_K, QuantizeOptions
from kmdist.recipes.quantize.palette import (
    ColorCloud,
    Palette,
    PaletteOptions,
    fit_palette,
    fit_to_psnr,
    palette_for,
    psnr,
)
from kmdist.recipes.quantize.transparency import OVER_WHITE, Transparency
from kmdist.urls import is_url

SCORED = 16
"""Numbers of colours that are tried where one is to be chosen."""
SCORING_ITERATIONS = 8
"""Of the fits that are tried: PSNR is then within 0.1 dB of what it comes to."""


@dataclass(frozen=True)
class Wanted(WantedClusters):
    """What palettes are wanted: some numbers of colours, a range to choose from, or a quality.

    Of a range the number at the knee of the quality is chosen.

    Parameters
    ----------
    psnr_db : quality to reach with the fewest colours found, or None.
    space : colour space of distances.
    fit : how each palette is fitted.
    transparency : what becomes of it.
    strict : refuse what cannot reach `psnr_db`, instead of coming as near as can be.
    """

    psnr_db: float | None
    space: str
    fit: PaletteOptions
    transparency: Transparency = OVER_WHITE
    strict: bool = False

    def parameters(self, options: QuantizeOptions) -> dict[str, Any]:
        """What a run records of its options."""
        init = self.fit.init
        return {
            "k": list(self.choices or self.ks) if options.psnr is None else None,
            "choose": bool(self.choices),
            **options.record("metric", "psnr", "shared", "space"),
            **self.transparency.record(),
            **({"lock": self.fit.locked.tolist()} if len(self.fit.locked) else {}),
            "init": init if isinstance(init, str) else np.asarray(init).tolist(),
            **options.fitting,
            **({"refine": options.refine} if options.refine else {}),
            **({"fit_only": True} if options.fit_only else {}),
        }

    @property
    def at_most(self) -> tuple[int, ...]:
        """As of any recipe; `MAX_K` where a quality decides."""
        return super().at_most if self.psnr_db is None else (MAX_K,)

    def cloud(self, colors: Colors, threads: int = 1) -> ColorCloud:
        """Colours in the space of distances."""
        return ColorCloud.of(colors, self.space, threads, alpha=self.transparency.alpha)

    def fit_all(
        self, colors: Colors, weighted: Colors, threads: int = 1, on_state: Any = None
    ) -> dict[int, Palette]:
        """Fit every palette that is wanted, by the number of colours asked for.

        Parameters
        ----------
        colors : of all pixels, which are labelled and counted.
        weighted : as masks weigh them, which are fitted; empty: without masks.
        """
        cloud = self.cloud(colors, threads)
        if not len(weighted):
            return self._fit_all(cloud, on_state)
        fits = self._fit_all(self.cloud(weighted, threads), on_state)
        return {k: palette_for(cloud, fit, self.fit) for k, fit in fits.items()}

    def _fit_all(self, cloud: ColorCloud, on_state: Any) -> dict[int, Palette]:
        if self.psnr_db is not None:
            return {0: self._reach(cloud, self.psnr_db)}
        if self.choices:
            return {0: self._choose(cloud, on_state)}
        return {k: fit_palette(cloud, k, self.fit, on_state=on_state) for k in self.ks}

    def _reach(self, cloud: ColorCloud, psnr_db: float) -> Palette:
        """The palette that reaches a quality; its `selection` tells what it reaches."""
        palette, reached, below = fit_to_psnr(cloud, psnr_db, self.fit)
        k = palette.k
        if reached < psnr_db:
            reason = f"{psnr_db:g} dB cannot be reached: {quantity(k, 'colour')} reach "
            reason += f"{reached:.2f} dB"
            if self.strict:
                raise ImageError("quality", f"{reason}. Ask for less, or give -k")
            return replace(palette, warning=reason)
        reason = f"k = {k} reaches {reached:.2f} dB"
        if below is not None:
            reason += f", one colour less {below:.2f} dB"
        return replace(palette, selection={"k": k, "reason": reason, "scores": []})

    def _choose(self, cloud: ColorCloud, on_state: Any) -> Palette:
        """The palette at the knee of PSNR against k; its `selection` tells the PSNR of all k."""
        if len(cloud.colors) <= self.choices[-1]:
            k = min(len(cloud.colors) + len(self.fit.locked), self.choices[-1])
            fit = replace(fit_palette(cloud, k, self.fit), warning=None)
            reason = f"k = {fit.k}: as many colours as there are"
            return replace(fit, selection={"k": fit.k, "reason": reason, "scores": []})
        coarse = cloud.colors.coarse()
        tried = self.cloud(coarse) if len(coarse) > self.choices[-1] else cloud
        at_most = min(SCORING_ITERATIONS, self.fit.max_iter)
        few = replace(self.fit, n_init=1, max_iter=at_most, refine=None)
        reached = {}
        for k in _spread(self.choices):
            fit = fit_palette(tried, k, few, on_state=on_state)
            reached[k] = psnr(tried.colors, fit.palette, fit.labels)
        ks, psnrs = np.array(list(reached)), np.array(list(reached.values()))
        k = find_elbow(ks, -psnrs) or int(ks[-1])
        reason = f"k = {k}: the knee of PSNR against k, at {reached[k]:.1f} dB; k = {ks[0]} "
        reason += f"reaches {psnrs[0]:.1f} dB and k = {ks[-1]} {psnrs[-1]:.1f} dB"
        scores = [{"k": k, "psnr_db": value} for k, value in reached.items()]
        selection = {"k": k, "reason": reason, "scores": scores}
        return replace(fit_palette(cloud, k, self.fit), selection=selection)


def _spread(ks: Sequence[int]) -> list[int]:
    """At most `SCORED` of them, closer where they are small, as there PSNR rises fastest."""
    if len(ks) <= SCORED:
        return list(ks)
    wanted = np.geomspace(ks[0], ks[-1], SCORED)
    return [ks[i] for i in sorted({int(np.abs(np.array(ks) - one).argmin()) for one in wanted})]


def wanted_palettes(options: QuantizeOptions) -> Wanted:
    """What the options of a job ask for.

    Raises
    ------
    UsageError : a palette cannot be read, or has not as many colours as `k` needs.
    """
    init: Any = options.init
    if isinstance(init, Path) or (isinstance(init, str) and init not in ("k-means++", "random")):
        init = read_palette(init)
    locked = _locked_colors(options)
    how = vars(options.fit_options(init))
    fit = PaletteOptions(**how, metric=options.metric, locked=locked, refine=options.refine)
    ks, choices = options.ks, tuple(k for k in options.choices if k >= len(locked))
    too_few = [k for k in ks if 0 < k < len(locked)] or (options.choices and not choices)
    if too_few or len(locked) > MAX_K:
        raise UsageError(
            f"{quantity(len(locked), 'colour')} are locked, more than there are to be: give a "
            f"larger -k (up to {MAX_K}), or lock fewer"
        )
    if not isinstance(fit.init, str) and (len(ks) > 1 or len(fit.init) != ks[0]):
        raise UsageError(
            f"the initial palette has {quantity(len(fit.init), 'colour')}; give -k "
            f"{len(fit.init)} alone"
        )
    return Wanted(
        ks,
        choices,
        options.psnr,
        options.space,
        fit,
        options.transparency,
        strict=options.strict,
    )


def _locked_colors(options: QuantizeOptions) -> np.ndarray:
    """(m, 3) uint8 different colours that must be in the palette; (m, 4) with alpha."""
    given: Any = options.lock
    if given is None:
        return np.empty((0, 3), np.uint8)
    colors = read_palette(given, "lock") if isinstance(given, str | Path) else np.asarray(given)
    if colors.ndim != 2 or colors.shape[1] not in (3, 4) or not np.isfinite(colors).all():
        raise UsageError(
            f"lock must be colours (m, 3), or (m, 4) with alpha, received shape {colors.shape}"
        )
    colors = np.rint(np.clip(colors, 0, 255)).astype(np.uint8)
    if colors.shape[1] == 4 and not options.alpha:
        if (colors[:, 3] < 255).any():
            raise UsageError("lock has transparent colours, and the palette none: give alpha too")
        colors = colors[:, :3]
    _, first = np.unique(colors, axis=0, return_index=True)
    return colors[np.sort(first)]


MAX_COLORS = 256
"""Of a picture whose colours are a palette."""
SUFFIXES = (".gpl", ".json", ".npy", ".ase", ".aco", ".css", ".hex", ".txt")
ALLOWED = (
    "a palette (.gpl, .json, .npy, .ase, .aco, or #rrggbb in .css, .hex, .txt), a picture, or a run"
)


def read_palette(path: str | Path, option: str = "init") -> np.ndarray:
    """Read colours.

    Parameters
    ----------
    path : a ``.gpl``, ``.json`` or ``.npy`` file; swatches in RGB or grey (``.ase``, ``.aco``);
        one that has colour codes (``.css``, ``.hex``, ``.txt``); a picture of few colours; or a
        run; or the URL of one.
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
        MemoryError, struct.error,
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
    if suffix in (".ase", ".aco"):
        return _swatches_of_ase(content) if suffix == ".ase" else _swatches_of_aco(content)
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
        if len(words) >= 3 and all(word.isdecimal() for word in words[:3]):
            rows.append([int(word) for word in words[:3]])
    return rows


def _swatches_of_ase(content: bytes) -> list[list[float]]:
    """Colours of an Adobe Swatch Exchange file: blocks, of which some are groups."""
    magic, (n,) = content[:4], struct.unpack_from(">I", content, 8)
    if magic != b"ASEF":
        raise ValueError(f"a swatch file begins with ASEF, not {magic!r}")
    colors, at = [], 12
    for _ in range(n):
        kind, length = struct.unpack_from(">HI", content, at)
        if kind == 1:
            model = at + 8 + 2 * struct.unpack_from(">H", content, at + 6)[0]
            name = content[model : model + 4].decode("latin-1").strip().lower()
            channels = {"rgb": 3, "gray": 1}.get(name)
            if channels is None:
                raise ValueError(f"a colour in {name.upper()}; a palette is in RGB or grey")
            values = struct.unpack_from(f">{channels}f", content, model + 4)
            colors.append([round(255 * value, 3) for value in values * (3 // channels)])
        at += 6 + length
    return colors


def _swatches_of_aco(content: bytes) -> list[list[float]]:
    """Colours of a Photoshop swatch file, of its first version, which all have."""
    version, n = struct.unpack_from(">2H", content)
    colors = []
    for at in range(4, 4 + 10 * n, 10):
        space, *values = struct.unpack_from(">5H", content, at)
        if version != 1 or space not in (0, 8):
            raise ValueError(
                f"version {version}, colour space {space}; a palette is in RGB or grey"
            )
        colors.append([v / 257 for v in values[:3]] if space == 0 else [values[0] * 0.0255] * 3)
    return colors


def _colors_of_picture(path: str) -> np.ndarray:
    rgb, transparent = to_rgb8(decode(probe(Found(path, path))))
    colors = count_colors(rgb, transparent).rgb
    if len(colors) > MAX_COLORS:
        raise ValueError(
            f"{len(colors):,} colours, and a palette has at most {MAX_COLORS}; quantize it first"
        )
    return colors
