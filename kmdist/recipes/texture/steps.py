"""What a texture job does, pass by pass: its dry run and its budget of memory are made of this."""

from collections.abc import Sequence

from kmdist.filters.tiles import pair_kernels, plan_axis
from kmdist.job.image_fits import each_stage
from kmdist.job.label_maps import (
    kept_label_bytes,
    label_items,
    mark_steps,
    shard_bytes,
    tiles_of,
    write_steps,
)
from kmdist.job.memory import NOTHING, Held, Outline, Step
from kmdist.job.photographs import Photographs
from kmdist.job.work import Work
from kmdist.recipes.texture.blocks import MAP, RESPONSES, features_stage, textons_stage
from kmdist.recipes.texture.labels import label_stage
from kmdist.recipes.texture.model import TEXTON_ROWS, Texture
from kmdist.recipes.texture.wanted import SAMPLE_ROWS, TextureWanted

KEPT_SPECTRA = 4
"""Piece sizes whose spectra a process keeps; see `kmdist.filters.tiles.pair_spectra`."""
DEEP_BYTES = 18
"""More of a pixel of an image that is not 8-bit: RGB and padded RGB are float32."""
NUMBER_BYTES = 8
"""Of the number of a sampled row."""
COPIES = 3
"""Of the sample where it is fitted: as it came, in order, projected."""
SCRATCH_BYTES = 110_000_000
"""Of a task that filters, whatever its images: transforms of a piece, SciPy, and what its process
has freed and not yet given back."""
MAP_BYTES = 1 / 16
"""A pixel's texton in a checkpoint."""


def outline(
    wanted: TextureWanted, workload: Photographs, *, shared: bool, label: bool, keep: bool
) -> Outline:
    """Passes, what is kept, checkpoints and results of a job that fits."""
    results = workload.label_bytes(len(wanted.ks)) * label + response_bytes(workload, wanted)
    checkpoints = checkpoint_bytes(workload, wanted, shared=shared)
    if shared:
        steps = shared_steps(workload.blocks, wanted, keep=keep, label=label)
    else:
        steps, keep = each_steps(workload.blocks, wanted), False
    kept = int(workload.pixels * (wanted.texture.bytes_per_pixel + 3)) * keep
    return Outline(steps, "features", kept, checkpoints, results)


def shared_steps(
    blocks: Sequence[Work], wanted: TextureWanted, *, keep: bool, label: bool = True
) -> list[Step]:
    """One set of clusters for all blocks: textons, sums, fit, labels, responses."""
    texture = wanted.texture
    measuring = _measuring(texture, blocks)
    steps = []
    if texture.has_textons:
        steps = [textons_stage(texture).step(blocks, measuring), *_map(texture, blocks)]
    n_pixels = sum(work.pixels for work in blocks)
    sample = _sample_bytes(wanted, n_pixels)
    features = features_stage(texture, keep=keep)
    steps.append(features.step(blocks, measuring + Held(block=sample / n_pixels)))
    steps.append(Step("fit", Held(here=COPIES * sample)))
    steps += label_steps(blocks, texture, wanted.at_most, keep=keep)
    if label:
        steps += write_steps(blocks, wanted.at_most)
    if wanted.keep_responses:
        steps.append(RESPONSES.step(blocks, measuring))
    return steps


def each_steps(blocks: Sequence[Work], wanted: TextureWanted) -> list[Step]:
    """Clusters for each image, in one pass; those larger than a block in passes of their own."""
    whole = [work for work in blocks if work.tile_of is None]
    steps = []
    if whole:
        pixels = max(work.largest_pixels for work in whole)
        label = label_stage(wanted.at_most).held.pixel
        held = Held(pixel=label, task=COPIES * _sample_bytes(wanted, pixels))
        measured = _measuring(wanted.texture, whole)
        steps.append(each_stage("texture", held).step(whole, measured))
    for tiles in tiles_of(blocks).values():
        steps += shared_steps(tiles, wanted, keep=False)
    return steps


def predict_steps(blocks: Sequence[Work], texture: Texture, k: int) -> list[Step]:
    """Labels from clusters: of large images transparent pixels and textons first."""
    labels = label_steps(blocks, texture, [k], keep=False)
    return [*mark_steps(blocks), *_map(texture, blocks), *labels]


def label_steps(
    blocks: Sequence[Work], texture: Texture, ks: Sequence[int], *, keep: bool
) -> list[Step]:
    """The labelling pass; fields are measured there unless they were kept."""
    measuring = NOTHING if keep else _measuring(texture, blocks)
    task = shard_bytes(blocks, ks)
    items = label_items(blocks, ())
    return [label_stage(ks).step(items, measuring + Held(task=task), reads=not keep)]


def _map(texture: Texture, blocks: Sequence[Work]) -> list[Step]:
    tiled = [work for work in blocks if work.tile_of is not None]
    if not (texture.has_textons and tiled):
        return []
    # Reads tiles in place of the pass for features, which takes their textons from here.
    return [MAP.step(tiled, _measuring(texture, tiled), reads=False)]


def _measuring(texture: Texture, blocks: Sequence[Work]) -> Held:
    """Bytes of a pixel that is measured, and of a worker that measures."""
    deep = any(piece.source.dtype != "uint8" for work in blocks for piece in work.pieces)
    pixel = texture.measuring_bytes + DEEP_BYTES * deep
    return Held(pixel=pixel, task=SCRATCH_BYTES, worker=spectra_bytes(texture, blocks))


def _sample_bytes(wanted: TextureWanted, n_pixels: int) -> float:
    """Of the rows that are fitted, of so many pixels."""
    n_rows = n_pixels // wanted.texture.cell_px**2
    return wanted.fraction(n_rows) * n_rows * (wanted.texture.row_bytes + NUMBER_BYTES)


def spectra_bytes(texture: Texture, blocks: Sequence[Work]) -> int:
    """Of the bank's spectra for the pieces of all images, four sizes of pieces at most."""
    bank, step = texture.bank, texture.cell_px
    shapes = {(one.source.height, one.source.width) for work in blocks for one in work.pieces}
    planned = {side: plan_axis(side, bank.halo, step)[1] for shape in shapes for side in shape}
    sizes = {(planned[height], planned[width]) for height, width in shapes}
    points = sum(sorted((y * x for y, x in sizes), reverse=True)[:KEPT_SPECTRA])
    return 8 * len(pair_kernels(bank)) * points


def checkpoint_bytes(workload: Photographs, wanted: TextureWanted, *, shared: bool) -> int:
    """Samples, sums and labels of images that share clusters, and textons of tiles."""
    texture = wanted.texture
    blocks = [work for work in workload.blocks if shared or work.tile_of is not None]
    pixels = sum(work.pixels for work in blocks)
    if not pixels:
        return 0
    rows = wanted.fraction(pixels) * pixels / texture.cell_px**2
    total = min(rows, SAMPLE_ROWS if wanted.sample is None else rows) * texture.row_bytes
    total += len(blocks) * 8 * texture.depth**2 + kept_label_bytes(blocks, wanted.at_most)
    if texture.has_textons:
        depth = texture.features.bank.n_features
        tiled = sum(work.pixels for work in blocks if work.tile_of is not None)
        total += TEXTON_ROWS * 4 * depth + len(blocks) * 8 * depth**2 + MAP_BYTES * tiled
    return int(total)


def response_bytes(workload: Photographs, wanted: TextureWanted) -> int:
    """Of the filter responses that are kept, before compression."""
    if not wanted.keep_responses:
        return 0
    return 4 * len(wanted.texture.bank) * workload.pixels
