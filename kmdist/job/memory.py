"""One budget of memory, made of what the steps of a job hold, and held against what there is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from kmdist.engine.passes import FAN_IN, Slots, tree_shape
from kmdist.engine.rows import MEMORY_SHARE
from kmdist.errors import KmdistError

PROCESS_BYTES = 140_000_000
"""A process with kmdist, Dask, OpenCV and numba loaded and kernels compiled, less its libraries."""
LIBRARY_BYTES = 110_000_000
"""Pages of files that all processes of a machine share."""
THREAD_BYTES = 1_000_000
"""A thread that works: its stack, and what its allocator keeps for it."""
DECODE_BYTES = 12
"""A pixel being decoded: file, decoder's buffers, the picture, its RGB, its mask."""
LABEL_BYTES = 4
"""A pixel being labelled and written: labels, pyramid, compressed chunks."""


class Sized(Protocol):
    """A block of images.

    Attributes
    ----------
    pixels : it has.
    largest_pixels : of the largest image or tile in it, which a task works on at once.
    """

    @property
    def pixels(self) -> int: ...
    @property
    def largest_pixels(self) -> int: ...


def no_bytes(pixels: int) -> float:
    """Of what holds nothing."""
    return 0.0


@dataclass(frozen=True)
class Held:
    """Bytes that a stage holds at its peak.

    Parameters
    ----------
    pixel : for each pixel of the image or tile that a task works on.
    block : for each pixel of a task's block.
    task : of a task besides.
    result : of a result of so many pixels that waits to be merged.
    worker : of what each worker has for all its tasks: tables, spectra, a model.
    here : of this process.
    """

    pixel: float = 0.0
    block: float = 0.0
    task: float = 0.0
    result: Callable[[int], float] = no_bytes
    worker: float = 0.0
    here: float = 0.0

    def __add__(self, other: "Held") -> "Held":
        """With what blocks or arguments add; results stay as they are."""
        return Held(
            self.pixel + other.pixel,
            self.block + other.block,
            self.task + other.task,
            self.result,
            self.worker + other.worker,
            self.here + other.here,
        )


NOTHING = Held()


@dataclass(frozen=True)
class Step:
    """One step of a job as a plan has it: passes over blocks, or work of this process.

    Parameters
    ----------
    name : as progress has it.
    blocks : that a pass works on; none: this process works.
    tasks : of a pass, merging included.
    times : how many such passes there are.
    reads : whether they read images.
    keeps : whether what is kept between passes is there meanwhile.
    remedy : what to do where this step needs more than there is; empty: smaller blocks.
    """

    name: str
    held: Held
    blocks: Sequence[Sized] = ()
    tasks: int = 0
    fan_in: int = FAN_IN
    times: int = 1
    reads: bool = True
    keeps: bool = True
    remedy: str = ""

    def bytes(self, slots: Slots) -> int:
        """What it holds over all processes, beside the processes themselves."""
        workers, n = max(slots.processes - 1, 1), len(self.blocks)  # the pool's memory is theirs
        total = workers * self.held.worker + self.held.here
        if n:
            at_once = min(slots.threads, n)
            each = [
                self.held.pixel * one.largest_pixels + self.held.block * one.pixels + self.held.task
                for one in self.blocks
            ]
            block = max(one.pixels for one in self.blocks)
            waiting = min(at_once + self.fan_in, n) * self.held.result(block)
            if n > self.fan_in:  # what is merged of the first waits for the last
                waiting += self.fan_in * self.held.result(self.pixels)
            total += sum(sorted(each)[-at_once:]) + waiting
        return int(total)

    @property
    def pixels(self) -> int:
        """Of all blocks."""
        return sum(one.pixels for one in self.blocks)


def row_pass(
    name: str, blocks: Sequence[Sized], held: Held, *, times: int = 1, reads: bool = True
) -> Step:
    """The step of passes over rows whose results are merged; see `kmdist.engine.rows.Rows`."""
    return Step(name, held, blocks, sum(tree_shape(len(blocks))), times=times, reads=reads)


