"""What a report of a texture run shows: signatures of its clusters, and its filter bank."""

from collections.abc import Sequence

import numpy as np

from kmdist.job.exhibits import Exhibit, Gallery, signatures
from kmdist.recipes.texture.model import Texture
from kmdist.store import Run
from kmdist.store.run_arrays import Fit

MOST_COMPONENTS = 16
SHOWN_IMAGES = 6


def signatures_and_bank(run: Run) -> Sequence[Exhibit]:
    """The centroids, of the first images where each has its own, and the kernels of the bank."""
    if run.runs:  # each k shows its own
        return ()
    shown: list[Exhibit] = []
    names = list(run.images)[:SHOWN_IMAGES]
    fits: dict[str, Fit] = (
        {"": run} if run.centroids is not None else {f" of {n}": run.images[n] for n in names}
    )
    for whose, fit in fits.items():
        if fit.centroids is not None:
            rows = fit.centroids[:, :MOST_COMPONENTS]
            columns = [f"c{i}" for i in range(rows.shape[1])]
            note = "centroids in the first components of the features"
            shown.append(signatures(f"Cluster signatures{whose}", rows, columns, note))
    texture = Texture.of_record(run.attributes["features"])
    if not texture.is_tutorial:
        bank = texture.features.bank
        kernels = [bank.kernels[i] for i in range(len(bank))]
        pictures = [(name, _kernel(one)) for name, one in zip(bank.names, kernels, strict=True)]
        shown.append(Gallery("Filter bank", pictures, "grey is 0; each to its own magnitude"))
    return shown


def _kernel(kernel: np.ndarray) -> np.ndarray:
    largest = float(np.abs(kernel).max())
    return np.rint(127.5 + 127.5 * kernel / (largest or 1.0)).astype(np.uint8)
