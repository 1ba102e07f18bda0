"""Recipes by name: each is imported when it is asked for, and none imports another.

A package adds its own by an entry point of the group ``kmdist.recipes``, such as
``brightness = "mypackage.brightness:RECIPE"``; a program by `register`.
"""

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, cast

from kmdist.errors import UsageError

if TYPE_CHECKING:  # the command line lists recipes before it needs these
    from kmdist.job.recipe import Recipe

ENTRY_POINTS = "kmdist.recipes"

_PLACES = {
    name: f"kmdist.recipes.{name}.recipe:RECIPE"
    for name in ("quantize", "texture", "digits", "segment")
}


def register(name: str, place: str) -> None:
    """Add a recipe to this process.

    Parameters
    ----------
    place : ``module:attribute`` of a `kmdist.job.recipe.Recipe`.
    """
    _PLACES[name] = place


def recipe_names() -> tuple[str, ...]:
    """All recipes that are there."""
    return tuple(dict.fromkeys((*_PLACES, *_installed())))


def recipe_named(name: str) -> "Recipe":
    """A recipe.

    Raises
    ------
    UsageError : there is none of this name.
    """
    place = _PLACES.get(name) or _installed().get(name)
    if place is None:
        raise UsageError(f"recipe {name!r} is not known; allowed: {', '.join(recipe_names())}")
    module, _, attribute = place.partition(":")
    return cast("Recipe", getattr(import_module(module), attribute))


@cache
def _installed() -> dict[str, str]:
    """Places of recipes that installed packages add."""
    return {one.name: one.value for one in entry_points(group=ENTRY_POINTS)}
