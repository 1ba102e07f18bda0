"""Label new photographs with the clusters of an earlier run, whatever the recipe."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmdist.job.job import Job
from kmdist.job.memory import Outline, Step
from kmdist.job.options import JobOptions
from kmdist.job.photographs import PhotographProcedure, Photographs
from kmdist.job.recipe import Results
from kmdist.store import Run


@dataclass(frozen=True)
class LabelPhotographs(PhotographProcedure):
    """Label photographs with a model: a `kmdist.job.recipe.Procedure`.

    Parameters
    ----------
    model : the run that holds it.
    label : labels and writes all images of a job; returns what the run's record says.
    steps : what that does, pass by pass.
    """

    model: Run
    label: Callable[[Job, Photographs], Mapping[str, Any]]
    steps: Callable[[Photographs], Sequence[Step]]

    @property
    def recipe(self) -> str:
        """That of the model."""
        return self.model.recipe

    def parameters(self, workload: Photographs, options: JobOptions) -> Mapping[str, Any]:
        """All that decides the result."""
        return {
            "k": [self.model.k],
            "space": self.model.attributes.get("space"),
            "model": model_record(self.model),
            "block_mpx": options.block_mpx,
            "max_pixels": options.max_pixels,
        }

    def outline(self, workload: Photographs, options: JobOptions, *, keep: bool) -> Outline:
        """Pass by pass; nothing is kept between them."""
        return Outline(self.steps(workload), result_bytes=workload.label_bytes(1))

    def run(self, job: Job, workload: Photographs) -> Results:
        """Label all images."""
        return Results({0: self.label(job, workload)})


def model_record(run: Run) -> dict[str, Any]:
    """What the record of a run says of the run whose clusters it has."""
    return {
        "path": str(run.path),
        "fingerprint": run.attributes.get("fingerprint"),
        "centroids_sha256": hashlib.sha256(np.asarray(run.centroids).tobytes()).hexdigest(),
    }
