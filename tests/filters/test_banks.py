"""Filter banks and their responses against direct correlation in float64."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmdist.filters import (
    FilterBank,
    gabor,
    grey,
    leung_malik,
    pieces,
    read_window,
    reflected,
    tile_responses,
    tiles,
    with_halo,
)
from kmdist.filters.tiles import pair_kernels, plan_axis
from tests.support.correlation import assert_close, direct
from tests.support.folders import DATA


def whole(image, bank):
    image = np.asarray(image, np.float32)
    return tile_responses(with_halo(image, (0, 0, *image.shape), bank.halo), bank)


def small_bank(size=7, n=5, seed=0):
    kernels = np.random.default_rng(seed).standard_normal((n, size, size))
    return FilterBank(kernels, tuple(f"k{i}" for i in range(n)))


def test_leung_malik_layout():
    bank = leung_malik()
    assert bank.kernels.shape == (48, 49, 49)
    assert (bank.halo, bank.n_features, len(bank)) == (24, 48, 48)
    zero_mean = [i for i in range(48) if not 36 <= i < 40]
    assert np.abs(bank.kernels[zero_mean].sum((1, 2))).max() < 1e-15
    np.testing.assert_allclose(np.abs(bank.kernels).sum((1, 2)), 1, rtol=1e-12)
    np.testing.assert_allclose(bank.kernels[36:40].sum((1, 2)), 1, rtol=1e-12)
    assert bank.names[0] == "edge s1.4 a0"
    assert bank.names[47] == "laplacian s17.0"


def test_laplacian_is_the_second_derivative_of_the_gaussian():
    sigma, bank = 2 * np.sqrt(2), leung_malik()
    y, x = np.mgrid[-24:25, -24:25].astype(float)
    step = 1e-3

    def gaussian(dx, dy):
        return np.exp(-((x + dx) ** 2 + (y + dy) ** 2) / (2 * sigma**2))

    numeric = (
        gaussian(step, 0) + gaussian(-step, 0) + gaussian(0, step) + gaussian(0, -step)
    ) - 4 * gaussian(0, 0)
    numeric /= np.abs(numeric).sum()
    assert np.abs(bank.kernels[41] - numeric).max() < 1e-6 * np.abs(numeric).max() + 1e-8


def test_tutorial_variant_is_the_popular_port():
    """The port's own formulas, filter by filter, as its tutorials print them."""

    def gauss1d(sigma, x, order):
        variance = sigma * sigma
        g = np.exp(-(x * x) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
        return (g, -g * x / variance, g * (x * x - variance) / variance**2)[order]

    y, x = np.mgrid[-24:25, -24:25].astype(float)
    expected = []
    for order in (1, 2):
        for sigma in np.sqrt(2) * np.arange(1, 4):
            for step in range(6):
                c, s = np.cos(np.pi * step / 6), np.sin(np.pi * step / 6)
                expected.append(
                    gauss1d(3 * sigma, c * x - s * y, 0) * gauss1d(sigma, s * x + c * y, order)
                )
    scales = np.sqrt(2) * np.arange(1, 5)
    radius2 = x * x + y * y
    gaussians = [
        np.exp(-radius2 / (2 * s * s)) / np.sqrt(2 * np.pi * s * s)
        for s in (*scales, *scales, *(3 * scales))
    ]
    expected += gaussians[:4]
    expected += [
        g * (radius2 - s * s) / s**4
        for g, s in zip(gaussians[4:], (*scales, *(3 * scales)), strict=True)
    ]
    bank = leung_malik(variant="tutorial")
    np.testing.assert_allclose(bank.kernels, np.array(expected), rtol=1e-12, atol=1e-16)
    np.testing.assert_allclose(bank.kernels[36:40].sum((1, 2)), [3.545, 7.09, 10.635, 14.18], 1e-3)
    assert np.abs(bank.kernels[40:48].sum((1, 2))).max() > 1.7  # leaks the mean, as documented
    np.testing.assert_array_equal(bank.kernels[42], bank.kernels[44])


def test_published_scales_have_no_twins():
    kernels = leung_malik(scales="published").kernels.reshape(48, -1)
    gram = kernels @ kernels.T / np.sqrt(np.outer(*2 * [(kernels**2).sum(1)]))
    np.fill_diagonal(gram, 0)
    assert np.abs(gram).max() < 0.999


def test_gabor_pairs_measure_a_grating_whatever_its_phase():
    bank = gabor()
    assert (len(bank), bank.n_features, bank.quadrature) == (72, 36, True)
    x = np.arange(160)
    moduli = []
    for phase in np.linspace(0, np.pi, 7):
        image = np.tile(np.cos(2 * np.pi * 0.125 * x + phase), (160, 1))
        r = whole(image, bank)[80, 80]
        moduli.append(np.hypot(r[0::2], r[1::2]))
    moduli = np.array(moduli)
    assert moduli.mean(0).argmax() == 3 * 6  # frequency 0.125, 0°
    assert np.ptp(moduli[:, 18]) < 0.01 * moduli[:, 18].mean()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: leung_malik(size=48), "odd"),
        (lambda: leung_malik(scales="other"), "published"),
        (lambda: leung_malik(variant="other"), "tutorial"),
        (lambda: gabor(frequencies=(0.6,)), "frequencies"),
        (lambda: gabor(size=10), "odd"),
        (lambda: FilterBank(np.zeros((2, 3, 4)), ("a", "b")), "odd size"),
        (lambda: FilterBank(np.zeros((2, 3, 3)), ("a",)), "1 names"),
        (lambda: FilterBank(np.zeros((1, 3, 3)), ("a",), quadrature=True), "pairs"),
        (lambda: FilterBank(np.full((1, 3, 3), np.nan), ("a",)), "finite"),
        (lambda: reflected(np.arange(3), 0), "at least 1"),
        (lambda: list(pieces(np.zeros((48, 60), np.float32), leung_malik())), "halo of 24"),
        (lambda: grey(np.zeros((3, 3, 2))), "c = 1, 3 or 4"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_banks_are_equal_by_content_and_frozen():
    import pickle

    bank = leung_malik()
    copy = pickle.loads(pickle.dumps(bank))
    assert copy == bank
    assert hash(copy) == hash(bank)
    assert bank != leung_malik(scales="published")
    with pytest.raises(ValueError, match="read-only"):
        bank.kernels[0, 0, 0] = 1


@given(st.integers(1, 40), st.integers(-100, 100), st.integers(0, 200))
@settings(deadline=None, max_examples=60)
def test_reflection_is_numpys(length, start, count):
    positions = np.arange(start, start + count)
    before = max(0, -start)
    after = max(0, start + count - length)
    expected = np.pad(np.arange(length), (before, after), mode="reflect")
    np.testing.assert_array_equal(reflected(positions, length), expected[positions + before])


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1), (1, 60), (3, 2), (25, 7), (49, 50), (70, 91)])
@pytest.mark.parametrize("variant", ["corrected", "tutorial"])
def test_all_filters_match_direct_correlation(shape, variant):
    bank = leung_malik(variant=variant)
    image = np.random.default_rng(shape[0]).random(shape) * 255
    assert_close(whole(image, bank), direct(image, bank.kernels))


