"""Filter responses by direct correlation in float64."""

import numpy as np
import scipy.signal


def direct(image, kernels):
    """Correlation in float64 on an image padded by NumPy, one kernel at a time."""
    halo = kernels.shape[1] // 2
    padded = np.pad(np.asarray(image, np.float64), halo, mode="reflect")
    return np.stack([scipy.signal.correlate2d(padded, k, mode="valid") for k in kernels], -1)


def assert_close(got, expected, tolerance=1e-5):
    """Within a share of each filter's largest response, or of float64's own rounding."""
    largest = np.abs(expected).max((0, 1))
    assert (np.abs(got - expected).max((0, 1)) <= tolerance * largest + 1e-10).all()
