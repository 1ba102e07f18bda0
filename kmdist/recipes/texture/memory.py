"""What a texture job will need at its peak, held against what there is before it starts."""

from collections.abc import Sequence
from dataclasses import dataclass

from kmdist.filters.cells import CELL
from kmdist.filters.tiles import pair_kernels, plan_axis
from kmdist.filters.tutorial import BANK as TUTORIAL_BANK
from kmdist.images import ImageSource
from kmdist.images.blocks import is_sharded
from kmdist.job.memory import DECODE_BYTES, PROCESS_BYTES, Projection, Slots
from kmdist.job.photographs import Photographs
from kmdist.recipes.texture.model import Texture
from kmdist.recipes.texture.wanted import SAMPLE_ROWS, TextureWanted
from kmdist.store.format.layout import SHARD, label_dtype

KEPT_SPECTRA = 4
"""Piece sizes whose spectra a process keeps; see `kmdist.filters.spectra.pair_spectra`."""
PIXEL_BYTES = 8
"""A pixel being filtered and labelled: RGB, padded RGB, labels, mask."""
DEEP_BYTES = 18
"""More of an image that is not 8-bit: RGB and padded RGB are float32."""
SHARD_BYTES = 3
"""A pixel of a shard beside its label: mask, the next level of its pyramid, compressed chunks."""


@dataclass(frozen=True)
class TextureProjection(Projection):
    """Projected peak memory of a texture job over all its processes.

    Parameters
    ----------
    likely_bytes : what the workers need together, which `limit_bytes` is for: this process filters
        nothing where they are others.
    once : images are labelled where they are measured.
    """

    once: bool = False

    def __str__(self) -> str:
        listed = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in self.parts if size >= 5e6)
        kept = "kept" if self.keep_pixels else "measured again for the labels"
        text = f"memory: projected peak {self.total_bytes / 1e9:.2f} GB ({listed})"
        return text if self.once else f"{text}; features {kept}"

    @property
    def kept(self) -> str:
        """Nothing more to say: the text does."""
        return ""


def texture_projection(
    workload: Photographs,
    slots: Slots,
    wanted: TextureWanted,
    *,
    keep_pixels: str = "never",
    passes: int,
) -> TextureProjection:
    """Project the peak memory of a texture job, and decide whether features are kept.

    With T task slots, P worker processes, B pixels in the largest block, f bytes of features a
    pixel and k clusters: P × 320 MB, and 320 MB for this process where it is none of them, + P ×
    the bank's spectra + T × B × (12 + 8, or 26 if not 8-bit, + 2 f + k / 4) + T × (3 + a label's
    bytes) × 8,192² where labels are stored in shards + the sample, of which four copies exist, +
    (f + 3) bytes a pixel where features are kept. Windows around tiles are within the bytes of
    decoding, which have ended by then.

    Parameters
    ----------
    keep_pixels : ``auto``, ``always`` or ``never``.
    passes : 1 where each image is fitted on its own, 2 or more where features may be kept.
    """
    texture = wanted.texture
    processes = max(slots.processes - 1, 1)
    block = max(work.pixels for work in workload.blocks)
    k = max(*wanted.ks, *wanted.choices, 1)
    deep = DEEP_BYTES * any(source.dtype != "uint8" for source in workload.sources)
    per_pixel = DECODE_BYTES + PIXEL_BYTES + deep + 2 * texture.bytes_per_pixel + k / 4
    rows = wanted.fraction(workload.pixels) * workload.pixels if wanted.sample else SAMPLE_ROWS
    row_bytes = texture.depth * (1 if texture.is_tutorial else 4)
    parts = [
        ("processes", PROCESS_BYTES * processes),
        ("spectra", processes * spectra_bytes(texture, workload.sources)),
        ("features", int(slots.threads * block * per_pixel)),
        ("shards", slots.threads * _shard_bytes(workload, k)),
        ("samples", int(4 * rows * row_bytes)),
    ]
    total = sum(size for _, size in parts)
    kept = int(workload.pixels * (texture.bytes_per_pixel + 3))
    keep = passes > 1 and (
        keep_pixels == "always" or (keep_pixels == "auto" and total + kept <= slots.memory_bytes)
    )
    if keep:
        parts.append(("kept features", kept))
        total += kept
    if slots.processes > 1:
        parts.append(("this process", PROCESS_BYTES))
    once = passes == 1 and all(work.pieces[0].whole for work in workload.blocks)
    return TextureProjection(parts, total, slots.memory_bytes, keep, once)


def spectra_bytes(texture: Texture, sources: Sequence[ImageSource]) -> int:
    """Of the bank's spectra for the pieces of all images, four sizes of pieces at most."""
    bank = TUTORIAL_BANK if texture.is_tutorial else texture.features.bank
    step = 1 if texture.is_tutorial else CELL
    sides = {side for source in sources for side in (source.height, source.width)}
    planned = {side: plan_axis(side, bank.halo, step)[1] for side in sides}
    sizes = {(planned[source.height], planned[source.width]) for source in sources}
    points = sum(sorted((y * x for y, x in sizes), reverse=True)[:KEPT_SPECTRA])
    return 8 * len(pair_kernels(bank)) * points


def _shard_bytes(workload: Photographs, k: int) -> int:
    """Of the largest shard being written, 0 where no image has any."""
    areas = [
        min(source.height, SHARD) * min(source.width, SHARD)
        for source in {one.pieces[0].source for one in workload.blocks if not one.pieces[0].whole}
        if is_sharded(source)
    ]
    return max(areas, default=0) * (SHARD_BYTES + label_dtype(k, True).itemsize)
