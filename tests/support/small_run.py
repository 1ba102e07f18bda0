"""A run small enough to be written, killed and resumed many times."""

import numpy as np

from kmdist.store import RunWriter
from tests.support.writing import released

IMAGES = ["a/1.png", "a/2.png", "b.png"]


def write_run(path, generation, shape=(300, 1100)):
    """One run, resumed if it can be: three images, a checkpoint before and after each."""
    with released(
        RunWriter.create(
            path,
            recipe="quantize",
            parameters={"k": 250},
            fingerprint=f"g{generation}",
            images=IMAGES,
            resume=True,
            overwrite=True,
        )
    ) as writer:
        if writer.already_complete:
            return
        if writer.load_state("fit") is None:
            writer.save_state("fit", {"centroids": np.full((250, 3), generation, np.float32)})
        centroids = writer.load_state("fit")["centroids"]
        writer.write_array("centroids", centroids, ("cluster", "feature"))
        done = writer.done("labels")
        for index, image in enumerate(IMAGES):
            if index in done:
                continue
            labels = np.full(shape, generation % 250, dtype=np.uint8)
            writer.write_labels(image, labels, k=250)
            writer.mark_done("labels", index, {"pixels": labels.size})
        writer.publish({"k": 250, "seed": 0})
