"""Tasks of the passes over a collection that shares its clusters: sums, samples, fields.

Each takes plain data and returns plain data, names the images it could not use instead of
failing for all, and saves its result before it ends, so that a resumed run need not do it again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kmdist.engine.passes import Pool
from kmdist.errors import ImageError, KmdistError
from kmdist.filters.statistics import FeatureSums
from kmdist.images import Rejection
from kmdist.job.work import Piece, Work
from kmdist.recipes.texture.measuring import (
    Field,
    box_of,
    grid_of,
    measure,
    measure_textons,
    own_part,
    read_box,
    read_moduli,
    texton_map_of,
)
from kmdist.recipes.texture.model import Textons, Texture
from kmdist.recipes.texture.sampling import Sample, Sampling, field_rows, sampled_moduli
from kmdist.recipes.texture.tiles import Tiles
from kmdist.store import RunWriter


@dataclass(frozen=True)
class TextureWork:
    """One block with the place of its images in the collection.

    Parameters
    ----------
    firsts : of each piece, the number of its image's first row.
    """

    work: Work
    firsts: tuple[int, ...]

    @property
    def index(self) -> int:
        """Of the block."""
        return self.work.index


@dataclass(frozen=True)
class Saved:
    """Stands for a block whose sums were saved before the run was interrupted."""

    index: int


@dataclass(frozen=True)
class Summed:
    """Sums over the rows of some blocks, and a sample of the rows.

    Parameters
    ----------
    sums : None where there was no row.
    sample : of the rows, in the order of the blocks.
    marked : images with pixels that are not clustered.
    """

    sums: FeatureSums | None
    sample: Sample
    marked: tuple[str, ...] = ()
    rejected: tuple[Rejection, ...] = ()


@dataclass(frozen=True)
class Pass:
    """What the tasks of a pass share.

    Parameters
    ----------
    name : of the pass, which is also that of its checkpoints.
    fraction : share of the rows to sample.
    writer : for checkpoints.
    tiles : of images that are read by tile.
    """

    name: str
    texture: Texture
    fraction: float
    seed: int
    writer: RunWriter
    tiles: Tiles

    def sampling(self, first: int) -> Sampling:
        """For an image whose first row has this number."""
        return Sampling(self.fraction, self.seed, first)


@dataclass(frozen=True)
class MeasuredBlock:
    """The fields of one block, as kept between passes, and the images that have none."""

    task: TextureWork
    fields: tuple[tuple[int, Field], ...]
    rejected: tuple[Rejection, ...]

    def __sizeof__(self) -> int:
        """What Dask accounts for when it keeps the block in a worker's memory."""
        return sum(one.nbytes for _, one in self.fields) + 1024


def sum_moduli(item: TextureWork | Saved, shared: Pass) -> Summed:
    """Sums and a sample of the moduli of one block, for textons."""
    if isinstance(item, Saved):
        return load_summed(item.index, shared)

    def one(piece: Piece, first: int) -> tuple[FeatureSums, Sample, bool]:
        moduli = read_moduli(shared.texture, piece)
        sums, sample = sampled_moduli(shared.texture, moduli, shared.sampling(first))
        return sums, sample, moduli.unclustered is not None

    depth = shared.texture.features.bank.n_features
    return _sum_pieces(item, shared, one, depth, np.float32)


def measure_block(task: TextureWork, textons: Textons | None, shared: Pass) -> MeasuredBlock:
    """Measure all pieces of a block."""
    fields, rejected = [], []
    for piece, first in zip(task.work.pieces, task.firsts, strict=True):
        try:
            field = measure_piece(piece, textons, shared.texture, shared.tiles, shared.writer)
            fields.append((first, field))
        except ImageError as error:
            rejected.append(Rejection(piece.source.name, error.code, error.reason))
    return MeasuredBlock(task, tuple(fields), tuple(rejected))


def measure_piece(
    piece: Piece,
    textons: Textons | None,
    texture: Texture,
    tiles: Tiles,
    writer: RunWriter,
    *,
    colors: bool = True,
) -> Field:
    """Read and measure one piece; textons of tiles are those that `save_texton_maps` saved.

    Parameters
    ----------
    colors : whether the pixels of the field are wanted; where they are not, a tile of known
        textons need not be read.

    Raises
    ------
    ImageError : the file cannot be used.
    """
    if textons is None:
        return measure(texture, piece)
    if piece.whole:
        moduli = read_moduli(texture, piece)
        found = texton_map_of(moduli, textons)
        return measure_textons(texture, piece, found, moduli.rgb, moduli.unclustered)
    box = box_of(piece.window)
    rgb, unclustered = np.empty((0, 0, 3), np.uint8), None
    if colors or piece.source.channels == 4:
        rgb, unclustered = own_part(piece, box, *read_box(piece, box))
    found = tiles.texton_map(piece, grid_of(texture, piece), writer)
    return measure_textons(texture, piece, found, rgb, unclustered)


