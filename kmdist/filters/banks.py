"""Filter banks: Leung-Malik and Gabor, as small frozen dataclasses.

Kernels are applied as correlations, as ``cv2.filter2D`` applies them: an odd kernel responds
with the sign that it shows. All banks are pure functions of their arguments.
"""

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

ORIENTATIONS = 6
ELONGATION = 3.0
"""Leung-Malik: the long axis of an edge or bar filter is three times the short one."""

LINEAR_SCALES = np.sqrt(2) * np.arange(1, 5)
"""√2·{1, 2, 3, 4} px: the popular ports' reading of the scales, and the default here."""

PUBLISHED_SCALES = np.sqrt(2) ** np.arange(1, 5)
"""√2^{1, 2, 3, 4} px: the scales of Leung and Malik (2001)."""

GABOR_FREQUENCIES = (0.35, 0.25, 0.177, 0.125, 0.088, 0.0625)
"""Cycles per pixel, half an octave apart, from just under Nyquist to a period of 16 px."""


@dataclass(frozen=True, eq=False)
class FilterBank:
    """Real kernels of one size, with a name each.

    Parameters
    ----------
    kernels : (n, size, size) float64, finite, size odd. Made read-only.
    names : n names, such as ``edge s1.4 a30``: kind, scale in px, angle in degrees.
    quadrature : kernels 2i and 2i + 1 are the even and the odd part of one complex filter, whose
        magnitude is the feature; otherwise each kernel gives a feature of its own.

    Raises
    ------
    ValueError : kernels not of the shape stated, not finite, or not as many as the names.

    Notes
    -----
    Two banks are equal where their kernels are: spectra are cached under that equality, also
    for banks that arrived at a worker by pickle.
    """

    kernels: NDArray[np.float64] = field(repr=False)
    names: tuple[str, ...]
    quadrature: bool = False

    def __post_init__(self) -> None:
        kernels = np.array(self.kernels, np.float64, order="C")
        if kernels.ndim != 3 or kernels.shape[1] != kernels.shape[2] or not kernels.shape[1] % 2:
            raise ValueError(
                f"kernels: expected (n, size, size) with an odd size, got {kernels.shape}"
            )
        if len(kernels) != len(self.names) or not len(kernels):
            raise ValueError(f"{len(kernels)} kernels with {len(self.names)} names")
        if self.quadrature and len(kernels) % 2:
            raise ValueError(f"quadrature: expected pairs of kernels, got {len(kernels)}")
        if not np.isfinite(kernels).all():
            raise ValueError("kernels: expected finite values")
        kernels.flags.writeable = False
        object.__setattr__(self, "kernels", kernels)
        digest = hashlib.sha256(repr((kernels.shape, self.quadrature)).encode() + kernels.tobytes())
        object.__setattr__(self, "_digest", digest.hexdigest())

    @property
    def digest(self) -> str:
        """SHA-256 of the kernels, for fingerprints and caches."""
        return str(self.__dict__["_digest"])

    @property
    def size(self) -> int:
        """Side of a kernel, px."""
        return int(self.kernels.shape[1])

    @property
    def halo(self) -> int:
        """Pixels that a response needs around its own: ``size // 2``."""
        return self.size // 2

    @property
    def n_features(self) -> int:
        """Magnitudes that the bank gives per pixel: half as many as kernels for pairs."""
        return len(self.names) // 2 if self.quadrature else len(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FilterBank) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def _gaussian(x: NDArray[np.float64], sigma: float, order: int) -> NDArray[np.float64]:
    """The 1-D Gaussian of standard deviation sigma, or its first or second derivative."""
    g = np.exp(-(x**2) / (2 * sigma**2)) / np.sqrt(2 * np.pi * sigma**2)
    if order == 0:
        return g
    return -g * x / sigma**2 if order == 1 else g * (x**2 - sigma**2) / sigma**4


