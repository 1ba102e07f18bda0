"""Texture features: against naive versions, and the same for every tiling."""

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from kmdist.filters import FilterBank, gabor, read_window, tile_responses, tutorial, with_halo
from kmdist.filters.cell_labels import (
    Scorer,
    label_pixels,
    nearest,
    squared_distances,
    sum_colors,
)
from kmdist.filters.cells import (
    CELL,
    TileGrid,
    average_modulus,
    average_pair,
    grid_shape,
    pool,
    sampled_cells,
    texton_histograms,
    window_radius,
    window_weights,
    within,
)
from kmdist.filters.features import (
    COLOR_TEXTURE,
    GABOR,
    LM,
    PRESETS,
    TEXTONS,
    TextureFeatures,
    cell_means,
    clustered_cells,
    features_of_textons,
    tile_features,
    tile_moduli,
    tile_textons,
)
from kmdist.filters.statistics import (
    FeatureSums,
    Projection,
    half_whiten,
    identity,
    standardise,
)

SMALL_BANK = FilterBank(
    np.random.default_rng(1).standard_normal((4, 9, 9)), ("a", "b", "c", "d"), quadrature=True
)
SMALL = TextureFeatures(SMALL_BANK, pool_px=7.0)
SMALL_TEXTONS = TextureFeatures(SMALL_BANK, pool_px=7.0, textons=5)
SMALL_COLOR = TextureFeatures(SMALL_BANK, pool_px=7.0, color_weight=0.8, color_px=12.0, edge=15.0)


