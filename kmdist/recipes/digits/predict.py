"""Label new images of characters with the clusters of an earlier run.

One pass over the images, and one before to find files that are damaged.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kmdist.engine.passes import Pool
from kmdist.engine.rows import Loader
from kmdist.job.job import Job
from kmdist.job.memory import Outline
from kmdist.job.options import JobOptions
from kmdist.job.photographs import model_record
from kmdist.job.progress import Watcher
from kmdist.job.recipe import Results
from kmdist.recipes.digits.left_out import check_images
from kmdist.recipes.digits.model import DigitModel
from kmdist.recipes.digits.opening import Input, Opened, open_further, with_classes_of
from kmdist.recipes.digits.results import Clustering, label_and_write
from kmdist.recipes.digits.rows import load_rows
from kmdist.recipes.digits.steps import Sizes, predict_outline
from kmdist.store import Run


@dataclass(frozen=True)
class DigitLabels:
    """Label images as a run labelled its own: a `kmdist.job.recipe.Procedure`.

    The new run has the clusters, numbers and maps of the model.

    Parameters
    ----------
    of : the run, of digits, with one k. model : of that run.
    given : the new images. Classes that are known score, by the model's maps.
    """

    of: Run
    model: DigitModel
    given: Input
    recipe: str = "digits"

    def open(self, options: JobOptions, pool: Pool, watch: Watcher) -> Opened:
        """Open images, which must be as the model's are; classes numbered as the model's."""
        model = self.model
        opened = open_further(self.given, options.block_mpx, model.size, model.dark_ink)
        names = self.of.attributes.get("class_names") or []
        if opened.stack.classes is None or names:
            return replace(opened, stack=with_classes_of(opened.stack, names))
        return opened

    def parameters(self, workload: Opened, options: JobOptions) -> Mapping[str, Any]:
        """All that decides the result."""
        return {
            **self.given.parameters(),
            "k": [self.model.labelling.k],
            "preset": self.of.attributes["preset"],
            "model": model_record(self.of),
            "block_mpx": options.block_mpx,
            "dark_ink": workload.dark_ink,
        }

    def outline(self, workload: Opened, options: JobOptions, *, keep: bool) -> Outline:
        """Damaged files, labels."""
        return predict_outline(
            Sizes(workload, self.model.describer.preset, [self.model.labelling.k])
        )

    def run(self, job: Job, workload: Opened) -> Results:
        """Look for damaged files, label."""
        opened, run = workload, self.of
        describer = self.model.describer
        if opened.stack.names:  # one of which may be damaged; else a lost block has no labels
            opened = check_images(job, opened)
        sources = [Loader(load_rows, (part, describer)) for part in opened.items]
        model = replace(self.model, dark_ink=opened.dark_ink)
        centroids, maps = np.asarray(run.centroids), run.attributes.get("maps")
        clustering = Clustering(model, centroids, "predicted", maps=maps)
        preset = str(run.attributes["preset"])
        results, _ = label_and_write(job, opened, sources, preset, [clustering])
        return results
