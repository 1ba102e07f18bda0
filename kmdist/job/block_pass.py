"""One pass over the blocks of a job: what every stage of every recipe goes through.

A pass goes on where an interrupted run stopped, leaves images out that cannot be used, tries
blocks alone whose workers died, and down to the image that killed them, adds up what is left
without the tiles of images that were left out, and removes what was written of such images.

Results are dataclasses and named tuples of plain data, rejections and NumPy arrays; how one is
stored for a resume follows from the types of its fields.

Tasks: one a block; ⌈n/f⌉ + ⌈n/f²⌉ + … to merge what workers save; two a block that is prepared.
"""

import base64
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import msgspec
import numpy as np

from kmdist.engine.passes import FAN_IN, SUSPICIOUS, fetched, run_pass, tree_shape
from kmdist.errors import KmdistError
from kmdist.images import LOST, SHORT_OF_MEMORY, Rejection
from kmdist.job.job import Job
from kmdist.job.memory import NOTHING, Held, Sized, Step
from kmdist.job.progress import Event
from kmdist.store import RunWriter
from kmdist.typed_data import converted

T = TypeVar("T")

GIVEN_UP = frozenset({LOST, SHORT_OF_MEMORY})
"""Codes of images whose block failed alone; a task may have written some of them."""


@dataclass(frozen=True)
class LeftOut:
    """The result of stages that find nothing but images that cannot be used."""

    rejected: tuple[Rejection, ...] = ()

    @staticmethod
    def merge(parts: Sequence["LeftOut"]) -> "LeftOut":
        """Those of several blocks."""
        return LeftOut(tuple(one for part in parts for one in part.rejected))


class Item(Sized, Protocol):
    """One block as a stage works on it; `kmdist.job.work.Work` is one.

    Attributes
    ----------
    index : of the block in its passes. n_images : it has.
    names : what is left out if the block kills its workers: its images.
    tile_of : the image of which the block is a tile; None: its images are whole.
    """

    @property
    def index(self) -> int: ...
    @property
    def n_images(self) -> int: ...
    @property
    def names(self) -> Sequence[str]: ...
    @property
    def tile_of(self) -> str | None:
        return None

    def given(self, prepared: Any) -> Any:
        """What a task receives: the block, or what was prepared of it, if not None."""
        return self if prepared is None else prepared

    def halves(self) -> Sequence[Self]:
        """Two blocks that can be worked on instead; none where it cannot be parted."""
        return ()


@dataclass(frozen=True)
class Stage:
    """A stage of a recipe as data.

    A block's result names in ``rejected`` the images that it could not use.

    Parameters
    ----------
    name : a word, for progress and the manifest.
    task : called with a block and the arguments of the pass; an importable function. It raises
        no error for an image that cannot be used.
    merge : joins results, in order of the blocks, to one of the same type; importable.
    nothing : the result of a block whose images are all left out, from their rejections.
    saved : type of results that workers save as arrays, and that are merged where they are.
    noted : type of results that become JSON in the manifest, and are merged by the driver. Without
        either, nothing is kept for a resume.
    prepare : makes of a block what `task` takes in its place, and what later passes may take; an
        importable function of the same arguments.
    counted : how images count already that are lost only now, such as ``it is counted in the
        palette``; they were read before, so that one that cannot be read any more is an error.
    fan_in, ahead : see `kmdist.engine.passes.run_pass`.
    held : bytes that it holds at its peak.
    """

    name: str
    task: Callable[..., Any]
    merge: Callable[[list[Any]], Any]
    nothing: Callable[[tuple[Rejection, ...]], Any]
    saved: type[Any] | None = None
    noted: type[Any] | None = None
    prepare: Callable[..., Any] | None = None
    counted: str = ""
    fan_in: int = FAN_IN
    ahead: int = 4
    held: Held = NOTHING

    def tasks(self, n_blocks: int) -> int:
        """Tasks of a pass over so many blocks."""
        merging = sum(tree_shape(n_blocks, self.fan_in)[1:]) if self.saved else 0
        return n_blocks * (2 if self.prepare else 1) + merging

    def step(self, blocks: Sequence[Item], further: Held = NOTHING, *, reads: bool = True) -> Step:
        """The step of a pass over some blocks.

        Parameters
        ----------
        further : what these blocks, or the arguments of the pass, add to `held`.
        reads : it reads images; not what an earlier pass has kept.
        """
        held, tasks = self.held + further, self.tasks(len(blocks))
        return Step(self.name, held, blocks, tasks, self.fan_in, reads=reads)


