"""Mosaics of textures with exact ground truth, made of public texture images.

The material: photographs and scans of surfaces that two packages on PyPI carry (miniworld 2.1.0,
Apache-2.0; robosuite 1.5.2, MIT) and three that come with scikit-image (brick, grass, gravel).
``pip download`` fetches the wheels once, 200 MB, into a cache folder; nothing of them is
installed or run. Textures at even places of the sorted list are for making choices, those at odd
places for reporting.
"""

import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import skimage
from numpy.typing import NDArray

WHEELS = ("miniworld==2.1.0", "robosuite==1.5.2")
SIZE_PX = 512
TEXTURES_PER_MOSAIC = 5

_MINIWORLD = (
    "asphalt_1 brick_wall_1 cardboard_1 cardboard_3 ceiling_tile_noborder_1 concrete_1 door_doom_1 "
    "drywall_1 grass_1 grass_2 marble_1 metal_grill_1 metal_grill_2 rock_1 stucco_1 wood_1"
)
_ROBOSUITE = (
    "blue-wood brass-ambra bread clay dirt gray-felt gray-plaster gray-woodgrain green-wood "
    "light-gray-floor-tile metal red-wood steel-brushed steel-scratched white-plaster wood-tiles "
    "yellow-plaster"
)
_SKIMAGE = "brick grass gravel"
_HALVED = {"brick_wall_1", "metal_grill_2", "rock_1", "brick"}
"""Coarse ones, taken at half their size, so that 64 px show more than one period."""


def cache_folder() -> Path:
    """Where wheels are kept between runs."""
    return Path.home() / ".cache" / "kmdist-benchmarks"


def _wheels() -> list[Path]:
    folder = cache_folder()
    found = []
    for requirement in WHEELS:
        name, version = requirement.split("==")
        pattern = f"{name}-{version}-*.whl"
        if not list(folder.glob(pattern)):
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps"]
            subprocess.run([*command, "-d", str(folder), requirement], check=True)
        found += folder.glob(pattern)
    return found


def load_textures() -> dict[str, NDArray[np.float32]]:
    """Name → grey image of at least 640 × 640 px, 0 … 255, in the order of the names."""
    images: dict[str, NDArray[np.uint8]] = {}
    for wheel, names in zip(_wheels(), (_MINIWORLD, _ROBOSUITE), strict=True):
        with zipfile.ZipFile(wheel) as archive:
            for path in archive.namelist():
                stem = Path(path).stem
                if "/textures/" in path and stem in names.split() and path.endswith(".png"):
                    data = np.frombuffer(archive.read(path), np.uint8)
                    images[stem] = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    for name in _SKIMAGE.split():
        path = Path(skimage.__file__).parent / "data" / f"{name}.png"
        images[name] = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    return {name: _large_enough(images[name], name) for name in sorted(images)}


def _large_enough(image: NDArray[np.uint8], name: str) -> NDArray[np.float32]:
    grey = image.astype(np.float32)
    if name in _HALVED:
        grey = cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    while min(grey.shape) < 640:  # mirrored; mosaics cut a window at random
        grey = np.block([[grey, grey[:, ::-1]], [grey[::-1], grey[::-1, ::-1]]])
    return grey


def mosaics(
    textures: list[NDArray[np.float32]], count: int, seed: int, *, size_px: int = SIZE_PX
) -> list[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Voronoi mosaics of five textures, each brought to mean 128 and deviation 40.

    Equal brightness and contrast leave texture alone to tell them apart; no region has less than
    8 % of the pixels.

    Returns
    -------
    list of (image (size, size) uint8, truth (size, size) int64)
    """
    made = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        chosen = rng.choice(len(textures), TEXTURES_PER_MOSAIC, replace=False)
        truth = _voronoi(rng, size_px)
        image = np.zeros((size_px, size_px), np.float32)
        for region, index in enumerate(chosen):
            texture = textures[index]
            y, x = (int(rng.integers(0, side - size_px + 1)) for side in texture.shape)
            part = texture[y : y + size_px, x : x + size_px]
            part = (part - part.mean()) / part.std() * 40 + 128
            image[truth == region] = part[truth == region]
        made.append((np.clip(image, 0, 255).round().astype(np.uint8), truth))
    return made


def _voronoi(rng: np.random.Generator, size_px: int) -> NDArray[np.int64]:
    y, x = np.mgrid[:size_px, :size_px]
    while True:
        sites = rng.random((TEXTURES_PER_MOSAIC, 2)) * size_px
        distances = (y[..., None] - sites[:, 0]) ** 2 + (x[..., None] - sites[:, 1]) ** 2
        truth = distances.argmin(-1)
        counts = np.bincount(truth.ravel(), minlength=TEXTURES_PER_MOSAIC)
        if counts.min() >= 0.08 * size_px**2:
            return truth