def _coordinates(size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    half = size // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    return y, x


def _oriented(size: int, sigmas: NDArray[np.float64], order: int) -> list[NDArray[np.float64]]:
    """Elongated derivative filters, the six angles of the smallest scale first."""
    y, x = _coordinates(size)
    kernels = []
    for sigma in sigmas:
        for step in range(ORIENTATIONS):
            angle = np.pi * step / ORIENTATIONS
            along = np.cos(angle) * x - np.sin(angle) * y
            across = np.sin(angle) * x + np.cos(angle) * y
            kernels.append(
                _gaussian(along, ELONGATION * sigma, 0) * _gaussian(across, sigma, order)
            )
    return kernels


def _blob(size: int, sigma: float) -> NDArray[np.float64]:
    """exp(−r²/2σ²)/√(2πσ²): the ports scale it by the 1-D constant; L1 norms undo that."""
    y, x = _coordinates(size)
    return _gaussian(np.sqrt(x**2 + y**2), sigma, 0)


def _laplacian(size: int, sigma: float, centre: float) -> NDArray[np.float64]:
    """Laplacian of Gaussian (r² − centre·σ²)/σ⁴ · G; centre is 2 for the true Laplacian."""
    y, x = _coordinates(size)
    return _blob(size, sigma) * (x**2 + y**2 - centre * sigma**2) / sigma**4


def _leung_malik_names(bars: NDArray[np.float64], blobs: NDArray[np.float64]) -> tuple[str, ...]:
    oriented = [
        f"{kind} s{sigma:.1f} a{180 * step // ORIENTATIONS}"
        for kind in ("edge", "bar")
        for sigma in bars
        for step in range(ORIENTATIONS)
    ]
    round_ones = [f"gaussian s{sigma:.1f}" for sigma in blobs]
    round_ones += [f"laplacian s{sigma:.1f}" for sigma in (*blobs, *(3 * blobs))]
    return (*oriented, *round_ones)


@lru_cache(maxsize=8)
def leung_malik(
    *,
    size: int = 49,
    scales: Literal["linear", "published"] = "linear",
    variant: Literal["corrected", "tutorial"] = "corrected",
) -> FilterBank:
    """The Leung-Malik bank of 48 filters.

    18 first and 18 second derivatives of Gaussians (3 scales, 6 orientations, elongation 3),
    4 Gaussians and 8 Laplacians of Gaussians (at the 4 scales and three times those), in that
    order (T. Leung, J. Malik, 2001, "Representing and recognizing the visual appearance of
    materials using three-dimensional textons").

    Parameters
    ----------
    size : side of a kernel, px, odd.
    scales : ``linear``: √2·{1, 2, 3} px, and {1, 2, 3, 4} for the round filters; ``published``:
        √2^{1, 2, 3} and √2^{1, 2, 3, 4}.
    variant : ``corrected``: true Laplacians (r² − 2σ²), derivative and Laplacian filters of zero
        mean, every filter of L1 norm 1, so that responses are of one magnitude. ``tutorial``:
        number for number the Python port that tutorials copy, whose flaws are: the Gaussians sum
        to 3.5, 7.1, 10.6 and 14 and saturate 8-bit images; the Laplacians have r² − σ² for
        r² − 2σ², so that they respond to a constant (sums of 1.8 to 0.005); nothing is
        normalised. With linear scales the Laplacian at 3·√2 px occurs twice in either variant.

    Returns
    -------
    FilterBank: 48 kernels of (size, size) float64, halo ``size // 2``.

    Raises
    ------
    ValueError : an even size, or a word that is not listed above.
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"size: expected an odd number of pixels, got {size}")
    if scales not in ("linear", "published"):
        raise ValueError(f"scales: expected 'linear' or 'published', got {scales!r}")
    if variant not in ("corrected", "tutorial"):
        raise ValueError(f"variant: expected 'corrected' or 'tutorial', got {variant!r}")
    blobs = LINEAR_SCALES if scales == "linear" else PUBLISHED_SCALES
    bars = blobs[:3]
    centre = 1.0 if variant == "tutorial" else 2.0
    derivatives = _oriented(size, bars, 1) + _oriented(size, bars, 2)
    gaussians = [_blob(size, sigma) for sigma in blobs]
    laplacians = [_laplacian(size, sigma, centre) for sigma in (*blobs, *(3 * blobs))]
    if variant == "corrected":
        derivatives = [kernel - kernel.mean() for kernel in derivatives]
        laplacians = [kernel - kernel.mean() for kernel in laplacians]
    kernels = np.array(derivatives + gaussians + laplacians)
    if variant == "corrected":
        kernels /= np.abs(kernels).sum((1, 2), keepdims=True)
    return FilterBank(kernels, _leung_malik_names(bars, blobs))


@lru_cache(maxsize=8)
def gabor(
    *,
    size: int = 49,
    frequencies: tuple[float, ...] = GABOR_FREQUENCIES,
    orientations: int = ORIENTATIONS,
) -> FilterBank:
    """Gabor filters in even and odd pairs (J. G. Daugman, 1985; A. K. Jain, F. Farrokhnia, 1991).

    A round Gaussian of one octave's bandwidth (σ = 0.56 / frequency) times a cosine and a sine;
    the cosine's mean is taken out, and both are divided by the L1 norm of the cosine kernel, so
    that the pair stays in quadrature and a grating's magnitude does not ripple with its phase.

    Parameters
    ----------
    size : side of a kernel, px, odd.
    frequencies : cycles per pixel, each in (0, 0.5).
    orientations : angles, evenly spaced over 180°.

    Returns
    -------
    FilterBank: 2 × frequencies × orientations kernels, ``quadrature`` true: 36 magnitudes from
    72 kernels by default, all orientations of the first frequency first.

    Raises
    ------
    ValueError : an even size, a frequency outside (0, 0.5), or no orientation.
    """
    if size < 1 or size % 2 == 0:
        raise ValueError(f"size: expected an odd number of pixels, got {size}")
    if orientations < 1 or not frequencies or not all(0 < f < 0.5 for f in frequencies):
        raise ValueError(
            f"expected frequencies in (0, 0.5) and at least one orientation, "
            f"got {frequencies} and {orientations}"
        )
    y, x = _coordinates(size)
    kernels, names = [], []
    for frequency in frequencies:
        envelope = np.exp(-(x**2 + y**2) / (2 * (0.56 / frequency) ** 2))
        for step in range(orientations):
            angle = np.pi * step / orientations
            phase = 2 * np.pi * frequency * (x * np.cos(angle) + y * np.sin(angle))
            even, odd = envelope * np.cos(phase), envelope * np.sin(phase)
            even -= envelope * (even.sum() / envelope.sum())
            norm = np.abs(even).sum()
            kernels += [even / norm, odd / norm]
            degrees = 180 * step / orientations
            names += [f"{part} f{frequency:.3f} a{degrees:.0f}" for part in ("even", "odd")]
    return FilterBank(np.array(kernels), tuple(names), quadrature=True)
