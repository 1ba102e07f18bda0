"""What arrays that every fit has must be, whoever wrote them."""

from typing import Any

import numpy as np

_SHAPES: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "centroids": ("f", ("k", "feature")),
    "palette": ("u", ("k", "channel")),
    "counts": ("i", ("k",)),
    "history": ("f", ("iteration", 3)),
    "names": ("u", ("byte",)),
    "paths": ("u", ("byte",)),
}
"""Kind of values and shape of arrays by name; those that are not here are their recipe's."""


def problem(name: str, values: "np.ndarray[Any, Any]", k: int | None) -> str:
    """What is wrong with an array; empty if nothing is.

    Parameters
    ----------
    k : clusters of the fit, where that is known.
    """
    if name not in _SHAPES:
        return ""
    kind, shape = _SHAPES[name]
    sizes = [k if size == "k" else size for size in shape]
    fits = values.ndim == len(sizes) and all(
        not isinstance(size, int) or size == n for size, n in zip(sizes, values.shape, strict=True)
    )
    wide = kind == "u" and values.dtype != np.uint8
    if not fits or values.dtype.kind != kind or wide:
        return f"it is {values.dtype} of shape {values.shape}"
    if name == "palette" and values.shape[1] not in (3, 4):
        return f"its colours have {values.shape[1]} channels"
    if name == "counts" and values.size and int(values.min()) < 0:
        return "it holds a negative number"
    if name in ("centroids", "counts") and not np.isfinite(values).all():
        return "it holds what is no number"
    return ""
