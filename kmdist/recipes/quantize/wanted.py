"""What palettes a quantize job is asked for."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kmdist.errors import UsageError
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


def selection_record(selection: Any) -> dict[str, Any]:
    """What a run's record says of a choice of k: the scores of every k, and the reason."""
    scores = [
        {
            "k": row.k,
            "inertia": row.inertia,
            "gvf": row.gvf,
            "simplified_silhouette": row.simplified_silhouette,
            "silhouette": row.silhouette,
            "calinski_harabasz": row.calinski_harabasz,
            "davies_bouldin": row.davies_bouldin,
        }
        for row in selection.table
    ]
    return {"k": selection.k, "reason": selection.reason, "scores": scores}


def k_choices(k: str) -> tuple[int, ...]:
    """Numbers of clusters that ``auto`` or ``A..B`` stands for.

    Raises
    ------
    UsageError : neither of these.
    """
    if k == "auto":
        return tuple(range(2, 33))
    low, dots, high = k.partition("..")
    if not (dots and low.isdigit() and high.isdigit() and 1 <= int(low) < int(high)):
        raise UsageError(f"k is {k!r}; give a number, several (2,8,25), a range 2..32, or auto")
    return tuple(range(int(low), int(high) + 1))
