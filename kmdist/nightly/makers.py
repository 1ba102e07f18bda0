"""What a night asks of each recipe: a model fitted to files, and files labelled with a model."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from kmdist.errors import UsageError
from kmdist.images import Found
from kmdist.recipes.predict import predict
from kmdist.store import Run


@dataclass(frozen=True)
class Maker:
    """A recipe as a night uses it.

    Parameters
    ----------
    module, function : the recipe.
    model_options : options that make its run a model: it holds no labels, and one set of clusters.
    """

    module: str
    function: str
    model_options: Mapping[str, Any] = field(default_factory=dict)

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
        return recipe(files, output, **{**options, **self.model_options, **how})

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
        taken = inspect.signature(predict).parameters
        own = {key: value for key, value in options.items() if key in taken}
        return predict(model, files, output, **own, **how)


MAKERS = {
    "quantize": Maker("kmdist.recipes.quantize", "quantize", {"fit_only": True}),
    "texture": Maker("kmdist.recipes.texture", "texture", {"shared": True, "fit_only": True}),
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
