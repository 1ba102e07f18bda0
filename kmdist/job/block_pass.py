"""A pass whose blocks save what they find, so that a run that was killed need not find it again.

A block saves its result under the name of the pass and its number, then is noted in the manifest
of the pass. A resumed run loads the results of blocks that were noted, and computes the others,
or one whose file a power cut has damaged.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kmdist.engine.passes import LostBlockError
from kmdist.job.job import Job
from kmdist.store import RunWriter


class Codec(NamedTuple):
    """How the result of a block becomes named arrays, and back; importable functions."""

    pack: Callable[[Any], Mapping[str, np.ndarray]]
    unpack: Callable[[Mapping[str, np.ndarray]], Any]


def resumable_pass(
    job: Job,
    stage: str,
    function: Callable[..., Any],
    items: Sequence[Any],
    *arguments: Any,
    codec: Codec,
    pixels: Sequence[int],
    merge: Callable[[list[Any]], Any],
    name: str = "",
    on_failure: Callable[[int, BaseException], Any] | None = None,
    alone: Sequence[Any] | None = None,
) -> Any:
    """``Job.over_blocks`` that goes on where an interrupted run stopped; the same bits.

    Costs one small file a block in the partial run.

    Parameters
    ----------
    function : called with an item and `arguments` for each block that is not done.
    name : of the pass among what is saved; default `stage`.
    on_failure : as for `run_pass`; what it returns is saved, so that a resume does not try the
        block again.
    alone : the items as they are to be tried once more, alone, if their workers died.
    """
    name = name or stage
    alone = items if alone is None else alone
    done = job.writer.done(name)

    def finished(index: int, _: Any) -> None:
        if index not in done:
            job.writer.mark_done(name, index)

    def failed(index: int, error: BaseException) -> Any:
        if on_failure is None:
            raise error
        result = on_failure(index, error)
        job.writer.save_state(f"{name}-{index}", codec.pack(result))
        return result

    def over(blocks: Sequence[Any]) -> Any:
        return job.over_blocks(
            stage,
            _saved,
            [[f"{name}-{index}", index in done, block] for index, block in enumerate(blocks)],
            function,
            codec,
            job.writer,
            *arguments,
            pixels=pixels,
            merge=merge,
            on_done=finished,
            on_failure=None if on_failure is None else failed,
            alone=None if on_failure is None else again,
        )

    def again(index: int) -> Any:
        return [f"{name}-{index}", False, alone[index]]

    try:
        return over(items)
    except LostBlockError:
        done = job.writer.done(name)
        if on_failure is None or len(done) < len(items):
            raise
        return over([None] * len(items))  # results were lost with workers, but all are saved


def _saved(
    item: list[Any], function: Callable[..., Any], codec: Codec, writer: RunWriter, *arguments: Any
) -> Any:
    """Leaf: the saved result of a block, or a new one."""
    name, is_done, block = item
    if is_done:
        saved = writer.load_state(name)
        if saved is not None:
            return codec.unpack(saved)
    result = function(block, *arguments)
    writer.save_state(name, codec.pack(result))
    return result
