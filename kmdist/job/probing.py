"""Headers of all files, read on the workers, and the fingerprint of an input."""

import hashlib
import json
from collections.abc import Callable, Sequence

from kmdist.engine.passes import Pool, run_pass
from kmdist.errors import ImageError
from kmdist.images import Found, ImageSource, Rejection, probe
from kmdist.job.progress import Event, Watcher

PROBE_BATCH = 256


def probe_batch(
    found: Sequence[Found], max_pixels: int, probe: Callable[..., ImageSource]
) -> list[ImageSource | Rejection]:
    """Probe some files; a task of the probing pass."""
    results: list[ImageSource | Rejection] = []
    for one in found:
        try:
            results.append(probe(one, max_pixels=max_pixels))
        except ImageError as error:
            results.append(Rejection(one.name, error.code, error.reason))
    return results


def probe_all(
    pool: Pool,
    found: Sequence[Found],
    max_pixels: int,
    watch: Watcher,
    probe: Callable[..., ImageSource] = probe,
) -> tuple[list[ImageSource], list[Rejection]]:
    """Probe every file, on the workers, in batches.

    Parameters
    ----------
    probe : reads a header; an importable function.
    """
    batches = [found[i : i + PROBE_BATCH] for i in range(0, len(found), PROBE_BATCH)]
    results: list[list[ImageSource | Rejection]] = [[] for _ in batches]
    n_probed = 0

    def collect(index: int, batch: list[ImageSource | Rejection]) -> None:
        nonlocal n_probed
        results[index] = batch
        n_probed += len(batch)
        watch(Event("probe", n_probed, len(found)))

    run_pass(pool, probe_batch, batches, max_pixels, probe, on_done=collect)
    flat = [result for batch in results for result in batch]
    sources = [result for result in flat if isinstance(result, ImageSource)]
    return sources, [result for result in flat if isinstance(result, Rejection)]


def fingerprint(sources: Sequence[ImageSource]) -> str:
    """SHA-256 of the names, sizes and modification times of the usable images."""
    digest = hashlib.sha256()
    for source in sources:
        line = json.dumps([source.name, source.size_bytes, source.mtime_ns], ensure_ascii=True)
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()
