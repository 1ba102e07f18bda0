"""Where the tiles of large images lie, and the textons that were found on them."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from kmdist.errors import KmdistError
from kmdist.filters.cells import TileGrid, cells_of, within
from kmdist.images import Window
from kmdist.job.work import Piece, Work
from kmdist.store import RunWriter

UNIT_PX = 1024
"""Tiles are multiples of this, but at the image's edge."""


@dataclass(frozen=True)
class Tiles:
    """Tiles of images that are read by tile.

    Parameters
    ----------
    windows : for each image, the tile at each square of `UNIT_PX`: (row, column) → window.
    """

    windows: Mapping[str, Mapping[tuple[int, int], Window]]

    @staticmethod
    def of(work: Iterable[Work]) -> "Tiles":
        """The tiles among the pieces of some blocks."""
        found: dict[str, dict[tuple[int, int], Window]] = {}
        for one in work:
            for piece in one.pieces:
                if not piece.whole:
                    squares = found.setdefault(piece.source.name, {})
                    window = piece.window
                    squares.update((square, window) for square in _squares(window))
        return Tiles(found)

    def texton_map(self, piece: Piece, grid: TileGrid, writer: RunWriter) -> np.ndarray:
        """Textons of the cells that a tile's windows reach, from its own map and its neighbours'.

        Returns
        -------
        (rows, columns) uint8 for the cells of ``grid.source``.

        Raises
        ------
        KmdistError : a map is gone.
        """
        y0, x0, y1, x1 = grid.source
        name = piece.source.name
        squares = self.windows[name]
        needed = dict.fromkeys(squares[square] for square in _squares(Window(*grid.source_window)))
        found = np.empty((y1 - y0, x1 - x0), np.uint8)
        for window in needed:
            state = writer.load_state(map_name(name, window))
            if state is None:
                raise KmdistError(f"{name}: the textons of a tile are gone; run with --overwrite")
            have = cells_of((window.y0, window.x0, window.y1, window.x1))
            common = (max(y0, have[0]), max(x0, have[1]), min(y1, have[2]), min(x1, have[3]))
            found[within(common, grid.source)] = state["textons"][within(common, have)]
        return found


def _squares(window: Window) -> list[tuple[int, int]]:
    return [
        (row, column)
        for row in range(window.y0 // UNIT_PX, -(-window.y1 // UNIT_PX))
        for column in range(window.x0 // UNIT_PX, -(-window.x1 // UNIT_PX))
    ]


def map_name(image: str, window: Window) -> str:
    """Name of the checkpoint that holds the textons of a tile."""
    digest = hashlib.sha256(image.encode(errors="surrogateescape")).hexdigest()[:16]
    return f"textons-{digest}-{window.y0}-{window.x0}"
