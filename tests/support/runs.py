"""What a run holds, for comparison with another run and with the pixels."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np

from kmdist.store import Run


def bytes_of(run: Path) -> dict[str, str]:
    """SHA-256 of every chunk and of the metadata that does not say when and how it ran."""
    return {
        str(path.relative_to(run)): hashlib.sha256(_without_times(path)).hexdigest()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path != run / "zarr.json" and "state" not in path.parts
    }


def _without_times(path: Path) -> bytes:
    """A file's bytes; of the group of one k without the seconds that its stages took."""
    content = path.read_bytes()
    if path.name != "zarr.json" or b'"timings"' not in content:
        return content
    node = json.loads(content)
    del node["attributes"]["kmdist"]["timings"]
    return json.dumps(node).encode()


def on_white(pixels: np.ndarray) -> np.ndarray:
    """(y, x, 3) RGB of BGR or BGRA pixels as OpenCV reads them, laid over white by their alpha."""
    rgb = pixels[..., 2::-1].astype(np.float64)
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3:] / 255.0
        rgb = np.rint(rgb * alpha + 255.0 * (1.0 - alpha))
    return rgb


def recomputed_inertia(run: Run, folder: Path) -> float:
    """Σ‖x − c‖² from the label maps, the centroids and the pixels, in float64."""
    total = 0.0
    for name in run.images:
        pixels = cv2.imread(str(folder / name), cv2.IMREAD_UNCHANGED)
        labels = run.labels(name)[:]
        clustered = pixels[..., 3] > 0 if pixels.shape[2] == 4 else np.ones(labels.shape, bool)
        rgb = on_white(pixels)[clustered]
        centroids = np.asarray(run.centroids, np.float64)[labels[clustered]]
        total += float(((rgb - centroids) ** 2).sum())
    return total
