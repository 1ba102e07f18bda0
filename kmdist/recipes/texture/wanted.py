"""What clusters a texture job is asked for, and what a run records of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kmdist.engine.fits import Clusters, FitOptions, fit_clusters
from kmdist.engine.lloyd import State
from kmdist.job.options import selection_record
from kmdist.recipes.texture.model import DEFAULT_PRESET, Texture, TextureModel
from kmdist.recipes.texture.options import TextureOptions

SETTINGS = ("pool_px", "whiten", "textons", "color_weight")
"""Options that change numbers of the preset."""
ENOUGH = 0.85
"""Share of the inertia of k clusters that k + 1 must go below to be worth it. Chosen on the 20
Berkeley images in benchmarks/texture_quality.py."""
SURE_STARTS = 3
"""A poor fit of one k would pass for the end of what more clusters explain."""
SAMPLE_ROWS = 131_072
"""Cells that a fit takes where no share is given: an image of 2 Mpx still has all of its own."""


@dataclass(frozen=True)
class TextureWanted:
    """What is measured and how it is clustered.

    Parameters
    ----------
    texture : what is measured.
    ks : numbers of clusters, ascending; one entry of 0 where `choices` decides.
    choices : numbers of clusters of which one is chosen, without labels; or empty.
    shared : clusters are shared by the collection.
    sample : share of the rows that a fit takes; None: all, up to `SAMPLE_ROWS`.
    fit : how clusters are fitted.
    keep_responses : write the bank's responses of every image.
    """

    texture: Texture
    ks: tuple[int, ...]
    choices: tuple[int, ...] = ()
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
            "sample": options.sample,
            "keep_responses": options.keep_responses,
            "init": options.init,
            "n_init": options.n_init,
            "max_iter": options.max_iter,
            "tol": options.tol,
            "seed": options.seed,
            "block_mpx": options.block_mpx,
            "max_pixels": options.max_pixels,
            **({"fit_only": True} if options.fit_only else {}),
        }

    @property
    def at_most(self) -> tuple[int, ...]:
        """`ks`, and where k is to be chosen the largest that it may be."""
        return tuple(k or max(self.choices) for k in self.ks)

    def prefix(self, k: int) -> str:
        """Group of the fit for `k`: the root for a single one, ``kN`` for several."""
        return f"k{k}" if len(self.ks) > 1 else ""

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
        from kmdist.estimators.selection import select_k

        selection = select_k(
            rows,
            choices,
            max_iter=self.fit.max_iter,
            tol=self.fit.tol,
            random_state=self.fit.seed,
            on_state=on_state,
        )
        clusters = fit_clusters(rows, selection.k, self.fit, threads=threads, on_state=on_state)
        return {0: (clusters, selection_record(selection))}

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


@dataclass(frozen=True)
class Fitted:
    """One k's clusters, labelled: what the run's arrays and attributes are made of.

    Parameters
    ----------
    model : to label with.
    clusters : of the fit.
    sums : (k, 4) int64 red, green, blue and number of the pixels of each cluster.
    inertia : of all rows, for the model's centroids.
    selection : how k was chosen, or None.
    """

    model: TextureModel
    clusters: Clusters
    sums: np.ndarray
    inertia: float
    selection: Mapping[str, Any] | None = None

    def reordered(self, order: np.ndarray) -> "Fitted":
        """The same clusters in another order; old label ``order[i]`` becomes i."""
        return replace(
            self,
            model=replace(self.model, centroids=self.model.centroids[order]),
            sums=self.sums[order],
        )

    def attributes(self) -> dict[str, Any]:
        """What the run's record says."""
        return {
            "k": len(self.model.centroids),
            "space": "texture",
            "inertia": self.inertia,
            "n_iter": self.clusters.n_iter,
            "stop_reason": self.clusters.stop_reason,
            "warning": self.clusters.warning,
            "selection": self.selection,
        }


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
    changed = {name: getattr(options, name) for name in SETTINGS}
    numbers = tuple(sorted((name, v) for name, v in changed.items() if v is not None))
    return TextureWanted(
        Texture(preset, options.scales, numbers),
        options.ks,
        options.choices,
        options.sample,
        FitOptions(options.init, options.n_init, options.max_iter, options.tol, options.seed),
        options.keep_responses,
        options.shared,
    )


def write_fit(writer: Any, key: str, fitted: Fitted, palette: np.ndarray) -> None:
    """The arrays of a fit, as the run format names them.

    Parameters
    ----------
    key : group they belong to; empty for the root.
    palette : (k, 3) uint8 mean colours.
    """
    base = f"{key}/" if key else ""
    for name, (array, dimensions) in fitted.model.arrays().items():
        writer.write_array(f"{base}{name}", array, dimensions)
    writer.write_array(f"{base}palette", palette, ("cluster", "channel"))
    writer.write_array(f"{base}counts", fitted.sums[:, 3], ("cluster",))
    writer.write_array(f"{base}history", fitted.clusters.history, ("iteration", "quantity"))
