"""How well clusters agree with known classes, from their contingency table alone.

The table is a sum over blocks: count it where the labels are, add the parts, score the total.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scores:
    """Agreement of a clustering with known classes; each is 1 where they are the same partition.

    Parameters
    ----------
    accuracy_hungarian : share of rows right under the best one-to-one map of clusters to classes;
        clusters beyond the number of classes stay unmapped and their rows count as wrong.
    accuracy_majority : share of rows right when each cluster takes its most frequent class.
    nmi : normalised mutual information, arithmetic mean of the entropies.
    ari : adjusted Rand index (Hubert and Arabie, 1985).
    homogeneity, completeness : Rosenberg and Hirschberg, 2007.
    """

    accuracy_hungarian: float
    accuracy_majority: float
    nmi: float
    ari: float
    homogeneity: float
    completeness: float


def confusion_matrix(
    labels: np.ndarray, classes: np.ndarray, k: int | None = None, n_classes: int | None = None
) -> np.ndarray:
    """How many rows of each cluster are of each class.

    Parameters
    ----------
    labels : (n,) integers, 0 … k − 1.
    classes : (n,) integers, 0 … n_classes − 1.
    k, n_classes : the size of the table; None: as many as occur.

    Returns
    -------
    (k, n_classes) int64; tables of parts of the rows, of one size, may be added.

    Raises
    ------
    ValueError : the lengths differ, or a value lies outside the table.
    """
    labels, classes = np.ravel(labels).astype(np.int64), np.ravel(classes).astype(np.int64)
    if labels.shape != classes.shape:
        raise ValueError(f"{labels.size} labels but {classes.size} classes: one of each a row")
    k = int(labels.max(initial=-1)) + 1 if k is None else k
    m = int(classes.max(initial=-1)) + 1 if n_classes is None else n_classes
    if labels.size and not (labels.min() >= 0 and labels.max() < k):
        raise ValueError(f"labels {labels.min()} … {labels.max()} do not lie in 0 … {k - 1}")
    if classes.size and not (classes.min() >= 0 and classes.max() < m):
        raise ValueError(f"classes {classes.min()} … {classes.max()} do not lie in 0 … {m - 1}")
    return np.bincount(labels * m + classes, minlength=k * m).reshape(k, m)


def majority_map(table: np.ndarray) -> np.ndarray:
    """The most frequent class of each cluster (ties: the lowest).

    Parameters
    ----------
    table : (k, classes), from `confusion_matrix`.

    Returns
    -------
    (k,) int64; 0 for a cluster without rows.
    """
    return np.asarray(np.argmax(table, axis=1), dtype=np.int64)


def hungarian_map(table: np.ndarray) -> np.ndarray:
    """The one-to-one map of clusters to classes that gets most rows right (Kuhn, 1955).

    Returns
    -------
    (k,) int64; −1 for clusters left over where there are more of them than classes.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(table, maximize=True)
    mapped = np.full(len(table), -1, dtype=np.int64)
    mapped[rows] = columns
    return mapped


def accuracy(table: np.ndarray, mapped: np.ndarray) -> float:
    """Share of rows whose cluster's class is theirs; the map may come from other rows.

    Parameters
    ----------
    table : (k, classes), from `confusion_matrix`.
    mapped : (k,) class of each cluster; −1: none.
    """
    total = int(table.sum())
    known = np.flatnonzero(mapped >= 0)
    return float(table[known, mapped[known]].sum() / total) if total else 1.0


def score_table(table: np.ndarray) -> Scores:
    """All scores of a contingency table.

    Parameters
    ----------
    table : (k, classes) int64, from `confusion_matrix`.

    Returns
    -------
    Scores
    """
    homogeneity, completeness, nmi = _entropy_scores(table)
    return Scores(
        accuracy_hungarian=accuracy(table, hungarian_map(table)),
        accuracy_majority=accuracy(table, majority_map(table)),
        nmi=nmi,
        ari=_adjusted_rand(table),
        homogeneity=homogeneity,
        completeness=completeness,
    )


def score_labels(labels: np.ndarray, classes: np.ndarray) -> Scores:
    """`score_table` of the table of labels and classes, (n,) each."""
    return score_table(confusion_matrix(labels, classes))


def _entropy_scores(table: np.ndarray) -> tuple[float, float, float]:
    total = float(table.sum())
    if not total:
        return 1.0, 1.0, 1.0
    shares = table / total
    clusters, classes = shares.sum(axis=1), shares.sum(axis=0)
    cluster_entropy, class_entropy = _entropy(clusters), _entropy(classes)
    filled = shares > 0
    expected = np.outer(clusters, classes)
    information = float((shares[filled] * np.log(shares[filled] / expected[filled])).sum())
    information = max(information, 0.0)
    homogeneity = information / class_entropy if class_entropy else 1.0
    completeness = information / cluster_entropy if cluster_entropy else 1.0
    mean = (cluster_entropy + class_entropy) / 2.0
    return homogeneity, completeness, information / mean if mean else 1.0


def _entropy(shares: np.ndarray) -> float:
    positive = shares[shares > 0]
    return 0.0 if positive.size <= 1 else float(-(positive * np.log(positive)).sum())


def _adjusted_rand(table: np.ndarray) -> float:
    """From pairs of rows, in Python integers: they overflow int64 above four billion rows."""
    n = int(table.sum())
    pairs = sum(int(x) * (int(x) - 1) // 2 for x in table.ravel())
    own = sum(int(x) * (int(x) - 1) // 2 for x in table.sum(axis=1))
    theirs = sum(int(x) * (int(x) - 1) // 2 for x in table.sum(axis=0))
    every = n * (n - 1) // 2
    if not every or own == theirs == pairs:
        return 1.0
    expected = own * theirs / every
    return float((pairs - expected) / ((own + theirs) / 2.0 - expected))
