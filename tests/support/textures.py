"""Made pictures of several textures."""

from pathlib import Path

import cv2
import numpy as np
import tifffile


def mosaic(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Four textures in quarters, in colour: (height, width, 3) uint8 in OpenCV's order."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    noise = rng.normal(0, 30, (height, width))
    planes = [
        40 * np.sin(x * 1.9) + noise / 3,
        45 * np.sin((x + y) / 3) + noise / 3,
        cv2.GaussianBlur(noise, (0, 0), 1.2) * 3,
        noise,
    ]
    quarter = 2 * (y >= 0.45 * height) + (x >= 0.6 * width)
    grey_values = np.choose(quarter, planes) + 120
    tint = np.array([[0, 0, 20], [20, 0, 0], [0, 20, 0], [10, 10, 0]])[quarter]
    return np.clip(grey_values[..., None] + tint, 0, 255).astype(np.uint8)


def tiled_tiff(path: Path, height: int, width: int) -> Path:
    tifffile.imwrite(path, mosaic(height, width)[..., ::-1], tile=(256, 256), photometric="rgb")
    return path
