"""What a run is projected to hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from kmdist.errors import KmdistError

PROCESS_BYTES = 320_000_000
"""A process with kmdist, Dask, OpenCV and numba loaded and kernels compiled."""


DECODE_BYTES = 12
"""A pixel being decoded: file, decoder's buffers, the picture, its RGB, its mask."""


class Slots(Protocol):
    """What a projection takes of workers; a `kmdist.engine.passes.Pool` has it all."""

    @property
    def threads(self) -> int:
        """Tasks that run at the same time."""

    @property
    def memory_bytes(self) -> int:
        """Memory that all running tasks and kept results together may use."""

    @property
    def processes(self) -> int:
        """Processes that the job is spread over, the caller's included."""


@dataclass(frozen=True)
class Projection:
    """Projected peak memory of a job over all its processes.

    Parameters
    ----------
    parts : what it is made of if no two pixels have the same colour, (description, bytes).
    likely_bytes : the same for photographs.
    limit_bytes : what it may use.
    keep_pixels : whether decoded pixels are kept between the passes.
    """

    parts: Sequence[tuple[str, int]]
    likely_bytes: int
    limit_bytes: int
    keep_pixels: bool

    @property
    def total_bytes(self) -> int:
        """Sum of all parts."""
        return sum(size for _, size in self.parts)

    def __str__(self) -> str:
        listed = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in self.parts if size >= 5e6)
        return (
            f"memory: projected peak {self.total_bytes / 1e9:.2f} GB if all colours differ "
            f"({listed}), about {self.likely_bytes / 1e9:.2f} GB for photographs"
        )

    @property
    def kept(self) -> str:
        """What is said of the pixels between the passes."""
        return f"; pixels {'kept' if self.keep_pixels else 'not kept'} between passes"

    def require(self) -> None:
        """Refuse a job that cannot fit.

        Raises
        ------
        KmdistError : photographs would exceed the limit; names the largest part and the remedy.
        """
        if self.likely_bytes <= self.limit_bytes:
            return
        name, size = max(self.parts, key=lambda part: part[1])
        remedy = (
            "Use --keep-pixels auto or never."
            if self.keep_pixels
            else "Use a smaller --block-mpx, fewer --workers, or workers with more memory."
        )
        raise KmdistError(
            f"the job needs {self.likely_bytes / 1e9:.2f} GB and may use "
            f"{self.limit_bytes / 1e9:.2f} GB; the largest part is {name} with "
            f"{size / 1e9:.2f} GB. {remedy}"
        )
