"""Writers of runs that no job ends."""

from collections.abc import Iterator
from contextlib import contextmanager

from kmdist.store import RunWriter


@contextmanager
def released(writer: RunWriter) -> Iterator[RunWriter]:
    """A writer whose claim is given up at the end, whatever comes; it may be published before."""
    try:
        yield writer
    finally:
        writer.release()
