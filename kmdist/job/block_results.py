"""What the tasks of a pass find, as plain data that a resume takes up again.

Results are dataclasses and named tuples of plain data, rejections and NumPy arrays; how one is
stored follows from the types of its fields.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import numpy as np

from kmdist.images import Rejection
from kmdist.typed_data import converted

T = TypeVar("T")

_TEXT = "result"
"""Array of a checkpoint that holds all but the arrays, as JSON."""


@dataclass(frozen=True)
class LeftOut:
    """The result of stages that find nothing but images that cannot be used."""

    rejected: tuple[Rejection, ...] = ()

    @staticmethod
    def merge(parts: Sequence["LeftOut"]) -> "LeftOut":
        """Those of several blocks."""
        return LeftOut(tuple(one for part in parts for one in part.rejected))


def to_json(result: Any) -> Any:
    """A result as JSON, for the manifest; arrays are base64, a hundred times as fast as base85."""

    def text(array: np.ndarray) -> list[Any]:
        data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
        return [array.dtype.str, array.shape, data]

    return _plain(result, text)


def of_json(kind: type[T], record: Any) -> T | None:
    """From the manifest of an interrupted run; None: another version has written it."""

    def array(stored: Any) -> np.ndarray:
        dtype, shape, data = stored
        return np.frombuffer(base64.b64decode(data), dtype).reshape(shape).copy()

    return _typed(kind, record, array)


def to_arrays(result: Any) -> dict[str, np.ndarray]:
    """A result as named arrays, for a checkpoint."""
    arrays: dict[str, np.ndarray] = {}

    def name(array: np.ndarray) -> list[str]:
        key = str(len(arrays))
        arrays[key] = _narrow(array)
        return [key, array.dtype.str]

    text = json.dumps(_plain(result, name)).encode("ascii")
    return {_TEXT: np.frombuffer(text, np.uint8), **arrays}


def of_arrays(kind: type[T], saved: Mapping[str, np.ndarray] | None) -> T | None:
    """From a checkpoint; None: there is none, or another version has written it."""
    if saved is None or _TEXT not in saved:
        return None

    def array(stored: Any) -> np.ndarray:
        name, dtype = stored
        return saved[name].astype(dtype, copy=False)

    return _typed(kind, json.loads(saved[_TEXT].tobytes()), array)


def _narrow(array: np.ndarray) -> np.ndarray:
    """uint32 where it holds all of an int64 array: half the bytes of a checkpoint."""
    small = array.dtype == np.int64 and array.size and array.min() >= 0 and array.max() < 2**32
    return array.astype(np.uint32) if small else array


def _plain(result: Any, of_array: Callable[[np.ndarray], Any]) -> Any:
    def encoded(value: Any) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, np.ndarray):
            return of_array(value)
        raise NotImplementedError(f"{type(value).__name__} is no plain data")

    return msgspec.to_builtins(result, str_keys=True, enc_hook=encoded)


def _typed(kind: type[T], plain: Any, array_of: Callable[[Any], np.ndarray]) -> T | None:
    try:
        return converted(plain, kind, str_keys=True, dec_hook=lambda _, stored: array_of(stored))
    except msgspec.ValidationError:
        return None
