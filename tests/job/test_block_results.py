"""Results of blocks as a resume finds them again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from kmdist.images import Rejection
from kmdist.job.block_pass import LeftOut, of_arrays, of_json, to_arrays, to_json


class Part(NamedTuple):
    values: np.ndarray
    share: float


@dataclass(frozen=True)
class Result:
    parts: tuple[Part, ...]
    counts: npt.NDArray[np.int64]
    marked: tuple[str, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    fits: Mapping[str, Mapping[int, Mapping[str, Any]]] = field(default_factory=dict)
    missing: np.ndarray | None = None


RESULT = Result(
    (Part(np.float32([[0.1, np.nan]]), 0.1), Part(np.empty((0, 3)), -0.0)),
    np.array([0, 2**32, 7]),
    ("photo \udcff.jpg",),
    (Rejection("b.jpg", "truncated", "half of it"),),
    {"a.jpg": {4: {"inertia": 1e300, "warning": None}}},
)


def through_json(result: Any) -> Any:
    return of_json(type(result), json.loads(json.dumps(to_json(result))))


def through_arrays(result: Any) -> Any:
    return of_arrays(type(result), to_arrays(result))


@pytest.mark.parametrize("through", [through_json, through_arrays])
def test_a_result_comes_back_to_the_last_bit(through: Any) -> None:
    found = through(RESULT)
    assert to_json(found) == to_json(RESULT)
    assert found.fits == RESULT.fits
    assert found.rejected == RESULT.rejected
    assert found.parts[0].values.dtype == np.float32
    assert found.parts[1].values.shape == (0, 3)
    assert found.counts.dtype == np.int64


def test_counts_take_half_the_bytes_of_a_checkpoint_where_they_can() -> None:
    small = Result((), np.array([0, 2**32 - 1]))
    assert to_arrays(small)["0"].dtype == np.uint32
    assert through_arrays(small).counts.tolist() == [0, 2**32 - 1]


def test_what_another_version_wrote_is_not_taken_for_a_result() -> None:
    assert of_json(Result, [[], 3]) is None
    assert of_arrays(Result, {"codes": np.zeros(3)}) is None
    assert of_arrays(LeftOut, None) is None
