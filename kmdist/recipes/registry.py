"""What a night asks of each recipe: a model fitted to files, and files labelled with a model."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from kmdist.errors import UsageError
from kmdist.images import Found
from kmdist.job.options import JobOptions
from kmdist.job.plan import Plan, plan_job
from kmdist.recipes.predict import predict
from kmdist.store import Run
from kmdist.store.format.names import image_key


@dataclass(frozen=True)
class Maker:
    """A recipe as a night uses it.

    Parameters
    ----------
    module, function : the recipe.
    model_options : options that make its run a model: it holds no labels, and one set of clusters.
    default_k : clusters of an image each, which take as many images; None: one image is enough.
    """

    module: str
    function: str
    model_options: Mapping[str, Any] = field(default_factory=dict)
    default_k: int | None = None

    def least_files(self, options: Mapping[str, Any]) -> int:
        """Files that a model takes at least."""
        return 1 if self.default_k is None else int(options.get("k") or self.default_k)

    def name_in_run(self, name: str) -> str:
        """A file's name as a run can hold it: a run of labels lists names, a line each."""
        return image_key(name) if self.default_k is not None and "\n" in name else name

    def fit(
        self, files: Sequence[Found], output: Path, options: Mapping[str, Any], **how: Any
    ) -> Run:
        """Fit a model to files.

        Parameters
        ----------
        options : the recipe's. how : ``resume``, ``overwrite``, ``watch``, ``command``.

        Raises
        ------
        NoUsableImageError : there is nothing to fit to.
        """
        recipe: Callable[..., Run] = getattr(import_module(self.module), self.function)
        own = _taken_by(recipe, options)
        return recipe(files, output, **{**own, **self.model_options, **how})

    def label(
        self,
        model: Path,
        files: Sequence[Found],
        output: Path,
        options: Mapping[str, Any],
        **how: Any,
    ) -> Run:
        """Label files with a model; parameters and errors as for `fit`.

        Options of the fit alone, which labelling does not have, are left out.
        """
        return predict(model, files, output, **_taken_by(predict, options), **how)


def _taken_by(function: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    taken = inspect.signature(function).parameters
    return {key: value for key, value in options.items() if key in taken}


def options_of(recipe: str) -> type[JobOptions]:
    """The class of a recipe's options."""
    module = import_module(f"kmdist.recipes.{recipe}.options")
    options: type[JobOptions] = getattr(module, f"{recipe.capitalize()}Options")
    return options


def plan_of(recipe: str, inputs: Any, output: str | Path, options: JobOptions) -> Plan:
    """What a job of a recipe would do; see `kmdist.job.plan.plan_job`."""
    module = import_module(f"kmdist.recipes.{recipe}.recipe")
    return plan_job(getattr(module, f"{recipe}_fit")(inputs, options), output, options)


MAKERS = {
    "quantize": Maker("kmdist.recipes.quantize.recipe", "quantize", {"fit_only": True}),
    "texture": Maker(
        "kmdist.recipes.texture.recipe", "texture", {"shared": True, "fit_only": True}
    ),
    "digits": Maker("kmdist.recipes.digits.recipe", "digits", default_k=10),
}
"""By the name of the recipe; those whose models can label new images."""


def maker_of(recipe: str) -> Maker:
    """The maker of a recipe.

    Raises
    ------
    UsageError : no such recipe.
    """
    if recipe not in MAKERS:
        raise UsageError(
            f"nightly: recipe {recipe!r} cannot label new images with an old model; "
            f"allowed: {', '.join(MAKERS)}"
        )
    return MAKERS[recipe]
