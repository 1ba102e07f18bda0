"""Digit normalisation and gradient features against plain versions with OpenCV and NumPy."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmdist.recipes.digits.features import (
    CELLS,
    DIRECTIONS,
    POWER,
    deskew_tutorial,
    gradient_maps,
    intensities,
    normalise,
)


def strokes(n: int, side: int = 28, seed: int = 0) -> np.ndarray:
    """Images of random thick strokes, (n, side, side) uint8."""
    rng = np.random.default_rng(seed)
    images = np.zeros((n, side, side), np.uint8)
    for image in images:
        points = rng.integers(side // 5, side - side // 5, (4, 2)).astype(np.int32)
        cv2.polylines(image, [points], False, 255, 2, cv2.LINE_AA)
    return images


def naive_normalise(image: np.ndarray, size: int = 28, box: float = 24.0) -> np.ndarray:
    """Moments and one affine map, each written down as it is defined."""
    x = image.astype(np.float64) / 255
    yy, xx = np.mgrid[0 : x.shape[0], 0 : x.shape[1]]
    mass = x.sum()
    cx, cy = (x * xx).sum() / mass, (x * yy).sum() / mass
    m20, m11 = (x * (xx - cx) ** 2).sum() / mass, (x * (xx - cx) * (yy - cy)).sum() / mass
    m02 = max((x * (yy - cy) ** 2).sum() / mass, 0.5)
    s = np.clip(m11 / m02, -1, 1)
    m20 = max(m20 - 2 * s * m11 + s * s * m02, 0.1)
    height, width = 4 * np.sqrt(m02), 4 * np.sqrt(m20)
    short = box * np.sqrt(np.sin(np.pi / 2 * min(height, width) / max(height, width)))
    ky, kx = (height / box, width / short) if height >= width else (height / short, width / box)
    out = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            dy = ky * (i - (size - 1) / 2)
            u, v = cx + kx * (j - (size - 1) / 2) + s * dy, cy + dy
            out[i, j] = sample(x, v, u)
    return np.clip(out, 0, 1)


def cubic(t: float) -> float:
    a, t = -0.75, abs(t)
    if t <= 1:
        return ((a + 2) * t - (a + 3)) * t * t + 1
    return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a if t < 2 else 0.0


def sample(x: np.ndarray, v: float, u: float) -> float:
    total = 0.0
    for i in range(int(np.floor(v)) - 1, int(np.floor(v)) + 3):
        for j in range(int(np.floor(u)) - 1, int(np.floor(u)) + 3):
            if 0 <= i < x.shape[0] and 0 <= j < x.shape[1]:
                total += x[i, j] * cubic(v - i) * cubic(u - j)
    return total


@pytest.mark.parametrize("side", [8, 20, 28])
def test_normalise_is_one_affine_map_from_moments(side: int) -> None:
    images = strokes(4, side)
    for image, result in zip(images, normalise(images), strict=True):
        np.testing.assert_allclose(result, naive_normalise(image), atol=2e-5)


def test_normalised_ink_is_upright_and_centred() -> None:
    yy, xx = np.mgrid[0:28, 0:28]
    for image in normalise(strokes(20)).astype(np.float64):
        cx, cy = (image * xx).sum() / image.sum(), (image * yy).sum() / image.sum()
        assert abs(cx - 13.5) < 0.35
        assert abs(cy - 13.5) < 0.35
        assert abs((image * (xx - cx) * (yy - cy)).sum() / image.sum()) < 3.0


def naive_gradient_maps(image: np.ndarray) -> np.ndarray:
    o, cells, side = DIRECTIONS, CELLS, image.shape[0]
    gx = cv2.Sobel(image, cv2.CV_64F, 1, 0, borderType=cv2.BORDER_REPLICATE)
    gy = cv2.Sobel(image, cv2.CV_64F, 0, 1, borderType=cv2.BORDER_REPLICATE)
    magnitude, turn = np.hypot(gx, gy), np.mod(np.arctan2(gy, gx) / (2 * np.pi), 1) * o
    low = np.floor(turn).astype(int)
    maps = np.zeros((o, side, side))
    ii, jj = np.mgrid[0:side, 0:side]
    np.add.at(maps, (low % o, ii, jj), magnitude * (1 - (turn - low)))
    np.add.at(maps, ((low + 1) % o, ii, jj), magnitude * (turn - low))
    centres = (np.arange(cells) + 0.5) * side / cells - 0.5
    pool = np.exp(-((np.arange(side) - centres[:, None]) ** 2) / (2 * (0.6 * side / cells) ** 2))
    pool /= pool.sum(axis=1, keepdims=True)
    return np.asarray((pool @ maps @ pool.T).ravel())


def test_gradient_maps_against_sobel() -> None:
    upright = normalise(strokes(5))
    for image, row in zip(upright, gradient_maps(upright), strict=True):
        pooled = row.astype(np.float64) ** (1 / POWER)
        np.testing.assert_allclose(pooled, naive_gradient_maps(image), atol=3e-5)


@settings(max_examples=15, deadline=None)
@given(cut=st.integers(1, 11), seed=st.integers(0, 99))
def test_results_do_not_depend_on_the_block(cut: int, seed: int) -> None:
    images = strokes(12, seed=seed)
    whole = gradient_maps(normalise(images))
    parts = [gradient_maps(normalise(part)) for part in (images[:cut], images[cut:])]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_tutorial_deskew_is_the_tutorials() -> None:
    images = strokes(6, 20)
    for image, result in zip(images, deskew_tutorial(images), strict=True):
        m = cv2.moments(image)
        expected = image
        if abs(m["mu02"]) > 1e-2:
            skew = m["mu11"] / m["mu02"]
            matrix = np.float32([[1, skew, -0.6 * 20 * skew], [0, 1, 0]])
            flags = cv2.WARP_INVERSE_MAP | cv2.INTER_CUBIC
            expected = cv2.warpAffine(image, matrix, (20, 20), flags=flags)
        np.testing.assert_array_equal(result, expected)


def test_blank_images_stay_blank() -> None:
    images = np.zeros((3, 28, 28), np.uint8)
    images[1, 14, 14] = 255
    upright = normalise(images)
    assert np.isfinite(upright).all()
    assert not upright[[0, 2]].any()
    assert upright[1].any()
    assert not gradient_maps(upright)[0].any()


def test_one_pixel_of_ink_anywhere_is_finite() -> None:
    images = np.zeros((64, 8, 8), np.uint8)
    images[np.arange(64), np.arange(64) // 8, np.arange(64) % 8] = 1
    assert np.isfinite(gradient_maps(normalise(images))).all()


def test_intensities_of_every_type() -> None:
    for dtype, white in ((np.uint8, 255), (np.uint16, 65535), (np.float64, 1.0), (bool, True)):
        assert intensities(np.full((1, 2, 2), white, dtype)).max() == 1.0
    with pytest.raises(ValueError, match="int32"):
        intensities(np.zeros((1, 2, 2), np.int32))
    with pytest.raises(ValueError, match=r"\(n, height, width\)"):
        intensities(np.zeros((2, 2)))


def test_gradient_maps_refuse_other_shapes() -> None:
    with pytest.raises(ValueError, match="squares"):
        gradient_maps(np.zeros((1, 8, 9), np.float32))
