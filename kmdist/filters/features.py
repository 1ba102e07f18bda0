"""Texture features of a tile, preset by preset, and the passes that make labels of them.

A preset is data, a `TextureFeatures`. The features of one cell of 4 × 4 pixels are: the mean
magnitude of each filter's response; divided by their common norm L and multiplied with
log(1 + L / contrast), Weber's law (M. Varma, A. Zisserman, 2005); then, over a Gaussian window,
either their mean or the histogram of their textons (J. Malik, S. Belongie, T. Leung, J. Shi,
2001). A projection learnt on all cells standardises them. Pixels take the nearest centroid after
bilinear interpolation between cells.

Every pass of `kmdist.recipes.texture` works on tiles: whole images, or windows whose sides are
multiples of 4 px. A tile's ``grid`` says what to read (``grid.read``), for which cells features
are measured (``grid.labelled``), and which are its own (``grid.own``). All sums merge by addition
in the order of the tiles. Features have the same bits in every tiling. Features of textons come of
`tile_moduli` for an own grid, standardised, and of their nearest textons: of large images these
are kept, 1/16 byte a pixel, and later passes take what their windows reach. Cells that are kept
between passes take 4 d / 16 bytes a pixel, 9 for `GABOR`.

Without textons an image is filtered once if its cells are kept, else twice; with textons
twice, or once if moduli are kept. A filtered pixel costs 100–150 ns, everything else under 40.
Windows around a tile are paid for in pieces of up to 512 px: pooled features of tiles of 4,096²
px cost half as much again as those of the whole, textons no more.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kmdist.filters.banks import FilterBank, gabor, leung_malik
from kmdist.filters.cell_labels import Scorer, nearest
from kmdist.filters.cells import (
    CELL,
    TileGrid,
    average_cells,
    cells_of,
    pool,
    texton_histograms,
    window_radius,
    within,
)
from kmdist.filters.statistics import FeatureSums, Projection, half_whiten, standardise
from kmdist.filters.tiles import Box, grey, pieces, plan_axis, with_halo

MOST_PX = 10_000.0
"""Standard deviation of a window; the work of a cell grows with it."""

MOST_WEIGHT = 1e6
"""Of colour, beside which texture is no longer seen in float32."""


@dataclass(frozen=True)
class TextureFeatures:
    """What is measured around each cell.

    Parameters
    ----------
    bank : filters.
    contrast : Weber's constant, for images scaled to 0 … 1: responses well below it stay as
        they are, those well above grow like the logarithm of the contrast. None: no Weber law.
    pool_px : standard deviation of the window, px.
    whiten : principal components kept, half-whitened; 0: features are standardised each.
    textons : cells become one of so many textons, and a window their histogram; 0: none.
    color_weight : weight of colour (CIE Lab, standardised) against texture; 0: no colour.
    color_px : standard deviation of the window that colour is pooled in, px; None: as `pool_px`.
    edge : difference in colour (CIE Lab) that windows end at; 0: they reach across edges.

    Raises
    ------
    ValueError : negative numbers; windows and weights beyond `MOST_PX` and `MOST_WEIGHT`; more than
        256 textons; colour with textons or whitening.
    """

    bank: FilterBank
    contrast: float | None = 0.1
    pool_px: float = 20.0
    whiten: int = 0
    textons: int = 0
    color_weight: float = 0.0
    color_px: float | None = None
    edge: float = 0.0

    def __post_init__(self) -> None:
        colors = (self.color_weight, self.color_px or 0, self.edge)
        numbers = (self.pool_px, self.whiten, self.textons, *colors)
        if min(numbers) < 0 or (self.contrast is not None and not self.contrast > 0):
            raise ValueError(f"expected no negative number and a positive contrast, got {self}")
        if max(self.pool_px, self.color_px or 0) > MOST_PX:
            raise ValueError(f"pool_px, color_px: expected at most {MOST_PX:,.0f}")
        if self.color_weight > MOST_WEIGHT:
            raise ValueError(f"color_weight: expected at most {MOST_WEIGHT:,.0f}")
        if self.textons == 1 or self.textons > 256:
            raise ValueError(f"textons: expected 0 or 2 … 256, got {self.textons}")
        if self.color_weight and (self.textons or self.whiten):
            raise ValueError("color_weight: colour goes with neither textons nor whitening")

    @property
    def depth(self) -> int:
        """Features of a cell before projection."""
        texture = self.textons or self.bank.n_features
        return texture + (3 if self.color_weight else 0)

    def grid(self, window: Box, image_shape: tuple[int, int]) -> TileGrid:
        """The cells of a tile and of what its windows reach, and what to read for them."""
        radius = window_radius(max(self.pool_px, self.color_px or 0))
        return self._grid(window, image_shape, radius + 1)

    def own_grid(self, window: Box, image_shape: tuple[int, int]) -> TileGrid:
        """The cells of a tile alone, and what to read for their moduli."""
        return self._grid(window, image_shape, 0)

    def _grid(self, window: Box, image_shape: tuple[int, int], reach: int) -> TileGrid:
        halo = self.bank.halo
        height, width = (plan_axis(side, halo, CELL)[0] for side in image_shape)
        return TileGrid(window, image_shape, reach, halo, (height, width))

    def project(self, sums: FeatureSums) -> Projection:
        """Features to the space that is clustered.

        Histograms of textons stay as they are but for their mean: their distances mean something.
        What does not vary, but for rounding, becomes 0 everywhere.
        """
        if self.textons:
            mean, covariance = sums.mean_and_covariance()
            varies = (np.diag(covariance) > 0).astype(np.float32)
            return Projection(mean.astype(np.float32), np.diag(varies))
        if self.whiten:
            return half_whiten(sums, self.whiten)
        if self.color_weight:
            return standardise(sums, [(self.bank.n_features, 1.0), (3, self.color_weight)])
        return standardise(sums)


LM = TextureFeatures(leung_malik())
GABOR = TextureFeatures(gabor(), whiten=12)
TEXTONS = TextureFeatures(gabor(), textons=32)
COLOR_TEXTURE = TextureFeatures(gabor(), color_weight=1.0, edge=20.0)

PRESETS: dict[str, TextureFeatures] = {
    "lm": LM,
    "gabor": GABOR,
    "textons": TEXTONS,
    "color+texture": COLOR_TEXTURE,
}
"""Presets on cells; the walk-through's way is `kmdist.filters.tutorial`."""