def picture(height, width, seed=0):
    """Smooth and rough parts, so that textures differ."""
    rng = np.random.default_rng(seed)
    noise = rng.random((height, width, 3))
    noise[: height // 2] = scipy.ndimage.gaussian_filter(noise[: height // 2], (2, 2, 0))
    return (noise * 255).astype(np.uint8)


def windows(height, width, tile):
    for y in range(0, height, tile):
        for x in range(0, width, tile):
            yield y, x, min(y + tile, height), min(x + tile, width)


def cell_average(plane):
    """The mean over each cell, in the plainest way."""
    rows, columns = grid_shape(plane.shape)
    return np.array(
        [
            [plane[4 * r : 4 * r + 4, 4 * c : 4 * c + 4].mean() for c in range(columns)]
            for r in range(rows)
        ]
    )


@given(st.integers(1, 23), st.integers(1, 23), st.integers(0, 5))
@settings(deadline=None, max_examples=40)
def test_cell_averages(height, width, seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((height, width)) + 1j * rng.standard_normal((height, width))
    values = values.astype(np.complex64)
    shape = grid_shape((height, width))
    buffer = np.full((height + 2, width + 3), 1e9, np.complex64)
    buffer[1:-1, 2:-1] = values
    interleaved, box = buffer.view(np.float32), (1, 2, height + 1, width + 2)
    cells = np.full((shape[0] + 1, shape[1] + 2, 4), -1, np.float32)
    average_pair(interleaved, box, cells, 1, 1, 0, 2)
    average_modulus(interleaved, box, cells, 1, 1, 3)
    first, untouched, second, modulus = np.moveaxis(cells[1:, 1:-1], 2, 0)
    assert (untouched == -1).all()
    assert (cells[0] == -1).all()
    assert (cells[:, -1] == -1).all()
    average_pair(interleaved, box, cells, 1, 1, 1, -1)
    assert (cells[1:, 1:-1, 1] == first).all()
    np.testing.assert_allclose(first, cell_average(np.abs(values.real)), rtol=1e-5)
    np.testing.assert_allclose(second, cell_average(np.abs(values.imag)), rtol=1e-5)
    np.testing.assert_allclose(modulus, cell_average(np.abs(values)), rtol=1e-5)
    planes = np.stack([values.real, values.imag], -1)
    means = cell_means(planes, shape)
    np.testing.assert_allclose(means[..., 0], cell_average(values.real), rtol=1e-4, atol=1e-6)


def naive_pool(cells, sigma_px):
    """Normalised convolution of the whole image by SciPy."""
    weights = window_weights(sigma_px).astype(np.float64)

    def blur(values):
        for axis in (0, 1):
            values = scipy.ndimage.correlate1d(values, weights, axis, mode="constant")
        return values

    ones = blur(np.ones(cells.shape[:2]))
    return np.stack([blur(c.astype(np.float64)) / ones for c in np.moveaxis(cells, 2, 0)], 2)


@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from([0.0, 1.0, 3.0, 9.0]), st.data())
@settings(deadline=None, max_examples=40)
def test_pooling_a_part_equals_the_whole(rows, columns, sigma_px, data):
    rng = np.random.default_rng(rows * 31 + columns)
    cells = rng.random((rows, columns, 3), dtype=np.float32)
    whole = (0, 0, rows, columns)
    pooled = pool(cells, whole, whole, sigma_px)
    np.testing.assert_allclose(pooled, naive_pool(cells, sigma_px), rtol=1e-5)
    y0 = data.draw(st.integers(0, rows - 1))
    x0 = data.draw(st.integers(0, columns - 1))
    want = (y0, x0, data.draw(st.integers(y0 + 1, rows)), data.draw(st.integers(x0 + 1, columns)))
    radius = window_radius(sigma_px)
    have = (
        max(0, want[0] - radius),
        max(0, want[1] - radius),
        min(rows, want[2] + radius),
        min(columns, want[3] + radius),
    )
    part = pool(cells[have[0] : have[2], have[1] : have[3]], have, want, sigma_px)
    assert part.tobytes() == pooled[want[0] : want[2], want[1] : want[3]].tobytes()


def naive_pool_to_edges(cells, colors, sigma_px, edge):
    """Rows, then columns; a cell counts 1 / (1 + (difference / edge)²)² of its weight."""
    weights = window_weights(sigma_px).astype(np.float64)
    radius = len(weights) // 2
    colors = colors.astype(np.float64)
    for _ in range(2):
        pooled = np.empty(cells.shape)
        for y, x in np.ndindex(cells.shape[:2]):
            near = np.arange(max(0, y - radius), min(len(cells), y + radius + 1))
            differences = np.linalg.norm(colors[near, x] - colors[y, x], axis=1)
            factors = weights[near - y + radius] / (1 + (differences / edge) ** 2) ** 2
            pooled[y, x] = factors @ cells[near, x] / factors.sum()
        cells, colors = pooled.transpose(1, 0, 2), colors.transpose(1, 0, 2)
    return cells


@given(st.integers(1, 14), st.integers(1, 90), st.sampled_from([3.0, 9.0]), st.data())
@settings(deadline=None, max_examples=20)
def test_pooling_to_edges_is_that_of_any_part(rows, columns, sigma_px, data):
    rng = np.random.default_rng(rows * 91 + columns)
    cells = rng.random((rows, columns, 5), dtype=np.float32)
    colors = rng.normal(50, 20, (rows, columns, 3)).astype(np.float32)
    whole = (0, 0, rows, columns)
    pooled = pool(cells, whole, whole, sigma_px, colors=colors, edge=20.0)
    np.testing.assert_allclose(
        pooled, naive_pool_to_edges(cells, colors, sigma_px, 20.0), rtol=1e-5
    )
    x0 = data.draw(st.integers(0, columns - 1))
    want = (rows // 2, x0, rows, data.draw(st.integers(x0 + 1, columns)))
    have = read_window(want, window_radius(sigma_px), (rows, columns))
    own = within(have, whole)
    part = pool(cells[own], have, want, sigma_px, colors=colors[own], edge=20.0)
    assert part.tobytes() == pooled[within(want, whole)].tobytes()


def test_windows_end_at_edges():
    """Noise of two means, side by side: pooled to edges they meet in a step of one cell."""
    rng = np.random.default_rng(0)
    cells = np.repeat([0.0, 1.0], 20)[None, :, None] + rng.normal(0, 0.05, (30, 40, 1))
    colors = np.repeat([20.0, 90.0], 20)[None, :, None] + rng.normal(0, 1, (30, 40, 3))
    cells, colors = cells.astype(np.float32), colors.astype(np.float32)
    whole = (0, 0, 30, 40)
    beside = slice(19, 21)
    across = pool(cells, whole, whole, 20.0)[:, beside, 0]
    to_edges = pool(cells, whole, whole, 20.0, colors=colors, edge=20.0)[:, beside, 0]
    assert (np.diff(across) < 0.1).all()
    assert (np.diff(to_edges) > 0.85).all()


def test_window_has_the_variance_asked_for():
    for sigma_px in (4.0, 14.0, 20.0):
        weights = window_weights(sigma_px).astype(np.float64)
        offsets = np.arange(len(weights)) - len(weights) // 2
        variance = (weights * (offsets * CELL) ** 2).sum() + (CELL**2 - 1) / 12
        assert np.sqrt(variance) == pytest.approx(sigma_px, rel=0.03)  # cut at 3 sigma
    assert window_radius(1.0) == 0


def test_texton_histograms_are_pooled_one_hot_maps():
    textons = np.random.default_rng(0).integers(0, 6, (17, 23), dtype=np.uint8)
    box = (0, 0, 17, 23)
    one_hot = np.eye(6, dtype=np.float32)[textons]
    got = texton_histograms(textons, box, box, 11.0, 6)
    np.testing.assert_allclose(got, np.sqrt(naive_pool(one_hot, 11.0)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose((got**2).sum(-1), 1, rtol=1e-5)


@given(st.integers(2, 60), st.integers(1, 6), st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_sums_standardise_whatever_the_parts(n, depth, seed):
    rng = np.random.default_rng(seed)
    rows = (rng.standard_normal((n, depth)) * 3 + 50).astype(np.float32)
    cuts = np.sort(rng.integers(0, n + 1, 2))
    merged = FeatureSums.merge([FeatureSums.of(part) for part in np.split(rows, cuts)])
    assert merged.n == n
    mean, covariance = merged.mean_and_covariance()
    np.testing.assert_allclose(mean, rows.mean(0, dtype=np.float64), rtol=1e-9)
    expected = np.atleast_2d(np.cov(rows.T.astype(np.float64), bias=True))
    np.testing.assert_allclose(covariance, expected, rtol=1e-6, atol=1e-7)
    projected = standardise(merged).apply(rows)
    np.testing.assert_allclose(projected.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(projected.std(0), 1, rtol=1e-3)


def test_constant_features_become_zero_and_groups_are_weighed():
    rows = np.random.default_rng(0).standard_normal((500, 5)).astype(np.float32)
    rows[:, 2] = 0.1
    sums = FeatureSums.of(rows)
    projected = standardise(sums, [(3, 1.0), (2, 0.5)]).apply(rows)
    assert (projected[:, 2] == 0).all()
    np.testing.assert_allclose(projected[:, :2].var(0), 1 / 3, rtol=1e-4)
    np.testing.assert_allclose(projected[:, 3:].var(0), 0.25 / 2, rtol=1e-4)
    flat = FeatureSums.of(np.full((9, 3), 7, np.float32))
    assert (half_whiten(flat, 2).matrix == 0).all()
    with pytest.raises(ValueError, match="no rows"):
        FeatureSums.of(np.empty((0, 3), np.float32)).mean_and_covariance()


def test_half_whitening_takes_the_root_of_each_components_deviation():
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((4000, 3)) * [9.0, 3.0, 1.0]) @ np.linalg.qr(
        rng.standard_normal((3, 3))
    )[0]
    projected = half_whiten(FeatureSums.of(rows.astype(np.float32)), 2).apply(
        rows.astype(np.float32)
    )
    covariance = np.cov(projected.T)
    assert abs(covariance[0, 1]) < 1e-3
    assert covariance[0, 0] / covariance[1, 1] == pytest.approx(3, rel=0.05)  # not 9, not 1
    assert np.trace(covariance) == pytest.approx(1, rel=1e-3)


def test_projection_of_a_row_does_not_depend_on_its_company():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((257, 36)).astype(np.float32)
    projection = Projection(rows.mean(0), rng.standard_normal((36, 12)).astype(np.float32))
    alone = np.concatenate([projection.apply(row[None]) for row in rows])
    assert alone.tobytes() == projection.apply(rows).tobytes()
    np.testing.assert_allclose(
        alone, (rows.astype(float) - rows.mean(0)) @ projection.matrix, rtol=1e-3, atol=1e-4
    )


@given(st.integers(1, 4), st.integers(0, 50))
@settings(deadline=None, max_examples=25)
def test_scores_name_the_nearest_centroid(k, seed):
    rng = np.random.default_rng(seed)
    projection = Projection(
        rng.standard_normal(5).astype(np.float32), rng.standard_normal((5, 3)).astype(np.float32)
    )
    centroids = rng.standard_normal((k, 3))
    cells = rng.standard_normal((6, 7, 5)).astype(np.float32)
    rows = projection.apply(cells.reshape(-1, 5)).astype(np.float64)
    distances = ((rows[:, None] - centroids) ** 2).sum(-1)
    labels = nearest(Scorer.of(projection, centroids).scores(cells)).ravel()
    assert labels.dtype == np.uint8
    picked = distances[np.arange(len(rows)), labels]
    np.testing.assert_allclose(picked, distances.min(1), rtol=1e-4, atol=1e-4)
    total = squared_distances(rows.astype(np.float32), labels, centroids)
    assert total == pytest.approx(picked.sum(), rel=1e-6)


def naive_labels(scores, height, width):
    """Interpolate the scores of the whole image between the cells' centres, then compare."""
    rows, columns, _ = scores.shape

    def place(length, cells):
        at = np.clip((np.arange(length) - 1.5) / 4, 0, cells - 1)
        low = np.minimum(at.astype(int), max(cells - 2, 0))
        return low, np.minimum(low + 1, cells - 1), at - low

    y0, y1, fy = place(height, rows)
    x0, x1, fx = place(width, columns)
    s = scores.astype(np.float64)
    fx = fx[None, :, None]
    upper = s[y0][:, x0] * (1 - fx) + s[y0][:, x1] * fx
    lower = s[y1][:, x0] * (1 - fx) + s[y1][:, x1] * fx
    fy = fy[:, None, None]
    return upper * (1 - fy) + lower * fy


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 6), st.sampled_from([4, 12, 100]))
@settings(deadline=None, max_examples=40)
def test_pixel_labels_interpolate_and_tiles_agree(height, width, k, tile):
    rng = np.random.default_rng(height * 41 + width)
    shape = grid_shape((height, width))
    scores = scipy.ndimage.gaussian_filter(rng.standard_normal((*shape, k)), (1, 1, 0))
    scores = scores.astype(np.float32)
    whole = label_pixels(scores, (0, 0, *shape), (0, 0, height, width))
    expected = naive_labels(scores, height, width)
    best = np.take_along_axis(expected, whole[..., None].astype(int), 2)[..., 0]
    np.testing.assert_allclose(best, expected.min(-1), atol=1e-6)
    for window in windows(height, width, tile):
        grid = TileGrid(window, (height, width), 1, 0)
        y0, x0, y1, x1 = grid.labelled
        part = label_pixels(scores[y0:y1, x0:x1], grid.labelled, window)
        assert (part == whole[window[0] : window[2], window[1] : window[3]]).all()


def test_ties_go_to_the_lowest_label():
    scores = np.zeros((3, 3, 4), np.float32)
    assert (label_pixels(scores, (0, 0, 3, 3), (0, 0, 12, 12)) == 0).all()


def test_many_clusters_take_a_wider_type():
    scores = np.zeros((2, 2, 300), np.float32)
    scores[..., 299] = -1
    labels = label_pixels(scores, (0, 0, 2, 2), (0, 0, 8, 8))
    assert labels.dtype == np.uint16
    assert (labels == 299).all()


def read(image, grid):
    y0, x0, y1, x1 = grid.read
    return image[y0:y1, x0:x1]


def features_of(pixels, grid, features, textons, lab):
    if textons is None:
        return tile_features(pixels, grid, features, lab)
    return features_of_textons(
        tile_textons(tile_moduli(pixels, grid, features), textons), grid, features
    )


@pytest.mark.parametrize("features", [SMALL, SMALL_TEXTONS, SMALL_COLOR])
@pytest.mark.parametrize(
    ("height", "width", "tile"), [(61, 90, 32), (130, 300, 64), (7, 5, 4), (1, 37, 8)]
)
def test_tiles_give_the_features_of_the_whole(features, height, width, tile):
    image = picture(height, width)
    lab = image.astype(np.float32) / 7
    whole_grid = features.grid((0, 0, height, width), (height, width))
    moduli = tile_moduli(image, whole_grid, features)
    textons = None
    if features.textons:
        rows = moduli.reshape(-1, moduli.shape[-1])
        projection = standardise(FeatureSums.of(rows))
        centres = np.random.default_rng(0).permutation(projection.apply(rows))
        textons = Scorer.of(projection, np.resize(centres, (5, rows.shape[1])))
    whole = features_of(image, whole_grid, features, textons, lab)
    assert whole.shape == (*grid_shape((height, width)), features.depth)
    seen = np.zeros(whole.shape[:2], int)
    for window in windows(height, width, tile):
        grid = features.grid(window, (height, width))
        part = features_of(read(image, grid), grid, features, textons, read(lab, grid))
        y0, x0, y1, x1 = grid.labelled
        assert part.tobytes() == whole[y0:y1, x0:x1].tobytes()
        y0, x0, y1, x1 = grid.own
        assert (part[within(grid.own, grid.labelled)] == whole[y0:y1, x0:x1]).all()
        own_grid = features.own_grid(window, (height, width))
        own_moduli = tile_moduli(read(image, own_grid), own_grid, features)
        assert own_moduli.tobytes() == moduli[y0:y1, x0:x1].tobytes()
        seen[y0:y1, x0:x1] += 1
    assert (seen == 1).all()


def test_moduli_are_webers_law_of_the_mean_magnitudes():
    image = picture(40, 52)
    grid = SMALL.grid((0, 0, 40, 52), (40, 52))
    moduli = tile_moduli(image, grid, SMALL)
    grey = (image @ [0.299, 0.587, 0.114]).astype(np.float32) / 255
    r = tile_responses(with_halo(grey, (0, 0, 40, 52), 4), SMALL_BANK)
    magnitude = np.stack([cell_average(np.hypot(r[..., i], r[..., i + 1])) for i in (0, 2)], -1)
    norm = np.linalg.norm(magnitude, axis=-1, keepdims=True)
    np.testing.assert_allclose(moduli, magnitude * np.log1p(norm / 0.1) / norm, rtol=1e-4)


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_tell_two_textures_apart(name):
    """Fine and coarse noise side by side: k-means with k = 2 finds the border."""
    from sklearn.cluster import KMeans

    features = PRESETS[name]
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((160, 320))
    noise[:, 160:] = scipy.ndimage.gaussian_filter(noise[:, 160:], 2) * 6
    image = np.repeat(np.clip(noise * 40 + 128, 0, 255).astype(np.uint8)[..., None], 3, 2)
    grid = features.grid((0, 0, 160, 320), (160, 320))
    textons = None
    if features.textons:
        rows = tile_moduli(image, grid, features).reshape(-1, features.bank.n_features)
        projection = standardise(FeatureSums.of(rows))
        found = KMeans(32, n_init=1, random_state=0).fit(projection.apply(rows))
        textons = Scorer.of(projection, found.cluster_centers_)
    lab = image.astype(np.float32)
    cells = features_of(image, grid, features, textons, lab)
    rows = cells.reshape(-1, features.depth)
    projection = features.project(FeatureSums.of(rows))
    found = KMeans(2, n_init=3, random_state=0).fit(projection.apply(rows))
    scores = Scorer.of(projection, found.cluster_centers_).scores(cells)
    labels = label_pixels(scores, grid.labelled, grid.window)
    right = labels == (np.arange(320) >= 160)
    assert max(right.mean(), 1 - right.mean()) > 0.95


def test_constant_image_has_constant_features():
    image = np.full((50, 30), 90, np.uint8)
    grid = LM.grid((0, 0, 50, 30), (50, 30))
    cells = tile_features(image, grid, LM)
    np.testing.assert_allclose(cells, np.broadcast_to(cells[0, 0], cells.shape), atol=1e-6)
    projection = LM.project(FeatureSums.of(cells.reshape(-1, 48)))
    assert np.isfinite(projection.apply(cells.reshape(-1, 48))).all()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(0, 10**12))
@settings(deadline=None, max_examples=30)
def test_the_sample_is_the_same_in_every_tiling(rows, columns, tile, first):
    shape = (rows, columns)
    whole = sampled_cells((0, 0, *shape), shape, 0.3, 7, first=first)
    for y in range(0, rows, tile):
        for x in range(0, columns, tile):
            box = (y, x, min(y + tile, rows), min(x + tile, columns))
            part = sampled_cells(box, shape, 0.3, 7, first=first)
            assert (part == whole[box[0] : box[2], box[1] : box[3]]).all()


def test_the_sample_has_the_share_and_the_seed_asked_for():
    box = (0, 0, 300, 300)
    share = sampled_cells(box, (300, 300), 0.05, 0).mean()
    assert share == pytest.approx(0.05, abs=0.005)
    assert (sampled_cells(box, (300, 300), 1, 0)).all()
    assert not sampled_cells(box, (300, 300), 0, 0).any()
    different = sampled_cells(box, (300, 300), 0.5, 1) != sampled_cells(box, (300, 300), 0.5, 2)
    assert different.mean() == pytest.approx(0.5, abs=0.02)


def test_masked_cells_and_colors():
    grid = SMALL.grid((0, 0, 10, 9), (10, 9))
    mask = np.zeros((10, 9), bool)
    mask[:4, :4] = True
    mask[8:, 8:] = True
    mask[4, 4] = True
    clustered = clustered_cells(mask, grid)
    expected = np.ones((3, 3), bool)
    expected[0, 0] = expected[2, 2] = False
    assert (clustered == expected).all()
    assert clustered_cells(None, grid).all()
    labels = np.array([[0, 1, 255], [1, 1, 0]], np.uint8)
    rgb = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    sums = np.zeros((2, 4), np.int64)
    sum_colors(labels, rgb, sums)
    flat = rgb.reshape(-1, 3).astype(int)
    assert sums[0].tolist() == [*(flat[0] + flat[5]), 2]
    assert sums[1].tolist() == [*(flat[1] + flat[3] + flat[4]), 3]


@pytest.mark.parametrize("tile", [16, 100])
def test_tutorial_rows_are_opencvs_eight_bit_responses(tile):
    import cv2

    image = picture(60, 50)
    weighted = (image.astype(np.float32) @ np.array([0.25, 0.5, 0.25], np.float32)).round()
    kernels = tutorial.BANK.kernels
    expected = np.stack([cv2.filter2D(weighted.astype(np.uint8), -1, k) for k in kernels], -1)
    got = np.empty_like(expected)
    for window in windows(60, 50, tile):
        y0, x0, y1, x1 = tutorial.reading_window(window, (60, 50))
        got[window[0] : window[2], window[1] : window[3]] = tutorial.tile_rows(
            image[y0:y1, x0:x1], window, (60, 50)
        )
    difference = np.abs(got.astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3  # responses within rounding of one half
    scorer = Scorer.of(identity(48), got[::20, ::20].reshape(-1, 48)[:3].astype(float))
    labels = tutorial.label_rows(got, scorer)
    rows = got.reshape(-1, 1, 48).astype(float)
    distances = ((rows - got[::20, ::20].reshape(-1, 48)[:3]) ** 2).sum(-1)
    picked = distances[np.arange(3000), labels.ravel()]
    np.testing.assert_allclose(picked, distances.min(1), rtol=1e-4, atol=1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TileGrid((2, 0, 10, 8), (20, 20), 0, 0), "multiples of 4"),
        (lambda: TileGrid((0, 0, 10, 8), (20, 20), 0, 0), "multiples of 4"),
        (lambda: TileGrid((0, 0, 24, 20), (20, 20), 0, 0), "multiples of 4"),
        (lambda: TileGrid((0, 0, 0, 20), (20, 20), 0, 0), "multiples of 4"),
        (lambda: sampled_cells((0, 0, 1, 1), (1, 1), 1.5, 0), "fraction"),
        (lambda: TextureFeatures(SMALL_BANK, textons=300), "textons"),
        (lambda: TextureFeatures(SMALL_BANK, pool_px=-1), "negative"),
        (lambda: TextureFeatures(SMALL_BANK, pool_px=1e300), "pool_px.* at most 10,000"),
        (
            lambda: TextureFeatures(SMALL_BANK, color_weight=1e30),
            "color_weight.* at most 1,000,000",
        ),
        (lambda: TextureFeatures(SMALL_BANK, contrast=0), "contrast"),
        (lambda: TextureFeatures(SMALL_BANK, textons=8, color_weight=1), "colour"),
        (lambda: half_whiten(FeatureSums.of(np.ones((2, 2), np.float32)), 0), "components"),
        (
            lambda: tile_moduli(
                np.zeros((3, 3), np.uint8), SMALL.grid((0, 0, 8, 8), (8, 8)), SMALL
            ),
            "expected those of",
        ),
        (
            lambda: tile_features(
                np.zeros((8, 8), np.uint8), SMALL_COLOR.grid((0, 0, 8, 8), (8, 8)), SMALL_COLOR
            ),
            "Lab",
        ),
        (
            lambda: sum_colors(
                np.zeros((2, 2), np.uint8),
                np.zeros((2, 3, 3), np.uint8),
                np.zeros((1, 4), np.int64),
            ),
            "expected labels",
        ),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_textons_are_nearest_centres_of_moduli():
    rng = np.random.default_rng(0)
    moduli = rng.random((5, 6, 2), dtype=np.float32)
    centres = rng.random((7, 2))
    textons = tile_textons(moduli, Scorer.of(identity(2), centres))
    assert textons.dtype == np.uint8
    expected = ((moduli[..., None, :] - centres) ** 2).sum(-1).argmin(-1)
    assert (textons == expected).all()


def test_presets_are_what_they_say():
    assert (LM.depth, GABOR.depth, TEXTONS.depth, COLOR_TEXTURE.depth) == (48, 36, 32, 39)
    assert GABOR.bank == gabor()
    assert not LM.whiten