@dataclass(frozen=True)
class Outline:
    """What a job will do: its budget of memory and its dry run are made of this.

    Parameters
    ----------
    steps : in their order.
    kept, kept_bytes : what is kept between the passes, such as ``pixels``.
    checkpoint_bytes : of what is saved for a resume.
    result_bytes : of all results before compression.
    """

    steps: Sequence[Step] = ()
    kept: str = ""
    kept_bytes: int = 0
    checkpoint_bytes: int = 0
    result_bytes: int = 0

    def passes(self, n_pixels: int) -> int:
        """Over images of so many pixels, each reading every image once."""
        return -(-sum(one.times * one.pixels for one in self.steps if one.reads) // n_pixels)

    @property
    def tasks(self) -> int:
        """Submitted over all passes, merging included."""
        return sum(step.times * step.tasks for step in self.steps)


@dataclass(frozen=True)
class Budget:
    """Projected peak memory of a job over all its processes.

    Parameters
    ----------
    parts : what it is made of, (description, bytes): the processes, the step that holds the most,
        what is kept between the passes.
    needed_bytes : of the workers, which `limit_bytes` is for, and what this process holds for them.
    keep : what is kept between the passes, such as ``pixels``; empty: nothing is.
    remedy : of the step that holds the most.
    """

    parts: Sequence[tuple[str, int]]
    needed_bytes: int
    limit_bytes: int
    keep: str
    remedy: str

    @property
    def total_bytes(self) -> int:
        """Sum of all parts."""
        return sum(size for _, size in self.parts)

    @property
    def fits(self) -> bool:
        """Whether the job may start."""
        return self.needed_bytes <= self.limit_bytes

    def __str__(self) -> str:
        peak, limit = self.total_bytes / 1e9, self.limit_bytes / 1e9
        return f"memory: projected peak {peak:.2f} GB; may use {limit:.2f} GB"

    @property
    def explained(self) -> str:
        """What the peak is made of."""
        listed = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in self.parts if size >= 5e6)
        kept = f"; {self.keep} kept between passes" if self.keep else ""
        return f"memory: of the peak, in GB: {listed}{kept}"

    def require(self) -> None:
        """Refuse a job that cannot fit.

        Raises
        ------
        KmdistError : names the largest part and the remedy.
        """
        if self.fits:
            return
        name, size = max(self.parts, key=lambda part: part[1])
        remedy = "Use --keep-pixels auto or never." if self.keep else self.remedy
        raise KmdistError(
            f"the job needs {self.needed_bytes / 1e9:.2f} GB and may use "
            f"{self.limit_bytes / 1e9:.2f} GB; the largest part is {name} with "
            f"{size / 1e9:.2f} GB. {remedy}"
        )


_SMALLER = "Use a smaller --block-mpx, fewer --workers, or workers with more memory."


def budget_of(outline: Outline, slots: Slots) -> Budget:
    """The budget of a job with such an outline on such workers.

    One step follows another, so that the peak is that of the step that holds the most. A process
    that only drives workers does not count against their memory.
    """
    threads = THREAD_BYTES * slots.threads
    processes = PROCESS_BYTES * slots.processes + LIBRARY_BYTES + threads
    done = [step for step in outline.steps if step.times]

    def with_kept(step: Step) -> int:
        return step.bytes(slots) + outline.kept_bytes * step.keeps

    largest = max(done, key=with_kept, default=Step("", NOTHING))
    parts = [("processes", processes), (largest.name, largest.bytes(slots))]
    if outline.kept_bytes and largest.keeps:
        parts.append((f"kept {outline.kept}", outline.kept_bytes))
    needed = sum(size for _, size in parts) - (PROCESS_BYTES if slots.processes > 1 else 0)
    keep = outline.kept if outline.kept_bytes else ""
    return Budget(parts, needed, slots.memory_bytes, keep, largest.remedy or _SMALLER)


def choose_outline(
    outline_of: Callable[[bool], Outline], slots: Slots, keep_pixels: str
) -> tuple[Outline, Budget]:
    """What a job will do, and its budget: with something kept between its passes, or nothing.

    Parameters
    ----------
    outline_of : the outline of the job, given whether what can be kept is.
    keep_pixels : ``auto``: where it fits, ``always`` or ``never``.
    """
    if keep_pixels != "never":
        outline = outline_of(True)
        memory = budget_of(outline, slots)
        small = outline.kept_bytes <= MEMORY_SHARE * slots.memory_bytes
        if keep_pixels == "always" or (memory.fits and small):
            return outline, memory
    outline = outline_of(False)
    return outline, budget_of(outline, slots)
