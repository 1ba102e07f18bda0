"""Means and covariances of features as sums that merge, and the projection made of them."""

# mypy: disable-error-code="no-untyped-def,no-untyped-call"
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

NO_SPREAD = 1e-12
"""A feature whose variance is below this, or below this share of its mean square, is constant:
responses to images of 0 … 1 carry rounding errors of about 1e-8."""


@dataclass(frozen=True)
class FeatureSums:
    """What a tile adds to the statistics of an image or a collection.

    Parameters
    ----------
    n : rows seen.
    total : (d,) float64, Σ x.
    products : (d, d) float64, Σ x xᵀ.
    """

    n: int
    total: NDArray[np.float64]
    products: NDArray[np.float64]

    @staticmethod
    def of(rows: NDArray[np.float32]) -> "FeatureSums":
        """Sums over the rows of an (n, d) float32 array, in their order."""
        depth = rows.shape[1]
        total, products = np.zeros(depth), np.zeros((depth, depth))
        _add_rows(np.ascontiguousarray(rows, np.float32), total, products)
        products += np.tril(products, -1).T
        return FeatureSums(len(rows), total, products)

    @staticmethod
    def merge(parts: Sequence["FeatureSums"]) -> "FeatureSums":
        """Sums of several parts, added in the order given."""
        total, products = parts[0].total.copy(), parts[0].products.copy()
        for part in parts[1:]:
            total += part.total
            products += part.products
        return FeatureSums(sum(part.n for part in parts), total, products)

    def mean_and_covariance(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(d,) and (d, d) float64; rows and columns of constant features are 0."""
        if self.n < 1:
            raise ValueError("no rows to take statistics of")
        mean = self.total / self.n
        mean_square = np.diag(self.products) / self.n
        covariance = self.products / self.n - np.outer(mean, mean)
        constant = np.diag(covariance) <= NO_SPREAD * np.maximum(mean_square, 1)
        covariance[constant] = 0
        covariance[:, constant] = 0
        return mean, covariance


@dataclass(frozen=True)
class Projection:
    """``(x − mean) @ matrix``: from features as measured to the space that is clustered.

    Parameters
    ----------
    mean : (d,) float32.
    matrix : (d, m) float32.
    """

    mean: NDArray[np.float32]
    matrix: NDArray[np.float32]

    def apply(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, d) → (n, m) float32, a row's result being independent of the others."""
        out = np.empty((len(rows), self.matrix.shape[1]), np.float32)
        zero = np.zeros(self.matrix.shape[1], np.float32)
        _affine(np.ascontiguousarray(rows, np.float32), self.mean, self.matrix, zero, out)
        return out


def identity(depth: int) -> Projection:
    """The projection that changes nothing."""
    return Projection(np.zeros(depth, np.float32), np.eye(depth, dtype=np.float32))


def standardise(sums: FeatureSums, groups: Sequence[tuple[int, float]] = ()) -> Projection:
    """Each feature to mean 0 and variance 1; constant ones to 0.

    Parameters
    ----------
    sums : of all rows.
    groups : (features, weight) of consecutive groups: the features of a group are divided by the
        root of their number and multiplied by the weight, so that weights compare groups.
    """
    mean, covariance = sums.mean_and_covariance()
    variance = np.diag(covariance)
    scale = np.where(variance > 0, 1 / np.sqrt(np.where(variance > 0, variance, 1)), 0)
    if groups:
        share = [np.full(size, weight / np.sqrt(size)) for size, weight in groups]
        scale = scale * np.concatenate(share)
    return Projection(mean.astype(np.float32), np.diag(scale).astype(np.float32))


def half_whiten(sums: FeatureSums, components: int) -> Projection:
    """Principal components, each divided by the root of its standard deviation.

    Between rotation (which leaves the first component to rule) and whitening (which raises
    noise to the same rank); the variance of all components together becomes 1.
    """
    if components < 1:
        raise ValueError(f"components: expected at least 1, got {components}")
    mean, covariance = sums.mean_and_covariance()
    variances, axes = np.linalg.eigh(covariance)
    order = np.argsort(-variances, kind="stable")[: min(components, len(mean))]
    variances, axes = variances[order], axes[:, order]
    kept = variances > max(variances[0], 0) * NO_SPREAD
    axes *= np.where(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])] < 0, -1, 1)
    scale = np.where(kept, np.where(kept, variances, 1) ** -0.25, 0)
    spread = np.sqrt(np.where(kept, variances, 0)).sum()  # Σ of the scaled variances
    matrix = axes * scale / np.sqrt(spread if spread > 0 else 1)
    return Projection(mean.astype(np.float32), matrix.astype(np.float32))


@njit(nogil=True, cache=True)
def _add_rows(rows, total, products):
    """Σ x, and the lower triangle of Σ x xᵀ."""
    for n in range(rows.shape[0]):
        row = rows[n].astype(np.float64)
        for i in range(rows.shape[1]):
            value = row[i]
            total[i] += value
            target = products[i]
            for j in range(i + 1):
                target[j] += value * row[j]


@njit(nogil=True, cache=True)
def _affine(rows, mean, matrix, bias, out):
    """``out = bias + (rows − mean) @ matrix``, each row summed in the order of its features."""
    for n in range(rows.shape[0]):
        target = out[n]
        target[:] = bias
        for i in range(rows.shape[1]):
            value = rows[n, i] - mean[i]
            factors = matrix[i]
            for j in range(len(bias)):
                target[j] += value * factors[j]