def test_published_and_gabor_match_direct_correlation():
    image = np.random.default_rng(5).random((40, 61)) * 255
    for bank in (leung_malik(scales="published"), gabor()):
        assert_close(whole(image, bank), direct(image, bank.kernels))


def test_without_ipp_scipy_transforms_the_same(monkeypatch):
    image = np.random.default_rng(4).random((70, 101)) * 255
    bank = leung_malik()
    monkeypatch.setattr(tiles, "USE_OPENCV", False)
    assert_close(whole(image, bank), direct(image, bank.kernels))


def test_bits_do_not_depend_on_alignment_or_threads():
    image = np.random.default_rng(4).random((90, 101)).astype(np.float32)
    results = set()
    for threads in (1, 4):
        before = cv2.getNumThreads()
        cv2.setNumThreads(threads)
        for offset in (0, 4, 16, 36):
            raw = np.zeros(image.nbytes + 128, np.uint8)
            start = -raw.ctypes.data % 64 + offset
            shifted = raw[start : start + image.nbytes].view(np.float32).reshape(image.shape)
            shifted[:] = image
            results.add(whole(shifted, leung_malik()).tobytes())
        cv2.setNumThreads(before)
    assert len(results) == 1


@pytest.mark.slow
def test_every_filter_on_a_large_image_matches():
    image = (np.random.default_rng(6).random((700, 1000)) * 255).astype(np.float32)
    bank = leung_malik()
    got = whole(image, bank)
    expected = np.stack(
        [cv2.filter2D(image.astype(np.float64), cv2.CV_64F, k) for k in bank.kernels], -1
    )
    corner = (slice(0, 30), slice(970, 1000))  # the reference against the reference
    assert_close(
        direct(image[:60, 940:], bank.kernels)[:30, 30:], expected[corner], tolerance=1e-12
    )
    assert_close(got, expected)


