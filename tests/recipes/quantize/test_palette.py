"""Palettes: the fit on distinct colours against plain k-means on pixels."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from skimage import data as pictures
from sklearn.cluster import KMeans

from kmdist.errors import UsageError
from kmdist.images.color import SPACES, to_space
from kmdist.recipes.quantize.kernels import color_tree
from kmdist.recipes.quantize.kernels.histogram import Colors, count_colors, merge_colors
from kmdist.recipes.quantize.kernels.label_table import apply_table, label_table
from kmdist.recipes.quantize.palette import (
    ColorCloud,
    Palette,
    PaletteOptions,
    fit_memory_bytes,
    fit_palette,
    iterate_palette,
    label_colors,
    seeding,
)
from kmdist.recipes.quantize.palette.cloud import pick_members
from kmdist.recipes.quantize.palette.seeding import random_seeds, random_stream, summarize

TO_THE_END = PaletteOptions(tol=0)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.ascontiguousarray(pictures.astronaut()[::2, ::2])


@pytest.fixture(scope="module")
def cloud(photo: np.ndarray) -> ColorCloud:
    return ColorCloud(count_colors(photo))


def random_pixels(seed: int, n: int, spread: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    middles = random.integers(0, 257 - spread, (5, 3))
    return (middles[random.integers(0, 5, n)] + random.integers(0, spread, (n, 3))).astype(np.uint8)


PIXELS = st.builds(
    random_pixels, st.integers(0, 2**32), st.integers(1, 400), st.sampled_from([1, 2, 6, 40, 200])
)

INITS = st.sampled_from(["k-means++", "random"])


def fit_bytes(palette: Palette) -> list[bytes]:
    arrays = [palette.state.centroids, palette.state.counts, palette.palette, palette.labels]
    numbers = [palette.state.inertia, palette.state.iteration]
    return [a.tobytes() for a in (*arrays, palette.history, np.array(numbers))]


def check_consistent(cloud: ColorCloud, palette: Palette) -> None:
    """Labels nearest, counts and inertia of the labels, clusters sorted."""
    centroids = palette.state.centroids
    assert centroids.dtype == np.float32
    points = to_space(cloud.colors.rgb, cloud.space).astype(np.float64)
    distances = ((points[:, None, :] - centroids.astype(np.float64)) ** 2).sum(axis=2)
    np.testing.assert_array_equal(palette.labels, distances.argmin(axis=1))
    counts = np.zeros(palette.k, np.int64)
    np.add.at(counts, palette.labels, cloud.colors.counts)
    np.testing.assert_array_equal(palette.state.counts, counts)
    assert palette.state.counts.dtype == np.int64
    inertia = float((cloud.colors.counts * distances.min(axis=1)).sum())
    assert palette.state.inertia == pytest.approx(inertia, rel=1e-12, abs=1e-300)
    rows = [(-n, *c) for n, c in zip(counts.tolist(), centroids.tolist(), strict=True)]
    assert rows == sorted(rows)


def naive_lloyd(pixels: np.ndarray, centres: np.ndarray, n_iter: int) -> np.ndarray:
    """Lloyd in float64 on all pixels; centroids are stored in float32 between iterations."""
    centres = centres.astype(np.float32)
    for _ in range(n_iter):
        distances = ((pixels[:, None, :] - centres.astype(np.float64)) ** 2).sum(axis=2)
        labels = distances.argmin(axis=1)
        for j in set(labels.tolist()):
            centres[j] = pixels[labels == j].mean(axis=0)
    return centres


@settings(deadline=None, max_examples=60)
@given(PIXELS, st.integers(1, 8), st.integers(0, 5), st.integers(0, 9))
def test_iterations_equal_plain_lloyd_on_the_pixels(pixels, k, n_iter, seed) -> None:
    cloud = ColorCloud(count_colors(pixels))
    k = min(k, max(1, len(cloud.colors) - 1))
    # From one pixel each, no cluster starts empty, and few ever become so.
    centres = random_seeds(cloud.points, cloud.colors.counts, k, random_stream(seed, 0))
    options = PaletteOptions(init=centres, max_iter=n_iter, tol=0)
    states = list(iterate_palette(cloud, k, options))
    assume(not any(state.n_repaired for state in states))
    wanted = naive_lloyd(pixels.astype(np.float64), centres, states[-1].iteration)
    if len(cloud.colors) > k:
        np.testing.assert_array_equal(states[-1].centroids, wanted)
    distances = ((pixels[:, None, :] - states[-1].centroids.astype(np.float64)) ** 2).sum(axis=2)
    assert states[-1].inertia == pytest.approx(distances.min(axis=1).sum(), rel=1e-12)
    assert states[-1].counts.tolist() == np.bincount(distances.argmin(axis=1), None, k).tolist()


def test_same_fit_as_scikit_learn_from_the_same_centres(photo, cloud) -> None:
    random = np.random.default_rng(5)
    pixels = photo.reshape(-1, 3)[random.integers(0, photo.size // 3, 12)]
    centres = (pixels + random.uniform(-0.5, 0.5, (12, 3))).astype(np.float32)
    options = PaletteOptions(init=centres, tol=0, max_iter=20)
    state = list(iterate_palette(cloud, 12, options))[-1]
    model = KMeans(12, init=centres, n_init=1, max_iter=20, tol=0, algorithm="lloyd")
    model.fit(photo.reshape(-1, 3).astype(np.float64))
    np.testing.assert_allclose(state.centroids, model.cluster_centers_, rtol=1e-5)
    assert state.inertia == pytest.approx(model.inertia_, rel=1e-6)


@pytest.mark.slow
def test_no_worse_than_scikit_learn(photo, cloud) -> None:
    pixels = photo.reshape(-1, 3).astype(np.float32)
    ours = [fit_palette(cloud, 32, PaletteOptions(seed=s)).state.inertia for s in range(3)]
    theirs = [KMeans(32, n_init=1, random_state=s).fit(pixels).inertia_ for s in range(3)]
    assert np.mean(ours) <= 1.005 * np.mean(theirs)


@pytest.mark.slow
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("k", [1, 2, 16, 256, 300])
def test_every_space_and_size_is_consistent(photo, space: str, k: int) -> None:
    cloud = ColorCloud(count_colors(photo[:64]), space)
    palette = fit_palette(cloud, k, PaletteOptions(max_iter=15))
    check_consistent(cloud, palette)
    assert palette.k == k
    assert palette.warning is None
    assert palette.labels.dtype == (np.uint8 if k <= 256 else np.uint16)
    assert palette.palette.dtype == np.uint8
    assert palette.state.counts.sum() == photo[:64].size // 3
    assert palette.state.counts.all()
    assert (np.diff(palette.history[:, 0]) <= 1e-9 * palette.history[0, 0]).all()
    assert palette.history[-1, 0] == pytest.approx(palette.state.inertia, rel=1e-12)


def test_one_colour_for_all_pixels_is_their_mean(photo, cloud) -> None:
    palette = fit_palette(cloud, 1)
    mean = photo.reshape(-1, 3).mean(axis=0)
    np.testing.assert_array_equal(palette.state.centroids[0], mean.astype(np.float32))
    np.testing.assert_array_equal(palette.palette[0], np.rint(mean))
    assert palette.state.stop_reason == "converged"


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_no_more_colours_than_asked_for_is_an_exact_palette(space: str, init: str) -> None:
    pixels = random_pixels(3, 90, 200)
    pixels = np.concatenate([pixels, pixels[:40]])
    cloud = ColorCloud(count_colors(pixels), space)
    n = len(cloud.colors)
    for k in (n, n + 1, 256):
        palette = fit_palette(cloud, k, PaletteOptions(init=init))
        assert palette.k == n
        assert palette.state.inertia == 0
        assert palette.state.stop_reason == "converged"
        assert (palette.warning is None) == (k == n)
        table = label_table(cloud.colors.codes, palette.labels)
        np.testing.assert_array_equal(palette.palette[apply_table(pixels, table)], pixels)
    assert f"only {n} colours" in str(palette.warning)


@pytest.mark.parametrize("space", SPACES)
def test_constant_image(space: str) -> None:
    cloud = ColorCloud(count_colors(np.full((30, 20, 3), 77, np.uint8)), space)
    palette = fit_palette(cloud, 8)
    assert (palette.k, palette.state.inertia) == (1, 0)
    assert palette.palette.tolist() == [[77, 77, 77]]
    assert palette.state.counts.tolist() == [600]


@settings(deadline=None, max_examples=60)
@given(
    PIXELS, st.integers(1, 12), st.sampled_from(SPACES), st.sampled_from(["k-means++", "random"])
)
def test_any_small_image_gives_k_distinct_consistent_clusters(pixels, k, space, init) -> None:
    cloud = ColorCloud(count_colors(pixels), space)
    palette = fit_palette(cloud, k, replace(TO_THE_END, init=init))
    check_consistent(cloud, palette)
    assert palette.k == min(k, len(cloud.colors))
    assert palette.state.counts.all()
    assert len(np.unique(palette.state.centroids, axis=0)) == palette.k


@pytest.mark.parametrize("space", ["rgb", "oklab"])
def test_chunks_order_and_threads_do_not_matter(photo, space: str, monkeypatch) -> None:
    whole = fit_palette(ColorCloud(count_colors(photo), space), 20)
    parts = [count_colors(part) for part in np.array_split(photo.reshape(-1, 3)[::-1], 7)]
    merged = ColorCloud(merge_colors(parts[3:] + parts[:3]), space)
    assert fit_bytes(fit_palette(merged, 20)) == fit_bytes(whole)
    monkeypatch.setattr(color_tree, "_CHUNK_SIZE", 2000)
    clouds = [ColorCloud(merged.colors, space, threads) for threads in (1, 2, 5)]
    assert clouds[0].tree.n_chunks > 5
    fits = [fit_bytes(fit_palette(cloud, 20)) for cloud in clouds]
    assert fits[0] == fits[1] == fits[2]


def test_stop_reasons(cloud) -> None:
    def last(**options: object) -> tuple[str | None, int]:
        state = list(iterate_palette(cloud, 6, PaletteOptions(**options)))[-1]
        return state.stop_reason, state.iteration

    assert last(max_iter=0) == ("max_iter", 0)
    assert last(max_iter=3, tol=0) == ("max_iter", 3)
    assert last(tol=1e9) == ("tolerance", 1)
    reason, n_iter = last(tol=0)
    assert reason == "converged"
    assert last(tol=0, max_iter=n_iter + 1) == (reason, n_iter)


def test_converged_means_that_another_update_changes_nothing(cloud) -> None:
    palette = fit_palette(cloud, 6, TO_THE_END)
    again = PaletteOptions(init=palette.state.centroids, tol=0, max_iter=1)
    states = list(iterate_palette(cloud, 6, again))
    assert [s.iteration for s in states] == [0]
    assert states[0].stop_reason == "converged"
    assert states[0].centroids.tobytes() == palette.state.centroids.tobytes()


def test_tolerance_is_a_share_of_the_mean_variance(photo, cloud) -> None:
    assert cloud.variance == pytest.approx(photo.reshape(-1, 3).var(axis=0).mean(), rel=1e-12)
    states = list(iterate_palette(cloud, 16, TO_THE_END))
    shifts = [s.shift for s in states[1:]]
    assert shifts[3] == pytest.approx(
        float(((states[4].centroids.astype(float) - states[3].centroids) ** 2).sum())
    )
    tol = shifts[3] / cloud.variance * (1 + 1e-9)
    stopped = list(iterate_palette(cloud, 16, PaletteOptions(tol=tol)))[-1]
    first = next(i for i, shift in enumerate(shifts, 1) if shift <= tol * cloud.variance)
    assert (stopped.stop_reason, stopped.iteration) == ("tolerance", first)


def test_empty_clusters_take_the_most_expensive_colours() -> None:
    pixels = np.array(
        [[10, 10, 10]] * 50 + [[20, 10, 10]] * 9 + [[10, 90, 10]] + [[10, 10, 60]] * 3
    )
    cloud = ColorCloud(count_colors(pixels.astype(np.uint8)))
    # Costs from (10, 10, 10): red 9·10², blue 3·50², green 1·80².
    init = np.array([[10, 10, 10], [200, 200, 200], [250, 250, 250]])
    states = list(iterate_palette(cloud, 3, PaletteOptions(init=init, tol=0)))
    np.testing.assert_array_equal(states[1].centroids[1:], [[10, 10, 60], [10, 90, 10]])
    np.testing.assert_allclose(states[1].centroids[0], [10 + 90 / 59, 10, 10], rtol=1e-6)
    assert [s.n_repaired for s in states] == [0, 2, 0][: len(states)]
    assert states[0].counts.tolist() == [63, 0, 0]
    assert states[-1].counts.tolist() == [59, 3, 1]


def test_no_cluster_is_emptied_to_fill_another() -> None:
    labels, weights = np.array([0, 1, 1, 1, 3]), np.array([9, 1, 2, 3, 1])
    counts = np.array([9, 6, 0, 1, 0, 0])
    # The dearest colours, 0 and 4, are all that clusters 0 and 3 have; 1 has two to give.
    costs = np.array([90.0, 7.0, 8.0, 7.0, 50.0])
    assert pick_members(costs, labels, weights, counts) == [(2, 2), (1, 4)]
    costs[1:4] = [0.0, 8.0, 0.0]
    assert pick_members(costs, labels, weights, counts) == [(2, 2)]


@pytest.mark.parametrize("space", SPACES)
def test_equal_initial_colours_still_give_k_clusters(photo, space: str) -> None:
    cloud = ColorCloud(count_colors(photo[:40, :40]), space)
    options = PaletteOptions(init=np.full((30, 3), 128.0), max_iter=8)
    palette = fit_palette(cloud, 30, options)
    assert palette.state.counts.all()
    assert palette.history[1, 2] == 29
    check_consistent(cloud, palette)


def test_the_best_of_several_starts_is_kept(cloud) -> None:
    one = [
        list(iterate_palette(cloud, 12, PaletteOptions(seed=4), attempt=i))[-1].inertia
        for i in range(4)
    ]
    assert len(set(one)) > 1
    seen = []
    best = fit_palette(cloud, 12, PaletteOptions(seed=4, n_init=4), on_state=seen.append)
    assert best.state.inertia == pytest.approx(min(one), rel=1e-12)
    assert sum(s.stop_reason is not None for s in seen) == 4


def test_breathing_lowers_the_error_and_its_bytes_are_the_same_for_any_threads(cloud) -> None:
    asked = PaletteOptions(refine="breathing")
    plain, refined = fit_palette(cloud, 24), fit_palette(cloud, 24, asked)
    assert refined.state.inertia < plain.state.inertia
    check_consistent(cloud, refined)
    assert refined.state.iteration > plain.state.iteration
    assert refined.history[-1, 0] == pytest.approx(refined.state.inertia, rel=1e-12)
    again = fit_palette(replace(cloud, threads=2), 24, asked)
    assert fit_bytes(again) == fit_bytes(refined)


def test_breathing_leaves_an_exact_palette_alone() -> None:
    few = ColorCloud(count_colors(random_pixels(3, 40, 6)))
    k = len(few.colors)
    fits = [fit_palette(few, k, PaletteOptions(refine=refine)) for refine in (None, "breathing")]
    assert fit_bytes(fits[0]) == fit_bytes(fits[1])


def test_random_colours_are_drawn_by_their_pixels() -> None:
    counts = np.array([1, 1, 98])
    points = np.arange(9, dtype=np.float32).reshape(3, 3)
    draws = [random_seeds(points, counts, 2, random_stream(seed, 0)) for seed in range(400)]
    assert sum(draw[0, 0] == 6 for draw in draws) > 370
    assert all(len(np.unique(draw, axis=0)) == 2 for draw in draws)
    again = random_seeds(points, counts, 2, random_stream(7, 0))
    assert again.tobytes() == draws[7].tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("space", ["rgb", "lab"])
@pytest.mark.parametrize("n", [1000, 1 << 18, 600_000])
def test_memory_stays_below_the_projection(space: str, n: int) -> None:
    # Colours at random share no cells, which takes the most.
    codes = np.random.default_rng(0).choice(1 << 24, n, replace=False)
    tracemalloc.start()
    colors = Colors(np.sort(codes).astype(np.uint32), np.ones(n, np.int64))
    tracemalloc.reset_peak()
    fit_palette(ColorCloud(colors, space), 256, PaletteOptions(max_iter=1))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= fit_memory_bytes(n)


def test_a_summary_of_millions_of_colours_starts_from_pairs(monkeypatch, cloud) -> None:
    monkeypatch.setattr(seeding, "_MAX_SINGLE_COLORS", 100)
    colors = cloud.colors
    codes, means, weights = summarize(colors.codes, cloud.points, colors.counts, 500)
    assert 500 <= len(codes) < 508
    assert weights.sum() == colors.n_pixels
    np.testing.assert_allclose(
        weights @ means.astype(float), colors.counts @ cloud.points.astype(float), rtol=1e-6
    )


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
def test_a_summary_keeps_the_mass_and_the_mean(cloud, size: int) -> None:
    colors, points = cloud.colors, cloud.points
    codes, means, weights = summarize(colors.codes, points, colors.counts, size)
    assert size <= len(codes) < size + 8
    assert (np.diff(codes.astype(np.int64)) > 0).all()
    assert weights.sum() == colors.n_pixels
    np.testing.assert_allclose(
        weights @ means.astype(float), colors.counts @ points.astype(float), rtol=1e-6
    )
    everything = summarize(colors.codes, points, colors.counts, len(colors))
    np.testing.assert_array_equal(everything[1], points)


def test_a_summary_divides_the_widest_cells() -> None:
    # Two far colours of equal weight in the dark corner, a tight crowd in the bright one.
    rgb = np.array([[0, 0, 0], [60, 60, 60], *([255, 255, 240 + i] for i in range(16))], np.uint8)
    colors = count_colors(np.repeat(rgb, 10, axis=0))
    _, means, weights = summarize(colors.codes, colors.rgb.astype(np.float32), colors.counts, 3)
    assert sorted(weights.tolist()) == [10, 10, 160]
    assert [0, 0, 0] in means.tolist()
    assert [60, 60, 60] in means.tolist()


def test_old_palettes_label_new_colours(cloud) -> None:
    palette = fit_palette(cloud, 10)
    new = ColorCloud(count_colors(random_pixels(1, 500, 250)))
    labels, counts, inertia = label_colors(new, palette.state.centroids)
    distances = ((new.points[:, None].astype(float) - palette.state.centroids) ** 2).sum(axis=2)
    np.testing.assert_array_equal(labels, distances.argmin(axis=1))
    assert counts.sum() == 500
    assert inertia == pytest.approx((new.colors.counts * distances.min(axis=1)).sum())


def test_wrong_fits_are_refused(cloud) -> None:
    with pytest.raises(UsageError, match="no pixel was counted"):
        ColorCloud(Colors.empty())
    for init in (np.zeros((3, 3)), np.full((4, 3), np.nan)):
        with pytest.raises(UsageError, match="4 finite rows"):
            fit_palette(cloud, 4, PaletteOptions(init=init))
