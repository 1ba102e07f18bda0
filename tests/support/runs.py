"""What a run holds, for comparison with another run and with the pixels."""

import hashlib
from pathlib import Path

import cv2
import numpy as np

from kmdist.store import Run


def bytes_of(run: Path) -> dict[str, str]:
    """SHA-256 of every chunk and of the metadata that does not say when and how it ran."""
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path != run / "zarr.json" and "state" not in path.parts
    }


def recomputed_inertia(run: Run, folder: Path) -> float:
    """Σ‖x − c‖² from the label maps, the centroids and the pixels, in float64."""
    total = 0.0
    for name in run.images:
        pixels = cv2.imread(str(folder / name), cv2.IMREAD_UNCHANGED)
        labels = run.labels(name)[:]
        clustered = pixels[..., 3] > 0 if pixels.shape[2] == 4 else np.ones(labels.shape, bool)
        rgb = pixels[..., 2::-1][clustered].astype(np.float64)
        centroids = np.asarray(run.centroids, np.float64)[labels[clustered]]
        total += float(((rgb - centroids) ** 2).sum())
    return total
