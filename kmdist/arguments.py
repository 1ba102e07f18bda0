"""Arguments of public functions, held against their annotations before anything is done."""

import inspect
import os
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from functools import wraps
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ForwardRef, Literal, ParamSpec, TypeVar, Union, get_args, get_origin

from kmdist.errors import UsageError

P = ParamSpec("P")
T = TypeVar("T")

_NUMBERS: dict[Any, type] = {int: Integral, float: Real}
_WORDS = {bool: "True or False", int: "a whole number", float: "a number", str: "text"}


def checked_arguments(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function refuse arguments that are not of their annotated types, as UsageError."""
    signature = inspect.signature(function)

    @wraps(function)
    def checked(*arguments: P.args, **keywords: P.kwargs) -> T:
        check_arguments(signature, signature.bind(*arguments, **keywords).arguments)
        return function(*arguments, **keywords)

    return checked


def check_arguments(signature: inspect.Signature, given: Mapping[str, Any]) -> None:
    """Hold arguments against the annotations of a signature.

    Raises
    ------
    UsageError : names the argument, what it is, and what is allowed.
    """
    for name, value in given.items():
        hint = signature.parameters[name].annotation
        if not _fits(value, hint):
            raise UsageError(f"must be {_allowed(hint)}, got {described(value)}", option=name)


def described(value: Any) -> str:
    """A value in a few words, with its type."""
    kind = type(value).__name__
    text = " ".join(repr(value).split())
    return "None" if value is None else f"{text[:40]}{' …' if len(text) > 40 else ''} ({kind})"


def _fits(value: Any, hint: Any) -> bool:
    origin, of = get_origin(hint), get_args(hint)
    if hint is Any or hint is inspect.Parameter.empty:
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in of)
    if origin is Literal:
        return isinstance(value, str) and value in of
    if isinstance(hint, str | ForwardRef):
        name = hint if isinstance(hint, str) else hint.__forward_arg__
        return any(one.__name__ == name for one in type(value).__mro__)
    if hint is None or hint is type(None):
        return value is None
    if origin is tuple:
        fits = isinstance(value, Sequence) and not isinstance(value, str | bytes)
        return fits and len(value) == len(of) and all(map(_fits, value, of))
    if origin in (Sequence, Iterable):
        listed = value.tolist() if hasattr(value, "tolist") else value  # of NumPy
        if isinstance(listed, Iterator):  # to be gone through but once: left for the function
            return origin is Iterable
        fits = isinstance(listed, Sequence | Set) and not isinstance(listed, str | bytes)
        return fits and all(_fits(one, of[0]) for one in listed)
    if origin is Callable:
        return callable(value)
    if _is_array(hint):
        return hasattr(value, "__array__")  # as frames and Dask's arrays have it too
    if hint in _NUMBERS:
        return isinstance(value, _NUMBERS[hint]) and not isinstance(value, bool)
    kind = os.PathLike if hint is Path else origin or hint
    of_numpy = f"{type(value).__module__}.{type(value).__name__}"  # which need not be imported
    return isinstance(value, kind) or (hint is bool and of_numpy in ("numpy.bool", "numpy.bool_"))


def _is_array(hint: Any) -> bool:  # without importing NumPy, which `--help` does not need
    return getattr(hint, "__module__", "") == "numpy" and hint.__name__ == "ndarray"


def _allowed(hint: Any) -> str:
    origin, of = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_allowed, of)))
    if origin is Literal:
        return ", ".join(map(str, of))
    if isinstance(hint, str | ForwardRef):
        return f"a {hint if isinstance(hint, str) else hint.__forward_arg__}"
    if hint is type(None):
        return "None"
    if origin is tuple:
        return f"({', '.join(map(_allowed, of))})"
    if origin in (Sequence, Iterable):
        return "a list" if of[0] is Any else f"a list of {_allowed(of[0])}"
    if origin is Callable:
        return "a function"
    if hint is Path or origin is os.PathLike:
        return "a path"
    if _is_array(hint):
        return "an array"
    return _WORDS.get(hint, f"a {getattr(hint, '__name__', hint)}")
