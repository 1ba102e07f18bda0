"""The labels of one shard, which one task writes whole."""

from collections.abc import Sequence

import numpy as np

from kmdist.job.work import Piece
from kmdist.recipes.texture.measuring import Field
from kmdist.store import LabelMap, RunWriter
from kmdist.store.format.layout import label_dtype


class Shard:
    """Labels of the tiles of one shard, gathered to be written at once.

    Parameters
    ----------
    pieces : the tiles.
    maps : the label maps to write, one a layer.
    """

    def __init__(self, pieces: Sequence[Piece], maps: Sequence[LabelMap]) -> None:
        self._maps = maps
        self._y0, self._x0 = min(p.window.y0 for p in pieces), min(p.window.x0 for p in pieces)
        y1, x1 = max(p.window.y1 for p in pieces), max(p.window.x1 for p in pieces)
        self._shape = (y1 - self._y0, x1 - self._x0)
        self._labels = [
            np.empty(self._shape, label_dtype(label_map.k, False)) for label_map in maps
        ]
        self._unclustered: np.ndarray | None = None

    def put(self, position: int, field: Field, labels: np.ndarray) -> None:
        """Take the labels of one tile for one layer."""
        window = field.piece.window
        rows = slice(window.y0 - self._y0, window.y1 - self._y0)
        columns = slice(window.x0 - self._x0, window.x1 - self._x0)
        self._labels[position][rows, columns] = labels
        if field.unclustered is not None:
            if self._unclustered is None:
                self._unclustered = np.zeros(self._shape, bool)
            self._unclustered[rows, columns] = field.unclustered

    def write(self, writer: RunWriter) -> None:
        """Write the shard of every map."""
        for label_map, labels in zip(self._maps, self._labels, strict=True):
            writer.write_label_window(label_map, self._y0, self._x0, labels, self._unclustered)
