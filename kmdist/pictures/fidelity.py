"""How near a recoloured picture is to its original: PSNR and SSIM, summed band by band."""

import math

import numpy as np

WINDOW = 7
"""Side of the window of SSIM, scikit-image's default."""
_EDGE = WINDOW // 2
_STRIP_PIXELS = 1 << 20


class Fidelity:
    """PSNR and mean SSIM of pictures that arrive in bands, equal to those of the whole.

    PSNR is 10·log₁₀(255² / mean squared error of all channels). SSIM (Wang, Bovik, Sheikh and
    Simoncelli, 2004) is scikit-image's `structural_similarity` with its defaults: the mean over
    the three channels and all pixels whose window lies within the picture. Pixels that are not
    clustered count in neither.

    Memory: 340 bytes a pixel of one strip of 1 Mpx, or of 64 rows where those are more.
    """

    def __init__(self) -> None:
        self.squared_error = 0
        self.n_values = 0
        self._ssim_sum = 0.0
        self._ssim_values = 0
        self._carried: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    @property
    def psnr_db(self) -> float:
        """In dB; infinite where the pictures are equal, not a number where nothing was compared."""
        return psnr_db(self.squared_error, self.n_values)

    @property
    def ssim(self) -> float:
        """−1 … 1; not a number for pictures of fewer than 7 rows or columns."""
        return self._ssim_sum / self._ssim_values if self._ssim_values else math.nan

    def add(self, original: np.ndarray, shown: np.ndarray, skip: np.ndarray | None) -> None:
        """Compare the next rows.

        Parameters
        ----------
        original, shown : (rows, width, 3) uint8.
        skip : (rows, width) True where the pixel does not count; None: all count.
        """
        height, width = original.shape[:2]
        rows = max(_STRIP_PIXELS // width, 64)
        for y in range(0, height, rows):
            strip = slice(y, min(y + rows, height))
            counts = np.ones((strip.stop - y, width), bool) if skip is None else ~skip[strip]
            difference = original[strip].astype(np.int32) - shown[strip]
            self.squared_error += int((difference * difference)[counts].sum(dtype=np.int64))
            self.n_values += 3 * int(counts.sum())
            self._add_ssim(original[strip], shown[strip], counts)

    def _add_ssim(self, original: np.ndarray, shown: np.ndarray, counts: np.ndarray) -> None:
        from skimage.metrics import structural_similarity

        if self._carried is not None:
            before = zip(self._carried, (original, shown, counts), strict=True)
            original, shown, counts = (np.concatenate(pair) for pair in before)
        if min(original.shape[:2]) >= WINDOW:
            _, similarity = structural_similarity(
                original, shown, win_size=WINDOW, channel_axis=2, data_range=255, full=True
            )
            inner = (slice(_EDGE, -_EDGE), slice(_EDGE, -_EDGE))
            values = similarity[inner][counts[inner]]
            self._ssim_sum += float(values.sum())
            self._ssim_values += values.size
        keep = slice(max(len(original) - 2 * _EDGE, 0), None)
        self._carried = (original[keep].copy(), shown[keep].copy(), counts[keep].copy())


def psnr_db(squared_error: int, n_values: int) -> float:
    """PSNR of 8-bit values from the sum of their squared errors."""
    if not n_values:
        return math.nan
    return 10 * math.log10(255**2 * n_values / squared_error) if squared_error else math.inf