def tile_moduli(
    pixels: NDArray[Any], grid: TileGrid, features: TextureFeatures
) -> NDArray[np.float32]:
    """Mean magnitudes of responses in each cell, Weber's law applied.

    Parameters
    ----------
    pixels : (h, w) or (h, w, c), uint8 or float32, 0 … 255: the part of the image that
        ``grid.read`` names.
    grid : the tile; see `TextureFeatures.grid`.

    Returns
    -------
    (rows, columns, bank.n_features) float32 for the cells of ``grid.source``.
    """
    y0, x0, y1, x1 = grid.read
    if pixels.shape[:2] != (y1 - y0, x1 - x0):
        raise ValueError(f"pixels: expected those of {grid.read}, got shape {pixels.shape}")
    padded = with_halo(
        pixels, grid.filtered, grid.halo, origin=(y0, x0), image_shape=grid.image_shape
    )
    filtered = cells_of(grid.filtered)
    shape = (filtered[2] - filtered[0], filtered[3] - filtered[1], features.bank.n_features)
    cells = np.empty(shape, np.float32)
    for piece in pieces(padded, features.bank, CELL, _scaled_grey, grid.image_shape):
        average_cells(piece, cells, quadrature=features.bank.quadrature)
    if grid.source != filtered:
        cells = np.ascontiguousarray(cells[within(grid.source, filtered)])
    if features.contrast is not None:
        _apply_weber(cells, features.contrast)
    return cells


