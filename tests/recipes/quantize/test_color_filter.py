"""Filtered nearest centroids and their sums against all distances in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmdist.recipes.quantize.kernels import color_tree
from kmdist.recipes.quantize.kernels.color_tree import ColorTree, build_tree, label_chunk, sum_chunk
from kmdist.recipes.quantize.kernels.histogram import decode_colors, encode_colors
from kmdist.recipes.quantize.palette.seeding import seed_indices


def random_colors(random: np.random.Generator, n: int, spread: int) -> np.ndarray:
    """Distinct colours in order of code, some in one corner and some anywhere."""
    near = random.integers(0, spread, (n, 3)) + random.integers(0, 257 - spread, 3)
    rest = random.integers(0, 256, (n // 4, 3))
    codes = np.unique(encode_colors(np.concatenate([near, rest]).astype(np.uint8)))
    return codes


def naive(points: np.ndarray, weights: np.ndarray, centroids: np.ndarray):
    """Labels, sums and inertia from all differences in float64."""
    distances = ((points[:, None, :].astype(np.float64) - centroids) ** 2).sum(axis=2)
    labels = distances.argmin(axis=1)
    sums = np.zeros((len(centroids), 4), weights.dtype)
    # In the weights' own type: products of 64-bit weights do not fit a float64.
    weighted = points.astype(weights.dtype) * weights[:, None]
    np.add.at(sums, labels, np.column_stack([weighted, weights]))
    return labels, sums, float((weights * distances.min(axis=1)).sum()), distances


def run(tree: ColorTree, centroids: np.ndarray):
    """Labels, sums without labels, sums with them, and inertia of all chunks."""
    labels = np.zeros(len(tree), np.uint16)
    exact = np.zeros((len(centroids), 4), tree.weights.dtype)
    fast = sum(sum_chunk(tree, chunk, centroids) for chunk in range(tree.n_chunks))
    chunks = range(tree.n_chunks)
    inertia = sum(label_chunk(tree, chunk, centroids, labels, exact) for chunk in chunks)
    return labels, fast, exact, inertia


COLORS = st.builds(
    lambda seed, n, spread: (np.random.default_rng(seed), n, spread),
    st.integers(0, 2**32),
    st.integers(1, 3000),
    st.sampled_from([1, 2, 9, 40, 256]),
)


@settings(deadline=None, max_examples=60)
@given(COLORS, st.integers(1, 70), st.booleans())
def test_integer_points_are_labelled_and_summed_exactly(colors, k, integer_centroids) -> None:
    random, n, spread = colors
    codes = random_colors(random, n, spread)
    points = color_points(codes)
    weights = random.integers(1, 2**40, len(codes))
    centroids = random.uniform(0, 255, (k, 3)).astype(np.float32)
    # Half of the centroids among the colours, where distances are small and ties are many.
    centroids[::2] = points[random.integers(0, len(points), len(centroids[::2]))]
    if integer_centroids:
        centroids = np.rint(centroids)
    tree = build_tree(codes, points, weights)
    wanted_labels, wanted_sums, wanted_inertia, _ = naive(points, weights, centroids)
    labels, fast, exact, inertia = run(tree, centroids)
    np.testing.assert_array_equal(labels, wanted_labels)
    np.testing.assert_array_equal(exact, wanted_sums)
    assert inertia == pytest.approx(wanted_inertia, rel=1e-12)
    np.testing.assert_array_equal(fast, wanted_sums)
    assert tree.squares == pytest.approx(
        float((weights * (points.astype(np.float64) ** 2).sum(axis=1)).sum()), rel=1e-12
    )


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(COLORS, st.integers(1, 40), st.sampled_from([1e-3, 1.0, 1e4]), st.sampled_from([0, 3e3]))
def test_other_spaces_are_labelled_exactly(colors, k, scale, offset) -> None:
    random, n, spread = colors
    codes = random_colors(random, n, spread)
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    points = ((color_points(codes) @ turn + offset) * scale).astype(np.float32)
    weights = random.integers(1, 1000, len(codes)).astype(np.float64)
    centroids = points[random.integers(0, len(points), k)]
    centroids = (centroids + random.normal(size=(k, 3)) * scale).astype(np.float32)
    tree = build_tree(codes, points, weights)
    wanted_labels, wanted_sums, wanted_inertia, _ = naive(points, weights, centroids)
    labels, fast, exact, inertia = run(tree, centroids)
    np.testing.assert_array_equal(labels, wanted_labels)
    np.testing.assert_allclose(exact, wanted_sums, rtol=1e-12)
    np.testing.assert_allclose(fast, wanted_sums, rtol=1e-12)
    assert inertia == pytest.approx(wanted_inertia, rel=1e-12)


def color_points(codes: np.ndarray) -> np.ndarray:
    return decode_colors(codes).astype(np.float32)


def test_equal_distances_go_to_the_lowest_index() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(0, 20, 2, dtype=np.uint8)] * 3), -1).reshape(-1, 3)
    codes = np.unique(encode_colors(grid))
    points = color_points(codes)
    odd = np.stack(np.meshgrid(*[np.arange(1, 19, 2)] * 3), -1).reshape(-1, 3)
    centroids = np.random.default_rng(0).permutation(odd).astype(np.float32)
    centroids = np.concatenate([centroids, centroids[::3]])
    tree = build_tree(codes, points, np.ones(len(codes), np.int64))
    wanted_labels, wanted_sums, _, distances = naive(points, tree.weights, centroids)
    assert (np.sort(distances, axis=1)[:, 0] == np.sort(distances, axis=1)[:, 1]).mean() > 0.9
    labels, fast, exact, _ = run(tree, centroids)
    np.testing.assert_array_equal(labels, wanted_labels)
    np.testing.assert_array_equal(fast, wanted_sums)
    np.testing.assert_array_equal(exact, wanted_sums)


def test_chunks_cover_all_points_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(color_tree, "_CHUNK_SIZE", 1000)
    random = np.random.default_rng(1)
    codes = random_colors(random, 9000, 128)
    points, weights = color_points(codes), random.integers(1, 9, len(codes))
    tree = build_tree(codes, points, weights)
    assert tree.n_chunks > 5
    centroids = random.uniform(0, 255, (30, 3)).astype(np.float32)
    wanted_labels, wanted_sums, wanted_inertia, _ = naive(points, weights, centroids)
    labels, fast, exact, inertia = run(tree, centroids)
    np.testing.assert_array_equal(labels, wanted_labels)
    np.testing.assert_array_equal(fast, wanted_sums)
    np.testing.assert_array_equal(exact, wanted_sums)
    assert inertia == pytest.approx(wanted_inertia, rel=1e-12)


def test_sums_beyond_53_bits_are_exact() -> None:
    codes = encode_colors(np.array([[0, 0, 0], [1, 1, 1], [255, 254, 253]], np.uint8))
    weights = np.array([2**54 + 1, 2**54 + 3, 2**54 + 5])
    tree = build_tree(codes, color_points(codes), weights)
    for sums in run(tree, np.zeros((1, 3), np.float32))[1:3]:
        assert sums[0].tolist() == [
            weights[1] + channel * weights[2] for channel in (255, 254, 253)
        ] + [weights.sum()]


def test_boxes_hold_their_points_and_leaves_their_sums() -> None:
    random = np.random.default_rng(2)
    codes = random_colors(random, 5000, 90)
    points = (color_points(codes) * np.float32(0.1)).astype(np.float32)
    weights = random.random(len(codes))
    tree = build_tree(codes, points, weights)
    starts = tree.leaf_starts
    assert starts[0] == 0
    assert starts[-1] == len(codes)
    assert 1 <= np.diff(starts).min() <= np.diff(starts).max() <= color_tree.LEAF_SIZE
    for boxes, bounds in ((tree.leaf_boxes, starts), (tree.node_boxes, starts[tree.node_starts])):
        for box, first, last in zip(boxes, bounds[:-1], bounds[1:], strict=True):
            off = np.abs(points[first:last].astype(np.float64) - box[:3])
            assert (off <= box[3:]).all()
    weighted = np.column_stack([points * weights[:, None], weights])
    np.testing.assert_allclose(tree.leaf_sums, np.add.reduceat(weighted, starts[:-1]), rtol=1e-12)


def test_trees_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        build_tree(np.empty(0, np.uint32), np.empty((0, 3), np.float32), np.empty(0, np.int64))
    with pytest.raises(ValueError, match="at least one point"):
        build_tree(np.zeros(2, np.uint32), np.zeros((2, 3), np.float32), np.ones(1, np.int64))


@settings(deadline=None, max_examples=30)
@given(COLORS, st.data())
def test_seeds_are_distinct_even_for_extreme_weights(colors, data) -> None:
    random, n, spread = colors
    points = color_points(random_colors(random, n, spread))
    k = data.draw(st.integers(1, min(len(points), 60)))
    weights = 10.0 ** random.integers(0, data.draw(st.sampled_from([1, 4, 12])), len(points))
    uniforms = random.random((k, 3))
    uniforms[random.random((k, 3)) < 0.2] = np.nextafter(1, 0)
    chosen = seed_indices(points, weights, uniforms)
    assert len(np.unique(chosen)) == k
    assert ((chosen >= 0) & (chosen < len(points))).all()


def test_seeds_spread_over_separate_groups() -> None:
    corners = np.array([[0, 0, 0], [250, 0, 0], [0, 250, 0], [0, 0, 250]])
    points = (np.repeat(corners, 50, axis=0) + np.arange(200)[:, None] % 5).astype(np.float32)
    weights = np.repeat([20.0, 1.0, 5.0, 2.0], 50)
    chosen = seed_indices(points, weights, np.random.default_rng(0).random((4, 3)))
    assert sorted(chosen // 50) == [0, 1, 2, 3]


def test_the_first_seed_follows_the_weights() -> None:
    points = np.arange(9, dtype=np.float32).reshape(3, 3)
    uniforms = (np.arange(1000)[:, None, None] + 0.5) / 1000
    weights = np.array([1.0, 2.0, 7.0])
    drawn = [seed_indices(points, weights, u)[0] for u in uniforms]
    np.testing.assert_allclose(np.bincount(drawn), [100, 200, 700], atol=1)


def test_more_seeds_than_points_are_refused() -> None:
    with pytest.raises(ValueError, match="4 centres need at least 4 points, received 3"):
        seed_indices(np.zeros((3, 3), np.float32), np.ones(3), np.zeros((4, 2)))
