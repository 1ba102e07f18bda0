"""New members for clusters that lost all of theirs."""

import numpy as np
import numpy.typing as npt


def pick_members(
    costs: npt.NDArray[np.float64],
    labels: npt.NDArray[np.integer],
    weights: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
) -> list[tuple[int, int]]:
    """Give each empty cluster the colour that adds most to the inertia.

    Colours are taken in order of cost, descending, then of index; one that is all its cluster
    has stays there, and one that costs nothing is not moved. Empty clusters are served in
    order of index.

    Parameters
    ----------
    costs : (n,) what each colour adds to the inertia.
    labels : (n,) cluster of each colour.
    weights : (n,) pixels of each colour.
    counts : (k,) pixels of each cluster.

    Returns
    -------
    Pairs of a colour and the empty cluster that takes it.
    """
    left = counts.copy()
    waiting = np.flatnonzero(counts == 0).tolist()[::-1]
    moves = []
    for color in np.argsort(-costs, kind="stable").tolist():
        if not waiting or costs[color] == 0:
            break
        donor = labels[color]
        if left[donor] > weights[color]:
            left[donor] -= weights[color]
            moves.append((color, waiting.pop()))
    return moves
