"""What clusters a texture job is asked for, and what a run records of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kmdist.engine.fits import Clusters, FitOptions, fit_clusters
from kmdist.engine.lloyd import State
from kmdist.job.image_fits import WantedClusters, choose_k
from kmdist.recipes.texture.model import DEFAULT_PRESET, SETTABLE, Texture
from kmdist.recipes.texture.options import TextureOptions

ENOUGH = 0.85
"""Share of the inertia of k clusters that k + 1 must go below to be worth it. Chosen on the 20
Berkeley images in benchmarks/texture_quality.py."""
SURE_STARTS = 3
"""A poor fit of one k would pass for the end of what more clusters explain."""
SAMPLE_ROWS = 131_072
"""Cells that a fit takes where no share is given: an image of 2 Mpx still has all of its own."""


@dataclass(frozen=True)
class TextureWanted(WantedClusters):
    """What is measured and how it is clustered.

    Parameters
    ----------
    texture : what is measured.
    shared : clusters are shared by the collection.
    sample : share of the rows that a fit takes; None: all, up to `SAMPLE_ROWS`.
    fit : how clusters are fitted.
    keep_responses : write the bank's responses of every image.
    """

    texture: Texture
    sample: float | None = None
    fit: FitOptions = field(default_factory=FitOptions)
    keep_responses: bool = False
    shared: bool = False

    def parameters(self, options: TextureOptions) -> dict[str, Any]:
        """What a run records of its options."""
        return {
            "k": list(self.choices or self.ks),
            "choose": bool(self.choices),
            "shared": options.shared,
            "features": self.texture.record(),
            **options.record("sample", "keep_responses", "init"),
            **options.fitting,
            **({"fit_only": True} if options.fit_only else {}),
        }

    def fraction(self, n_rows: int) -> float:
        """Share of `n_rows` rows that a fit takes."""
        if self.sample is not None:
            return self.sample
        return min(1.0, SAMPLE_ROWS / max(n_rows, 1))

    def fit_all(
        self,
        rows: np.ndarray,
        *,
        threads: int = 1,
        on_state: Callable[[State], None] | None = None,
    ) -> dict[int, tuple[Clusters, Mapping[str, Any] | None]]:
        """Fit every k that is wanted, with how it was chosen where it was not given.

        Parameters
        ----------
        rows : (n, m) projected rows.
        """
        if not self.choices:
            return {
                k: (fit_clusters(rows, k, self.fit, threads=threads, on_state=on_state), None)
                for k in self.ks
            }
        choices = [k for k in self.choices if k <= len(rows)] or [len(rows)]
        if not self.shared:
            return {0: self._fit_enough(rows, choices, threads)}
        k, record = choose_k(rows, choices, self.fit, on_state)
        return {0: (fit_clusters(rows, k, self.fit, threads=threads, on_state=on_state), record)}

    def _fit_enough(
        self, rows: np.ndarray, choices: Sequence[int], threads: int
    ) -> tuple[Clusters, Mapping[str, Any]]:
        """The first k after which one cluster more would leave most of the inertia, or the last.

        Scores of how well clusters are apart, by which k is chosen for collections, prefer two
        clusters for many photographs: covering of human segments is .56 by them, .59 by this rule.
        """
        fit = replace(self.fit, n_init=max(self.fit.n_init, SURE_STARTS))
        fits = [fit_clusters(rows, choices[0], fit, threads=threads)]
        for k in choices[1:]:
            fits.append(fit_clusters(rows, k, fit, threads=threads))
            if fits[-1].inertia > ENOUGH * fits[-2].inertia or fits[-2].inertia == 0:
                fits.append(fits.pop(-2))
                break
        best = fits[-1]
        scores = [{"k": one.k, "inertia": one.inertia} for one in sorted(fits, key=lambda f: f.k)]
        reason = f"k = {best.k}: one more leaves over {ENOUGH:.0%} of what is not explained"
        return best, {"k": best.k, "reason": reason, "scores": scores}


def preset_of(options: TextureOptions) -> str | None:
    """The preset that options ask for, by its name or by a number of its own; None: neither."""
    if options.preset is None and options.color_weight:
        return "color+texture"
    own = (options.textons, options.whiten, options.scales != "linear")
    return DEFAULT_PRESET if options.preset is None and any(own) else options.preset


def wanted_textures(options: TextureOptions, preset: str) -> TextureWanted:
    """What the options of a job ask for, with a preset.

    Raises
    ------
    UsageError : they do not go together.
    """
    changed = {name: getattr(options, name, None) for name in SETTABLE}
    numbers = tuple(sorted((name, v) for name, v in changed.items() if v is not None))
    return TextureWanted(
        options.ks,
        options.choices,
        Texture(preset, options.scales, numbers),
        options.sample,
        options.fit_options(options.init),
        options.keep_responses,
        options.shared,
    )
