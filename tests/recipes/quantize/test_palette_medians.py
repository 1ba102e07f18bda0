"""Palettes by Manhattan distance against medians of all the pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data as pictures

from kmdist.engine.kernels.manhattan import assign_manhattan, count_values, medians_of_counts
from kmdist.errors import UsageError
from kmdist.recipes.quantize.kernels.histogram import count_colors
from kmdist.recipes.quantize.kernels.label_table import apply_table, label_table
from kmdist.recipes.quantize.options import QuantizeOptions
from kmdist.recipes.quantize.palette import (
    ColorCloud,
    PaletteOptions,
    fit_palette,
    iterate_palette,
    label_colors,
)

OPTIONS = PaletteOptions(metric="manhattan", tol=0)


def naive_fit(pixels: np.ndarray, medians: np.ndarray, n_iter: int) -> np.ndarray:
    """k-medians on all pixels; a cluster without pixels keeps its median."""
    for _ in range(n_iter):
        labels = np.abs(pixels[:, None].astype(int) - medians).sum(axis=2).argmin(axis=1)
        for j in set(labels.tolist()):
            medians[j] = np.percentile(pixels[labels == j], 50, axis=0, method="inverted_cdf")
    return medians


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32), st.integers(2, 300), st.sampled_from([2, 9, 256]), st.integers(1, 6))
def test_iterations_equal_medians_of_the_pixels(seed, n, spread, k) -> None:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, spread, (n, 3), dtype=np.uint8)
    cloud = ColorCloud(count_colors(pixels))
    k = min(k, len(cloud.colors) - 1)
    if k < 1:
        return
    init = random.permutation(cloud.colors.rgb)[:k].astype(float)
    options = PaletteOptions(metric="manhattan", tol=0, init=init, max_iter=4)
    states = list(iterate_palette(cloud, k, options))
    if any(state.n_repaired for state in states):
        assert all(state.counts.all() for state in states[-1:])
        return
    wanted = naive_fit(pixels, init.copy(), states[-1].iteration)
    np.testing.assert_array_equal(states[-1].centroids, wanted)
    distances = np.abs(pixels[:, None].astype(int) - wanted).sum(axis=2)
    assert states[-1].inertia == distances.min(axis=1).sum()
    assert states[-1].counts.tolist() == np.bincount(distances.argmin(axis=1), None, k).tolist()


def test_a_photograph_gets_medians_and_nearest_labels() -> None:
    photo = np.ascontiguousarray(pictures.coffee()[::4, ::4])
    cloud = ColorCloud(count_colors(photo))
    palette = fit_palette(cloud, 12, OPTIONS)
    assert palette.state.stop_reason == "converged"
    assert (np.diff(palette.history[:, 0]) <= 0).all()
    np.testing.assert_array_equal(palette.palette, palette.state.centroids)
    labels = apply_table(photo, label_table(cloud.colors.codes, palette.labels))
    distances = np.abs(photo[:, :, None].astype(int) - palette.palette).sum(axis=3)
    np.testing.assert_array_equal(labels, distances.argmin(axis=2))
    assert palette.state.inertia == distances.min(axis=2).sum()
    # Before sorting, which sends ties elsewhere.
    state = list(iterate_palette(cloud, 12, OPTIONS))[-1]
    unsorted = label_colors(cloud, state.centroids, "manhattan")[0]
    labels = apply_table(photo, label_table(cloud.colors.codes, unsorted))
    for j in range(12):
        middle = np.percentile(photo[labels == j], 50, axis=0, method="inverted_cdf")
        np.testing.assert_array_equal(state.centroids[j], middle)
    means = fit_palette(cloud, 12)
    assert palette.state.inertia < label_colors(cloud, means.state.centroids, "manhattan")[2]


def test_equal_distances_go_to_the_lowest_index() -> None:
    points = np.array([[4, 4, 4], [5, 4, 4]], np.float32)
    medians = np.array([[9, 9, 9], [4, 6, 4], [4, 2, 4], [6, 4, 4]], np.float32)
    labels, distances = assign_manhattan(points, medians)
    assert (labels.tolist(), distances.tolist()) == ([1, 3], [2, 1])


def test_the_lower_median_and_empty_clusters() -> None:
    rgb = np.array([[1, 10, 0], [3, 10, 0], [5, 11, 9]], np.uint8)
    weights = np.array([2**50, 2**50, 2**51], np.float64)
    values = count_values(rgb, weights, np.array([2, 2, 2], np.int32), 3)
    assert medians_of_counts(values).tolist() == [[0, 0, 0], [0, 0, 0], [3, 10, 0]]
    assert values[:, 0].sum(axis=1).tolist() == [0, 0, 2**52]


def test_empty_clusters_take_the_most_expensive_colours() -> None:
    rgb = np.array([[10, 10, 10], [20, 10, 10], [10, 90, 10], [10, 10, 60]], np.uint8)
    cloud = ColorCloud(count_colors(rgb.repeat([50, 9, 1, 3], axis=0)))
    init = np.array([[10, 10, 10], [200, 200, 200], [250, 250, 250]])
    states = list(iterate_palette(cloud, 3, PaletteOptions(metric="manhattan", tol=0, init=init)))
    # Costs from (10, 10, 10): red 90, blue 150, green 80.
    np.testing.assert_array_equal(states[1].centroids, [[10, 10, 10], [10, 10, 60], [20, 10, 10]])
    assert states[1].n_repaired == 2


def test_no_more_colours_than_asked_for_is_exact() -> None:
    cloud = ColorCloud(count_colors(np.arange(30, dtype=np.uint8).reshape(10, 3)))
    palette = fit_palette(cloud, 16, OPTIONS)
    assert (palette.k, palette.state.inertia) == (10, 0)


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(UsageError, match="not in lab: use space rgb"):
        QuantizeOptions(metric="manhattan", space="lab")
