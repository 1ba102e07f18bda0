"""What passes between the client, the scheduler and the workers of a Dask cluster."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distributed.comm.tcp import TCP


@contextmanager
def counted_bytes() -> Iterator[list[int]]:
    """Bytes written by the comms of this process, client and scheduler."""
    total, plain = [0], TCP.write

    async def write(self: Any, *args: Any, **kwargs: Any) -> Any:
        size = await plain(self, *args, **kwargs)
        total[0] += size
        return size

    TCP.write = write
    try:
        yield total
    finally:
        TCP.write = plain