def _scaled_grey(pixels: NDArray[Any]) -> NDArray[np.float32]:
    return grey(pixels, white=255)


def _apply_weber(cells: NDArray[np.float32], contrast: float) -> None:
    norm = np.sqrt(np.einsum("yxd,yxd->yx", cells, cells))
    small = norm < 1e-6 * contrast  # log(1 + t)/t → 1
    ratio = np.where(small, 1, norm / np.float32(contrast))
    factor = np.where(small, 1, np.log1p(ratio) / ratio) / np.float32(contrast)
    cells *= factor.astype(np.float32)[..., None]


def tile_textons(moduli: NDArray[np.float32], textons: Scorer) -> NDArray[np.uint8]:
    """The texton of each cell: (rows, columns, d) → (rows, columns) uint8."""
    return nearest(textons.scores(moduli)).astype(np.uint8, copy=False)


def cell_means(planes: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Mean of each cell: (h, w, c) that begins at a cell's corner → (rows, columns, c).

    Parameters
    ----------
    planes : float32; the last cells may be cut by the image's edge.
    shape : rows and columns of cells.
    """
    bottom, right = (shape[axis] * CELL - planes.shape[axis] for axis in (0, 1))
    sums = np.pad(planes, ((0, bottom), (0, right), (0, 0)))
    sums = sums.reshape(shape[0], CELL, shape[1], CELL, -1).sum((1, 3), dtype=np.float32)
    heights, widths = np.full(shape[0], CELL), np.full(shape[1], CELL)
    heights[-1] -= bottom
    widths[-1] -= right
    counts = np.outer(heights, widths).astype(np.float32)
    return sums / counts[..., None]


def tile_features(
    pixels: NDArray[Any],
    grid: TileGrid,
    features: TextureFeatures,
    lab: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Features without textons of a tile's cells, and of one around them, before projection.

    Parameters
    ----------
    pixels : (h, w[, c]) of ``grid.read``, as of `tile_moduli`.
    grid : the tile.
    features : what to measure.
    lab : for features with colour: (h, w, 3) float32 CIE Lab of `pixels`.

    Returns
    -------
    (rows, columns, features.depth) float32 for the cells of ``grid.labelled``.
    """
    moduli = tile_moduli(pixels, grid, features)
    have, want = grid.source, grid.labelled
    if not features.color_weight:
        return pool(moduli, have, want, features.pool_px)
    if lab is None or lab.shape[:2] != pixels.shape[:2]:
        raise ValueError("lab: these features need the Lab values of the pixels")
    inner = lab[within(grid.source_window, grid.read)]
    colors = cell_means(inner, moduli.shape[:2])
    pool_up_to_edges = partial(pool, colors=colors, edge=features.edge)
    if features.color_px is None:
        cells = np.concatenate([moduli, colors], axis=2)
        return pool_up_to_edges(cells, have, want, features.pool_px)
    pooled = pool_up_to_edges(moduli, have, want, features.pool_px)
    blurred = pool_up_to_edges(colors, have, want, features.color_px)
    return np.concatenate([pooled, blurred], axis=2)


def features_of_textons(
    textons: NDArray[np.uint8], grid: TileGrid, features: TextureFeatures
) -> NDArray[np.float32]:
    """Histograms for the cells of ``grid.labelled``, from textons of those of ``grid.source``."""
    return texton_histograms(
        textons, grid.source, grid.labelled, features.pool_px, features.textons
    )


def clustered_cells(mask: NDArray[np.bool_] | None, grid: TileGrid) -> NDArray[np.bool_]:
    """Own cells with at least one pixel that is clustered.

    Parameters
    ----------
    mask : (h, w) of the tile's window, True where a pixel is not clustered; None: nowhere.
    """
    rows, columns = grid.own[2] - grid.own[0], grid.own[3] - grid.own[1]
    if mask is None:
        return np.ones((rows, columns), np.bool_)
    shares = cell_means(np.ascontiguousarray(~mask, np.float32)[..., None], (rows, columns))
    return shares[..., 0] > 0
