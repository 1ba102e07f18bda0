"""Made scenes of several channels."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr

PLACE: list[tuple[Any, ...]] = [
    (33550, "d", 3, (28.5, 28.5, 0.0), True),
    (33922, "d", 6, (0.0, 0.0, 0.0, 288776.3, 9120761.0, 0.0), True),
    (34735, "H", 12, (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 31985), True),
]
"""Tags of a place in UTM zone 25 south."""


def fields(height: int, width: int, n_channels: int = 5, seed: int = 0) -> np.ndarray:
    """(y, x, c) uint16: fields of 16 px with spectra of their own, and noise."""
    rng = np.random.default_rng(seed)
    shape = (-(-height // 16), -(-width // 16))
    kinds = np.kron(rng.integers(0, 4, shape), np.ones((16, 16), int))[:height, :width]
    spectra = rng.integers(400, 3000, (4, n_channels))
    noise = rng.normal(0, 40, (height, width, n_channels))
    return np.asarray((spectra[kinds] + noise).astype(np.uint16))


def write_bands(folder: Path, scene: np.ndarray, **options: Any) -> Path:
    """A file a channel: B1.tif, B2.tif …"""
    folder.mkdir(parents=True)
    for number in range(scene.shape[2]):
        tifffile.imwrite(folder / f"B{number + 1}.tif", scene[..., number], **options)
    return folder


CHANNELS = ["DAPI", "GFP", "RFP", "Cy5", "BF"]


def write_micrograph(path: Path, volume: np.ndarray) -> None:
    """An OME-Zarr image of named channels (z, y, x, 5), of voxels of 2 × 0.5 × 0.25 µm."""
    axes = [{"name": "c", "type": "channel"}] + [
        {"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"
    ]
    moves = [
        {"type": "scale", "scale": [1, 2.0, 0.5, 0.25]},
        {"type": "translation", "translation": [0, 3.0, 10.0, 20.0]},
    ]
    scales = [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": moves}]}]
    channels = [{"label": name} for name in CHANNELS]
    ome = {"version": "0.5", "multiscales": scales, "omero": {"channels": channels}}
    group = zarr.create_group(path, attributes={"ome": ome})
    group.create_array("0", data=np.moveaxis(volume, -1, 0))