def sum_features(
    item: TextureWork | MeasuredBlock | Saved, textons: Textons | None, shared: Pass
) -> Summed:
    """Sums and a sample of the features of one block."""
    if isinstance(item, Saved):
        return load_summed(item.index, shared)
    texture = shared.texture
    dtype = np.uint8 if texture.is_tutorial else np.float32
    if isinstance(item, MeasuredBlock):
        parts = [
            (*field_rows(texture, measured, shared.sampling(first)), measured)
            for first, measured in item.fields
        ]
        summed = Summed(
            _merged([sums for sums, _, _ in parts]),
            Sample.joined([sample for _, sample, _ in parts], texture.depth, dtype),
            tuple(m.piece.source.name for _, _, m in parts if m.unclustered is not None),
            item.rejected,
        )
        save_summed(item.task.index, summed, shared)
        return summed

    def one(piece: Piece, first: int) -> tuple[FeatureSums, Sample, bool]:
        measured = measure_piece(piece, textons, texture, shared.tiles, shared.writer, colors=False)
        sums, sample = field_rows(texture, measured, shared.sampling(first))
        return sums, sample, measured.unclustered is not None

    return _sum_pieces(item, shared, one, texture.depth, dtype)


def _sum_pieces(
    task: TextureWork,
    shared: Pass,
    one: Callable[[Piece, int], tuple[FeatureSums, Sample, bool]],
    depth: int,
    dtype: Any,
) -> Summed:
    """Sum the pieces of a block one after another, and save the result."""
    sums, samples, marked, rejected = [], [], [], []
    for piece, first in zip(task.work.pieces, task.firsts, strict=True):
        try:
            part, sample, has_mask = one(piece, first)
        except ImageError as error:
            rejected.append(Rejection(piece.source.name, error.code, error.reason))
            continue
        sums.append(part)
        samples.append(sample)
        if has_mask:
            marked.append(piece.source.name)
    summed = Summed(
        _merged(sums), Sample.joined(samples, depth, dtype), tuple(marked), tuple(rejected)
    )
    save_summed(task.index, summed, shared)
    return summed


def _merged(sums: Sequence[FeatureSums]) -> FeatureSums | None:
    return FeatureSums.merge(sums) if sums else None


def merge_summed(parts: list[Summed]) -> Summed:
    """Join the sums of neighbouring blocks, in their order."""
    with_rows = [part.sums for part in parts if part.sums is not None]
    first = parts[0].sample.rows
    return Summed(
        _merged(with_rows),
        Sample.joined([part.sample for part in parts], first.shape[1], first.dtype),
        tuple(name for part in parts for name in part.marked),
        tuple(rejection for part in parts for rejection in part.rejected),
    )


def save_summed(index: int, summed: Summed, shared: Pass) -> None:
    """Keep what a block gave, for a resume."""
    depth = summed.sample.rows.shape[1]
    sums = summed.sums or FeatureSums(0, np.zeros(depth), np.zeros((depth, depth)))
    rejected = [[r.image, r.code, r.reason] for r in summed.rejected]
    shared.writer.save_state(
        f"{shared.name}-{index}",
        {
            "n": np.array([-1 if summed.sums is None else sums.n]),
            "total": sums.total,
            "products": sums.products,
            "rows": summed.sample.rows,
            "numbers": summed.sample.numbers,
            "marked": np.array(summed.marked, dtype=np.str_),
            "rejected": np.array(rejected, dtype=np.str_).reshape(-1, 3),
        },
    )


def load_summed(index: int, shared: Pass) -> Summed:
    """What `save_summed` kept.

    Raises
    ------
    KmdistError : it is gone.
    """
    state = shared.writer.load_state(f"{shared.name}-{index}")
    if state is None:
        raise KmdistError(f"the checkpoint of block {index} is gone; run again with --overwrite")
    n = int(state["n"][0])
    return Summed(
        None if n < 0 else FeatureSums(n, state["total"], state["products"]),
        Sample(state["rows"], state["numbers"]),
        tuple(map(str, state["marked"])),
        tuple(Rejection(*map(str, row)) for row in state["rejected"]),
    )


@dataclass
class KeptFields(Sequence[Any]):
    """Items of the features pass that are measured as they are asked for, and remembered.

    `run_pass` asks for an item when it submits it, so no more blocks are measured than are in
    flight; the futures stay here for the labelling pass.
    """

    pool: Pool
    items: Sequence[TextureWork | Saved]
    textons: Any
    shared: Any
    futures: dict[int, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, position: Any) -> Any:
        item = self.items[position]
        if isinstance(item, Saved):
            return item
        future = self.pool.submit(measure_block, item, self.textons, self.shared)
        self.futures[item.index] = future
        return future
