"""What a worker does with the pixels of one block: decode, count colours, look labels up.

Every function here is a task: it takes plain data, returns plain data, and says which images it
could not use instead of failing for all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kmdist.engine.passes import Pool
from kmdist.errors import KmdistError
from kmdist.images import Rejection
from kmdist.job.pixels import Pixels, decode_pieces
from kmdist.job.work import Work
from kmdist.recipes.quantize.kernels.histogram import ColorCounter, Colors, merge_colors
from kmdist.store import RunWriter


@dataclass(frozen=True)
class DecodedBlock:
    """The pixels of one block, as kept between passes, and the images that have none."""

    index: int
    pixels: tuple[Pixels, ...]
    rejected: tuple[Rejection, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(
            p.rgb.nbytes + (p.unclustered.nbytes if p.unclustered is not None else 0)
            for p in self.pixels
        )

    def __sizeof__(self) -> int:
        """What Dask accounts for when it keeps the block in a worker's memory."""
        return self.nbytes + 1024


@dataclass(frozen=True)
class SavedBlock:
    """Stands for a block whose colours were counted before the run was interrupted."""

    index: int


@dataclass(frozen=True)
class Counted:
    """Distinct colours of some blocks, and what could not be counted.

    Parameters
    ----------
    marked : images with pixels that are not clustered.
    """

    colors: Colors
    marked: tuple[str, ...] = ()
    rejected: tuple[Rejection, ...] = ()


def decode_block(work: Work) -> DecodedBlock:
    """Decode all pieces of a block, to be kept."""
    decoded = list(decode_pieces(work))
    return DecodedBlock(
        work.index,
        tuple(one for one in decoded if isinstance(one, Pixels)),
        tuple(one for one in decoded if isinstance(one, Rejection)),
    )


def count_block(item: Work | DecodedBlock | SavedBlock, writer: RunWriter) -> Counted:
    """Count the distinct colours of one block, or load what was counted before.

    A fresh count is saved before the task ends, so that neither a resumed run nor the run whose
    worker died with the count need decode again.
    """
    if isinstance(item, SavedBlock):
        return _load(item.index, writer)
    if (saved := _saved(item.index, writer)) is not None:
        return saved
    decoded: Iterable[Pixels | Rejection] = (
        decode_pieces(item) if isinstance(item, Work) else (*item.pixels, *item.rejected)
    )
    marked: list[str] = []
    rejected: list[Rejection] = []
    with ColorCounter() as counter:
        for one in decoded:
            if isinstance(one, Rejection):
                rejected.append(one)
                continue
            counter.add(one.rgb, one.unclustered)
            if one.unclustered is not None and one.unclustered.any():
                marked.append(one.piece.source.name)
        colors = counter.colors()
    counted = Counted(colors, tuple(marked), tuple(rejected))
    save_counted(item.index, counted, writer)
    return counted


def merge_counted(parts: list[Counted]) -> Counted:
    """Join the counts of several blocks; integers, so exact in any order."""
    return Counted(
        merge_colors([part.colors for part in parts]),
        tuple(name for part in parts for name in part.marked),
        tuple(rejection for part in parts for rejection in part.rejected),
    )


def save_counted(index: int, counted: Counted, writer: RunWriter) -> None:
    """Keep the count of a block, for a resume and for workers that die with it."""
    rejected = [[r.image, r.code, r.reason] for r in counted.rejected]
    writer.save_state(
        f"histogram-{index}",
        {
            "codes": counted.colors.codes,
            "counts": _narrow(counted.colors.counts),
            "marked": np.array(counted.marked, dtype=np.str_),
            "rejected": np.array(rejected, dtype=np.str_).reshape(-1, 3),
        },
    )


def _narrow(counts: np.ndarray) -> np.ndarray:
    """uint32 where it suffices: half the bytes of a checkpoint."""
    fits = counts.size == 0 or int(counts.max()) < 2**32
    return counts.astype(np.uint32) if fits else counts


def _load(index: int, writer: RunWriter) -> Counted:
    saved = _saved(index, writer)
    if saved is None:
        raise KmdistError(f"the checkpoint of block {index} is gone; run again with --overwrite")
    return saved


def _saved(index: int, writer: RunWriter) -> Counted | None:
    state = writer.load_state(f"histogram-{index}")
    if state is None:
        return None
    rejected = tuple(Rejection(*map(str, row)) for row in state["rejected"])
    colors = Colors(state["codes"], state["counts"].astype(np.int64))
    return Counted(colors, tuple(map(str, state["marked"])), rejected)


@dataclass
class KeptPixels(Sequence[Any]):
    """Items of the counting pass that are decoded as they are asked for, and remembered.

    `run_pass` asks for an item when it submits it, so no more blocks are decoded than are in
    flight; the futures stay here for the labelling pass.
    """

    pool: Pool
    items: Sequence[Work | SavedBlock]
    futures: dict[int, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, position: Any) -> Any:
        item = self.items[position]
        if isinstance(item, SavedBlock):
            return item
        future = self.pool.submit(decode_block, item)
        self.futures[item.index] = future
        return future
