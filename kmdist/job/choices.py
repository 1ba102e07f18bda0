"""Numbers of clusters as users ask for them, and how one was chosen."""

from typing import Any

from kmdist.errors import UsageError


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
