"""Every public function says what is wrong with an argument of another type, and does nothing."""

import inspect
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest

import kmdist
from kmdist.arguments import checked_arguments
from kmdist.errors import KmdistError, UsageError
from kmdist.options import declared
from kmdist.recipes.registry import recipe_named, recipe_names

FUNCTIONS = [
    name
    for names in kmdist.PLACES.values()
    for name in names
    if not inspect.isclass(getattr(kmdist, name))
]
PIXELS = np.zeros((4, 4, 3), np.uint8)
WRONG = [None, 7, 1.5, b"abc", {"a": 1}, ["a.png", 3, None], PIXELS, object(), 2j, "x"]
NOWHERE = "nowhere.zarr"
"""So that what is refused by nothing else is not found."""


def fitting(name: str) -> Any:
    """A value that an argument may have."""
    rows = np.zeros((8, 2))
    values = {"centroids": rows, "counts": np.ones(8), "n_clusters": 2, "X": rows, "ks": [2]}
    values |= {"image": "coffee.png", "bank": kmdist.filters.leung_malik()}
    return values.get(name, NOWHERE)


def arguments_of(name: str) -> dict[str, inspect.Parameter]:
    """Arguments of a function without the options, which their own tests hold."""
    function = getattr(kmdist, name)
    own = inspect.signature(inspect.unwrap(function)).parameters
    options = declared(own["options"].annotation) if "options" in own else {}
    found = inspect.signature(function).parameters
    return {n: one for n, one in found.items() if n not in options}


def arguments(name: str) -> list[str]:
    """Names of those that have types."""
    typed = {n for n, one in arguments_of(name).items() if one.annotation is not Any}
    return sorted(typed - {"inputs"})


@pytest.mark.parametrize(
    ("name", "wrong"), [(name, wrong) for name in FUNCTIONS for wrong in arguments(name)]
)
def test_an_argument_of_another_type_is_named(
    name: str, wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    function = getattr(kmdist, name)
    required = [n for n, one in arguments_of(name).items() if one.default is one.empty]
    given = {n: fitting(n) for n in required if n != wrong}
    if name == "split":
        given["cluster"] = 0
    refused = 0
    for value in WRONG:
        try:
            function(**given, **{wrong: value})
        except (KmdistError, ValueError) as error:  # estimators raise scikit-learn's
            refused += str(error).startswith((f"{wrong} must be ", f"{wrong}: must be "))
    assert refused >= 6
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["quantize", "texture", "digits", "segment"])
@pytest.mark.parametrize("value", [None, 7, b"abc", ["a.png", 3], [], {"a": 1}.values(), object()])
def test_inputs_that_are_none(name: str, value: Any) -> None:
    with pytest.raises(UsageError):
        getattr(kmdist, name)(value, k=2)


@pytest.mark.parametrize("name", ["quantize", "texture", "digits"])
def test_an_array_is_no_input_of_recipes_for_files(name: str) -> None:
    with pytest.raises(UsageError, match=r"must be .* got .*\(ndarray\)"):
        getattr(kmdist, name)(PIXELS, k=2)


def test_an_option_that_is_missing_is_named() -> None:
    with pytest.raises(TypeError, match=r"split\(\) needs the keyword 'cluster'"):
        kmdist.split(NOWHERE)


def test_scalars_of_numpy_are_what_their_kind_is() -> None:
    def function(
        flag: bool, number: int | None, share: float, at: Sequence[tuple[int, int]]
    ) -> None:
        pass

    point = np.array([[1, 2]])
    checked_arguments(function)(np.True_, np.int64(3), np.float32(0.5), point)
    with pytest.raises(UsageError, match=r"flag must be True or False, got np.int64\(1\)"):
        checked_arguments(function)(np.int64(1), None, 1, [(1, 2)])


@pytest.mark.parametrize("kind", [np.ndarray.tolist, da.from_array, np.ma.asarray])
def test_arrays_may_be_lists_or_whatever_becomes_one(kind: Callable[[np.ndarray], Any]) -> None:
    centroids, counts = np.array([[0.0], [1.0], [9.0]]), np.array([3, 1, 2])
    merged = kmdist.merge_clusters(kind(centroids), kind(counts), 2)
    assert merged.labels.tolist() == [0, 0, 1]
    assert merged.centroids.tolist() == [[0.25], [9.0]]


@pytest.mark.parametrize("name", ["quantize", "texture", "segment", "digits"])
def test_paths_may_be_gone_through_once(name: str, tmp_path: Path) -> None:
    paths = (path for path in [tmp_path / "nowhere.png"])
    with pytest.raises(KmdistError, match=r"nowhere\.png"):
        getattr(kmdist, name)(paths, tmp_path / "run.zarr", k=2)


@pytest.mark.parametrize("recipe", recipe_names())
def test_no_recipe_takes_a_number_that_stands_for_nothing(recipe: str) -> None:
    options = recipe_named(recipe).options
    for tol in (math.inf, -math.inf, "inf"):
        with pytest.raises(UsageError, match="inf is not a valid finite number from 0"):
            options(**{"tol": tol})
    with pytest.raises(UsageError, match=r"0 to 2\^64 - 1, got 18446744073709551616"):
        options(**{"seed": 2**64})
    assert options(**{"seed": 2**64 - 1}).seed == 2**64 - 1


def test_no_estimator_does_either() -> None:
    rows = np.random.default_rng(0).random((20, 2))
    wrong: dict[str, tuple[list[Any], str]] = {
        "tol": ([math.inf, math.nan, -1, True, "1"], "must be a finite number not below 0"),
        "random_state": ([2**64, -1], r"must be 0 to 2\^64 - 1"),
    }
    for name, (values, said) in wrong.items():
        for value in values:
            for estimator in (kmdist.KMeans, kmdist.BisectingKMeans):
                with pytest.raises(ValueError, match=said):
                    estimator(2, **{name: value}).fit(rows)
            if type(value) in (int, float):
                with pytest.raises(ValueError, match=said):
                    kmdist.select_k(rows, [2], **{name: value})