class BlockPass:
    """A pass of a job.

    Parameters
    ----------
    group : tells the manifests of several groups of images apart.
    prefixes : groups of the run in which the tasks write label maps.
    kept : what was prepared, futures by the index of the block; a stage that prepares adds to it,
        any other takes what is there.
    """

    def __init__(
        self,
        job: Job,
        stage: Stage,
        *,
        group: str = "",
        prefixes: Sequence[str] = (),
        kept: dict[int, Any] | None = None,
    ) -> None:
        self.name = f"{stage.name}{group}"
        self._job, self._stage, self._prefixes = job, stage, prefixes
        self._kept = {} if kept is None else kept

    def run(self, items: Sequence[Item], *arguments: Any) -> Any:
        """The merged result of all blocks but tiles of images that are left out.

        Raises
        ------
        KmdistError : an image cannot be read any more that an earlier pass has counted.
        StrictError : an image is left out, with ``strict``.
        """
        self._arguments = arguments
        if self._stage.saved:
            merged = self._merged(items)
            self._reject(merged.rejected)
            used = self._used(items)
            if len(used) < len(items):
                merged = self._merged(used)
        else:
            results = self._results(items)
            parts = [results[item.index] for item in self._used(items)]
            merged = self._stage.merge(parts) if parts else self._stage.nothing(())
        self._remove_partial(items)
        return merged

    def _used(self, items: Sequence[Item]) -> list[Item]:
        """The blocks without tiles of images that were left out."""
        return [item for item in items if item.tile_of not in self._job.rejected]

    def _merged(self, items: Sequence[Item]) -> Any:
        """What workers merge of the results that they save."""
        if not items:
            return self._stage.nothing(())
        writer = self._job.writer
        done = writer.done(self.name)

        def finished(index: int, _: Any) -> None:
            if index not in done:
                writer.mark_done(self.name, index)

        try:
            return self._fly(items, done, finished)
        except SUSPICIOUS:
            done = writer.done(self.name)
            if any(item.index not in done for item in items):
                raise
            return self._fly(items, done, finished)  # lost with workers, but all is saved

    def _results(self, items: Sequence[Item]) -> dict[int, Any]:
        """Results of all blocks by index, those of an interrupted run among them."""
        writer, noted = self._job.writer, self._stage.noted
        results: dict[int, Any] = {}
        if noted:
            done = writer.done(self.name)
            known = {index: of_json(noted, record) for index, record in done.items()}
            results = {index: one for index, one in known.items() if one is not None}
        for result in results.values():
            self._reject(result.rejected)

        def finished(index: int, result: Any) -> None:
            self._reject(result.rejected)
            results[index] = result
            if noted:
                writer.mark_done(self.name, index, to_json(result))

        todo = [item for item in items if item.index not in results]
        self._fly(todo, results, finished)
        return results

    def _fly(
        self,
        items: Sequence[Item],
        done: Mapping[int, Any],
        on_done: Callable[[int, Any], None],
    ) -> Any:
        """`run_pass` with progress in images and megapixels, and its seconds recorded."""
        job, stage = self._job, self._stage
        tiles = Counter(item.tile_of for item in items)
        whole = sum(item.n_images for item in items if item.tile_of is None)
        total, total_mpx = whole + len(set(tiles) - {None}), sum(map(_mpx, items))
        finished, mpx = 0, 0.0

        def given(position: int) -> Any:
            item = items[position]
            if stage.prepare and item.index not in done:
                self._prepare(item)
            return self._given(item, self._kept.get(item.index))

        def advance(position: int, result: Any) -> None:
            nonlocal finished, mpx
            item = items[position]
            tiles[item.tile_of] -= 1
            if item.tile_of is None:
                finished += item.n_images
            elif not tiles[item.tile_of]:
                finished += 1
            mpx += _mpx(item)
            on_done(item.index, result)
            job.watch(Event(stage.name, finished, total, mpx=mpx, total_mpx=total_mpx))

        with job.timed(stage.name):
            return run_pass(
                job.pool,
                _saved if stage.saved else stage.task,
                items,
                *((stage.task, stage.saved, job.writer) if stage.saved else ()),
                *self._arguments,
                merge=stage.merge if stage.saved else None,
                fan_in=stage.fan_in,
                ahead=stage.ahead,
                prepare=given,
                on_done=advance,
                rescue=lambda suspects, alone: self._rescue([items[i] for i in suspects], alone),
            )

    def _prepare(self, item: Item) -> Any:
        """A future of what the task, and later passes, take in place of a block."""
        assert self._stage.prepare is not None
        future = self._job.pool.submit(self._stage.prepare, item, *self._arguments)
        self._kept[item.index] = future
        return future

    def _given(self, item: Item, prepared: Any, *, whole: bool = True) -> Any:
        """What the task receives; first where its result is saved, if it is."""
        given = item.given(prepared)
        if not self._stage.saved:
            return given
        return [self._saved_as(item) if whole else "", given]

    def _saved_as(self, item: Item) -> str:
        return f"{self.name}-{item.index}"

    def _rescue(self, items: Sequence[Item], alone: Callable[[Any], Any]) -> Iterator[Any]:
        """Futures of results of blocks whose workers died, or that were short of memory."""
        # Those that are lost with a worker would be made again, and kill beside another block.
        kept = [self._kept.pop(item.index) for item in items if item.index in self._kept]
        self._job.pool.release(kept)
        for item in items:
            yield self._rescued(item, alone)

    def _rescued(self, item: Item, alone: Callable[[Any], Any]) -> Any:
        """A future of the result of a block, or of what counts as such."""
        stage = self._stage
        try:
            return alone(self._given(item, self._prepare(item) if stage.prepare else None))
        except SUSPICIOUS as error:
            self._kept.pop(item.index, None)
            future = self._parted(item, alone, error)
        if stage.saved:  # a resume does not try it again
            result = fetched(self._job.pool, future)
            self._job.writer.save_state(self._saved_as(item), to_arrays(result))
        return future

    def _parted(self, item: Item, alone: Callable[[Any], Any], error: BaseException) -> Any:
        """A future of the result of a block that failed alone, from those of its halves."""
        pool, futures = self._job.pool, []
        halves = item.halves()
        if not halves:
            return pool.broadcast(self._stage.nothing(self._lost(item, error)))
        for half in halves:
            try:
                futures.append(alone(self._given(half, None, whole=False)))
            except SUSPICIOUS as again:
                futures.append(self._parted(half, alone, again))
        return pool.submit(self._stage.merge, futures)

    def _lost(self, item: Item, error: BaseException) -> tuple[Rejection, ...]:
        """Rejections of the images of a block that failed alone."""
        code = SHORT_OF_MEMORY if isinstance(error, MemoryError) else LOST
        reason = str(error.args[0]) if code == LOST else "needs more memory than there is"
        more = f"; {self._stage.counted}" if self._stage.counted else ""
        return tuple(Rejection(name, code, f"{reason}{more}") for name in item.names)

    def _reject(self, rejections: Sequence[Rejection]) -> None:
        gone = [one for one in rejections if one.code not in GIVEN_UP]
        if gone and self._stage.counted:
            raise KmdistError(
                f"{gone[0].image}: {gone[0].reason} [{gone[0].code}]; it was read in an earlier "
                "pass. Restore it and go on with --resume, or run again without it"
            )
        self._job.reject(rejections)

    def _remove_partial(self, items: Sequence[Item]) -> None:
        """Remove what was written of images that were left out in the middle: no task is left."""
        if not self._prefixes or not self._job.rejected:
            return
        tiled = {item.tile_of for item in items}
        for name in dict.fromkeys(name for item in items for name in item.names):
            rejection = self._job.rejected.get(name)
            if rejection is None:
                continue
            if name in tiled or rejection.code in GIVEN_UP:
                for prefix in self._prefixes:
                    self._job.writer.remove_labels(name, prefix)


def _mpx(item: Item) -> float:
    return item.pixels / 1e6


def _saved(
    item: list[Any],
    function: Callable[..., Any],
    kind: type[Any],
    writer: RunWriter,
    *arguments: Any,
) -> Any:
    """Leaf: the saved result of a block, or a new one.

    It is looked for even where the manifest has no word of it: a worker that dies takes results
    with it that were saved, and the scheduler has another make them again.
    """
    name, block = item
    result = of_arrays(kind, writer.load_state(name)) if name else None
    if result is None:
        result = function(block, *arguments)
        if name:
            writer.save_state(name, to_arrays(result))
    return result


def writing_stage(
    name: str, task: Callable[..., LeftOut], *, counted: str = "", held: Held = NOTHING
) -> Stage:
    """A stage whose tasks write something, and find images that cannot be used."""
    return Stage(name, task, LeftOut.merge, LeftOut, noted=LeftOut, counted=counted, held=held)


_TEXT = "result"
"""Array of a checkpoint that holds all but the arrays, as JSON."""


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
