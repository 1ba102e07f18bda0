"""What a digits job does: group images without labels; labels, where known, only score.

Two passes over the images (describe, make rows) and one more for what the run records. Where rows
are pixels, there is a first pass only to find damaged files, or where rows are not kept. Passes
over rows are said in `kmdist.recipes.digits.fitting`.

To label new images with the clusters of an earlier run takes one pass over the images, and one
before to find files that are damaged.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kmdist.engine.fits import FitOptions
from kmdist.engine.passes import Pool
from kmdist.errors import UsageError
from kmdist.job.job import Job
from kmdist.job.memory import Outline
from kmdist.job.options import JobOptions
from kmdist.job.photographs import model_record
from kmdist.job.progress import Watcher
from kmdist.job.recipe import Results
from kmdist.recipes.digits.fitting import first_pass, fit_models, make_rows, rank_clusters
from kmdist.recipes.digits.landmarks import landmark_count
from kmdist.recipes.digits.model import PRESETS, DigitModel
from kmdist.recipes.digits.opening import (
    Input,
    Opened,
    check_images,
    open_further,
    open_input,
    require_enough,
    with_classes_of,
)
from kmdist.recipes.digits.options import DigitsOptions
from kmdist.recipes.digits.results import Clustering, label_and_write
from kmdist.recipes.digits.steps import Sizes, outline, predict_outline
from kmdist.store import Run

REFINED_IMAGES, LANDMARK_IMAGES = 200, 5000
"""From so many images on these presets are the default. Accuracy of gradient, landmark and refined,
means of two draws each of sample:digits, digits.png and MNIST (k = 10): .847 .701 .877 for 200
images, .848 .893 .958 for 400, .896 .962 .965 for 1,000, .883 .971 .977 for 1,797, .824 .983 .986
for 3,000, and .927 .986 .986 for 5,000, where landmarks take a quarter less time."""
PLAIN = ("init", "n_init", "max_iter", "tol")
"""Options of plain k-means."""


@dataclass(frozen=True)
class DigitsFit:
    """Group images of characters: a `kmdist.job.recipe.Procedure`.

    Parameters
    ----------
    given, tested : images to fit, and to score afterwards.
    """

    options: DigitsOptions
    given: Input
    tested: Input | None
    recipe: str = "digits"

    def open(self, options: JobOptions, pool: Pool, watch: Watcher) -> Opened:
        """Open both stacks."""
        opened = open_input(self.given, options)
        self.ks(opened)
        self.plain(self.preset(opened))
        if self.tested is None:
            return opened
        tested = _open_test(self.tested, opened, options)
        return replace(opened, tested=tested, notes=[*opened.notes, *tested.notes])

    def parameters(self, workload: Opened, options: JobOptions) -> Mapping[str, Any]:
        """All that decides the result."""
        tested, name = workload.tested, self.preset(workload)
        return {
            **self.given.parameters(),
            "k": list(self.ks(workload)),
            "preset": name,
            "test": None if tested is None else tested.fingerprint,
            "fit": None if PRESETS[name].sets else {**vars(self.plain(name))},
            **options.record("seed", "block_mpx"),
            "dark_ink": workload.dark_ink,
        }

    def outline(self, workload: Opened, options: JobOptions, *, keep: bool) -> Outline:
        """Passes, what is kept, checkpoints and results."""
        name = self.preset(workload)
        sizes = Sizes(workload, PRESETS[name], self.ks(workload))
        return outline(sizes, self.plain(name), keep=keep)

    def preset(self, opened: Opened) -> str:
        """The preset that is asked for, or the best for so many images, clusters and options."""
        n, k = opened.stack.n, max(self.options.ks)
        default = "landmark" if n >= LANDMARK_IMAGES else "refined"
        least = PRESETS[default]
        plain = any(getattr(self.options, name) is not None for name in PLAIN)
        landmarks = landmark_count(n, k, least.rows_each, least.per_cluster)
        if plain or n < REFINED_IMAGES or landmarks < max(k, least.neighbours):
            default = "gradient"
        return self.options.preset or default

    def ks(self, opened: Opened) -> tuple[int, ...]:
        """Numbers of clusters, ascending.

        Raises
        ------
        UsageError : more than images.
        """
        n = opened.stack.n
        for k in self.options.ks:
            if k > n:
                raise UsageError(f"k is {k}; {n:,} images make 1 to {n:,} clusters")
        return self.options.ks

    def plain(self, preset: str) -> FitOptions:
        """Options of plain k-means.

        Raises
        ------
        UsageError : the preset has none of those that are given.
        """
        asked = {name: getattr(self.options, name) for name in PLAIN}
        given = {name: value for name, value in asked.items() if value is not None}
        if given and PRESETS[preset].sets:
            raise UsageError(
                f"{', '.join(given)}: for plain k-means (raw, deskew, gradient); the preset "
                f"{preset!r} has none of them"
            )
        return FitOptions(**given, seed=self.options.seed)

    def run(self, job: Job, workload: Opened) -> Results:
        """Make rows, fit a model for each k, number its clusters, label."""
        ks = self.ks(workload)
        name = self.preset(workload)
        preset = PRESETS[name]
        opened, describer = first_pass(job, workload, preset)
        opened, rows = make_rows(job, opened, describer)
        require_enough(opened, ks)
        fits = fit_models(job, rows, ks, preset, self.plain(name))
        with job.timed("rank"):
            ranked = rank_clusters(rows, [fit.model for fit in fits], describer.scale)
        units = np.array([describer.scale**2, describer.scale**2, 1])
        clusterings = [
            Clustering(
                DigitModel(describer, labelling, opened.size, opened.dark_ink),
                centroids,
                fit.stop_reason,
                fit.n_iter,
                fit.history / units,
                prefix=f"k{k}/" if len(ks) > 1 else "",
            )
            for k, fit, (labelling, centroids) in zip(ks, fits, ranked, strict=True)
        ]
        results, _ = label_and_write(job, opened, rows, name, clusterings)
        return results


def _open_test(given: Input, train: Opened, options: JobOptions) -> Opened:
    if train.stack.classes is None:
        raise UsageError(
            f"--test scores by classes, and {train.stack.name} has none; give its --labels"
        )
    opened = open_further(given, options, train.size, train.dark_ink)
    if opened.stack.classes is None:
        raise UsageError(f"--test {opened.stack.name}: no classes; give its --test-labels")
    return replace(opened, stack=with_classes_of(opened.stack, train.stack.class_names))


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
        opened = open_further(self.given, options, model.size, model.dark_ink)
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
            **options.record("block_mpx"),
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
        if opened.stack.names:  # one of which may be damaged; else a lost block has no labels
            opened = check_images(job, opened)
        model = replace(self.model, dark_ink=opened.dark_ink)
        centroids, maps = np.asarray(run.centroids), run.attributes.get("maps")
        clustering = Clustering(model, centroids, "predicted", maps=maps)
        preset = str(run.attributes["preset"])
        results, _ = label_and_write(job, opened, None, preset, [clustering])
        return results
