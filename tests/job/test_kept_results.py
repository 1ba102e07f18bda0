"""What is kept of blocks that are to be tried alone is not made again beside them."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

from distributed import Client

from kmdist.engine.dask_pool import DaskPool
from kmdist.job.block_pass import BlockPass, Stage


@dataclass(frozen=True)
class Item:
    index: int
    n_images: int = 1
    pixels: int = 1
    tile_of: None = None

    def given(self, prepared: Any) -> Any:
        return self.index if prepared is None else prepared


class Found(NamedTuple):
    numbers: list[int]
    rejected: tuple[()] = ()


def kept(index: int) -> str:
    return "good" if index == 2 else "bad"


def found(given: int | str) -> Found:
    if given == "bad":
        raise MemoryError
    return Found([2 if given == "good" else int(given)])


def join(parts: Sequence[Found]) -> Found:
    return Found([number for part in parts for number in part.numbers])


def test_all_suspects_are_let_go_before_the_first_is_tried_alone() -> None:
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as on:
        pool, wanted = DaskPool(on), []
        sources = [pool.submit(kept, index) for index in range(3)]
        job: Any = SimpleNamespace(
            pool=pool,
            timed=nullcontext,
            rejected={},
            reject=lambda rejections: None,
            watch=lambda event: wanted.append([one.key in on.futures for one in sources]),
            writer=None,
        )
        stage = Stage("label", found, join, nothing=lambda rejected: Found([]))
        passing = BlockPass(job, stage, kept=dict(enumerate(sources)))
        assert passing.run([Item(index) for index in range(3)]) == Found([0, 1, 2])
    # As the good one is done, and then as either of the others is.
    assert wanted == [[True, True, True], [False, False, True], [False, False, True]]
