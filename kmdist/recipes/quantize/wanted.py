"""What palettes a quantize job is asked for."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kmdist.job.choices import selection_record
from kmdist.recipes.quantize.palette import (
    ColorCloud,
    Palette,
    PaletteOptions,
    fit_palette,
    fit_to_psnr,
)


@dataclass(frozen=True)
class Wanted:
    """What palettes are wanted: some numbers of colours, a range to choose from, or a quality.

    Parameters
    ----------
    ks : numbers of colours, ascending; one entry of 0 where `choices` or `psnr_db` decides.
    choices : numbers of colours of which one is chosen by label-free scores; or empty.
    psnr_db : quality to reach with the fewest colours found, or None.
    space : colour space of distances.
    fit : how each palette is fitted.
    """

    ks: tuple[int, ...]
    choices: tuple[int, ...]
    psnr_db: float | None
    space: str
    fit: PaletteOptions

    def prefix(self, k: int) -> str:
        """Group of the fit for `k`: the root for a single one, ``kN`` for several."""
        return f"k{k}" if len(self.ks) > 1 else ""

    def fit_all(self, cloud: ColorCloud, on_state: Any = None) -> dict[int, Palette]:
        """Fit every palette that is wanted, by the number of colours asked for."""
        if self.psnr_db is not None:
            return {0: self._reach(cloud, self.psnr_db)}
        if self.choices:
            return {0: self._choose(cloud, on_state)}
        return {k: fit_palette(cloud, k, self.fit, on_state=on_state) for k in self.ks}

    def _reach(self, cloud: ColorCloud, psnr_db: float) -> Palette:
        """The palette that reaches a quality; its `selection` tells what it reaches."""
        found = fit_to_psnr(cloud, psnr_db, self.fit)
        k = found.palette.k
        reason = f"k = {k} reaches {found.psnr_db:.2f} dB"
        if found.psnr_db_below is not None:
            reason += f", one colour less {found.psnr_db_below:.2f} dB"
        return replace(found.palette, selection={"k": k, "reason": reason, "scores": []})

    def _choose(self, cloud: ColorCloud, on_state: Any) -> Palette:
        """The palette of the recommended k; its `selection` tells the scores of all."""
        from kmdist.estimators.selection import select_k

        options = self.fit
        selection = select_k(
            cloud.points,
            [k for k in self.choices if k <= len(cloud.points)] or [len(cloud.points)],
            sample_weight=cloud.colors.counts.astype(np.float64),
            max_iter=options.max_iter,
            tol=options.tol,
            random_state=options.seed,
            on_state=on_state,
        )
        return replace(
            fit_palette(cloud, selection.k, options), selection=selection_record(selection)
        )