def test_tutorial_variant_equals_opencv():
    photo = DATA / "kodak" / "kodim01.png"
    if not photo.exists():
        pytest.skip(f"needs {photo}")
    image = grey(cv2.cvtColor(cv2.imread(str(photo)), cv2.COLOR_BGR2RGB))[:300, :400]
    bank = leung_malik(variant="tutorial")
    expected = np.stack([cv2.filter2D(image, cv2.CV_32F, k) for k in bank.kernels], -1)
    assert_close(whole(image, bank), expected)


@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 3),
)
@settings(deadline=None, max_examples=25)
def test_tiles_with_halos_equal_the_whole(height, width, tile_y, tile_x, seed):
    bank = small_bank(size=[1, 7, 15, 9][seed], n=[1, 5, 4, 3][seed], seed=seed)
    image = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    expected = direct(image, bank.kernels) if bank.halo else image[..., None] * bank.kernels.ravel()
    got = np.full((height, width, len(bank)), np.nan, np.float32)
    for y in range(0, height, tile_y):
        for x in range(0, width, tile_x):
            window = (y, x, min(y + tile_y, height), min(x + tile_x, width))
            y0, x0, y1, x1 = read_window(window, bank.halo, image.shape)
            padded = with_halo(
                image[y0:y1, x0:x1], window, bank.halo, origin=(y0, x0), image_shape=image.shape
            )
            got[window[0] : window[2], window[1] : window[3]] = tile_responses(padded, bank)
    assert_close(got, expected)


def test_a_window_that_was_not_read_is_named():
    with pytest.raises(ValueError, match=r"axis 0: the window 0:5 with a halo of 3"):
        with_halo(np.zeros((6, 9), np.float32), (0, 0, 5, 5), 3, image_shape=(20, 9))


def test_a_constant_image_answers_with_the_kernels_sums():
    for variant in ("corrected", "tutorial"):
        bank = leung_malik(variant=variant)
        got = whole(np.full((33, 70), 200.0), bank)
        np.testing.assert_allclose(
            got, np.broadcast_to(200 * bank.kernels.sum((1, 2)), got.shape), rtol=1e-6, atol=1e-9
        )


@given(st.integers(1, 3000), st.integers(0, 30), st.sampled_from([1, 4]))
@settings(deadline=None, max_examples=100)
def test_axis_plan_covers_and_fits(length, halo, step):
    piece, side = plan_axis(length, halo, step)
    assert piece % step == 0
    assert piece >= 1
    assert side >= piece + 2 * halo


def test_every_kernel_is_in_one_pair():
    for bank in (leung_malik(), gabor(), small_bank(n=5), small_bank(n=1)):
        used = [i for pair in pair_kernels(bank) for i in pair if i >= 0]
        assert sorted(used) == list(range(len(bank)))
