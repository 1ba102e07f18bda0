"""What palettes a quantize job is asked for."""

from dataclasses import dataclass
from typing import Any

from kmdist.palette import ColorCloud, Palette, PaletteOptions, fit_palette, fit_to_psnr


@dataclass(frozen=True)
class Wanted:
    """What palettes are wanted: some numbers of colours, or a quality.

    Parameters
    ----------
    ks : numbers of colours, ascending; one entry of 0 where `psnr_db` decides.
    psnr_db : quality to reach with the fewest colours found, or None.
    space : colour space of distances.
    fit : how each palette is fitted.
    """

    ks: tuple[int, ...]
    psnr_db: float | None
    space: str
    fit: PaletteOptions

    def prefix(self, k: int) -> str:
        """Group of the fit for `k`: the root for a single one, ``kN`` for several."""
        return f"k{k}" if len(self.ks) > 1 else ""

    def fit_all(self, cloud: ColorCloud, on_state: Any = None) -> dict[int, Palette]:
        """Fit every palette that is wanted, by the number of colours asked for."""
        if self.psnr_db is not None:
            return {0: fit_to_psnr(cloud, self.psnr_db, self.fit).palette}
        return {k: fit_palette(cloud, k, self.fit, on_state=on_state) for k in self.ks}
