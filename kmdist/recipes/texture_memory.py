"""What a texture job will need at its peak, held against what there is before it starts."""

from kmdist.recipes.job import Job
from kmdist.recipes.memory import DECODE_BYTES, PROCESS_BYTES, Projection
from kmdist.recipes.texture_wanted import SAMPLE_ROWS, TextureWanted

SPECTRA_BYTES = 200_000_000
"""Spectra of a bank for four piece sizes, shared by the threads of a process."""
PIXEL_BYTES = 8
"""A pixel being filtered and labelled: RGB, padded RGB, labels, mask."""


class TextureProjection(Projection):
    """Projected peak memory of a texture job over all its processes."""

    def __str__(self) -> str:
        listed = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in self.parts if size >= 5e6)
        kept = "kept" if self.keep_pixels else "measured again for the labels"
        return f"memory: projected peak {self.total_bytes / 1e9:.2f} GB ({listed}); features {kept}"


def texture_projection(job: Job, wanted: TextureWanted, *, passes: int) -> TextureProjection:
    """Project the peak memory of a texture job, and decide whether features are kept.

    With T task slots, P processes, B pixels in the largest block, f bytes of features a pixel and
    k clusters: P × (320 + 200 MB) + T × B × (12 + 8 + 2 f + k / 4) + the sample, of which four
    copies exist, + (f + 3) bytes a pixel where features are kept. Windows around tiles are within
    the bytes of decoding, which have ended by then.

    Parameters
    ----------
    passes : 1 where each image is fitted on its own, 2 or more where features may be kept.
    """
    texture = wanted.texture
    threads, processes = job.pool.threads, job.pool.processes
    block = max(work.pixels for work in job.work)
    per_pixel = DECODE_BYTES + PIXEL_BYTES + 2 * texture.bytes_per_pixel + max(wanted.ks) / 4
    rows = wanted.fraction(job.pixels) * job.pixels if wanted.sample else SAMPLE_ROWS
    row_bytes = texture.depth * (1 if texture.is_tutorial else 4)
    parts = [
        ("processes", (PROCESS_BYTES + SPECTRA_BYTES) * processes),
        ("features", int(threads * block * per_pixel)),
        ("fit", int(4 * rows * row_bytes)),
    ]
    total = sum(size for _, size in parts)
    kept = int(job.pixels * (texture.bytes_per_pixel + 3))
    keep = passes > 1 and (
        job.options.keep_pixels == "always"
        or (job.options.keep_pixels == "auto" and total + kept <= job.pool.memory_bytes)
    )
    if keep:
        parts.append(("kept features", kept))
        total += kept
    return TextureProjection(parts, total, job.pool.memory_bytes, keep)
