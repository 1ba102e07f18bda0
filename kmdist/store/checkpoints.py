"""What a run needs to go on after it was killed: states of the fit, and which blocks are done.

A state is an npz (never a pickle) that replaces the last of its name at once. The manifest of a
pass is a log with one line of JSON per finished block, so that finishing a block costs one small
append; a line that was torn by a kill or a power cut does not parse and counts as not done.
"""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kmdist.store.format.layout import dump_json
from kmdist.store.format.names import image_key
from kmdist.store.targets import STATE, Target


def save_state(target: Target, name: str, arrays: Mapping[str, ArrayLike]) -> None:
    """Replace the state called `name` by these arrays, at once.

    It is not forced to the disk, which would stop the worker for as long as a block takes while
    others write: a power cut may lose it, and `load_state` notices.

    Raises
    ------
    ValueError : an array holds Python objects, which only a pickle could store.
    """
    given = {key: np.asarray(array) for key, array in arrays.items()}
    for key, array in given.items():
        if array.dtype.hasobject:
            raise ValueError(f"state {name!r}: {key!r} holds Python objects; give plain arrays")
    buffer = io.BytesIO()
    # Entries by number: npz names become file names in a zip, and NumPy reserves some.
    names = np.array([key.encode() for key in given], dtype="S")
    numbered: dict[str, Any] = {f"a{i}": array for i, array in enumerate(given.values())}
    np.savez(buffer, names=names, **numbered)
    target.put(f"{STATE}/{image_key(name)}.npz", buffer.getbuffer())


def load_state(target: Target, name: str) -> dict[str, NDArray[Any]] | None:
    """Arrays of the state called `name`; None if none was saved, or what is there is damaged.

    Damage (an empty file after a power cut) shows by the checksums that each array carries.
    """
    data = target.get(f"{STATE}/{image_key(name)}.npz")
    if data is None:
        return None
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            names = [key.decode() for key in stored["names"].tolist()]
            return {key: stored[f"a{i}"] for i, key in enumerate(names)}
    except (ValueError, KeyError, OSError, EOFError, BadZipFile):
        return None


def mark_done(
    target: Target, pass_name: str, indices: int | Sequence[int], results: Any = None
) -> None:
    """Add finished blocks to the manifest of a pass, each after all its writes returned.

    Parameters
    ----------
    indices : one block, or several.
    results : what to keep with it, small and JSON; for several blocks a sequence as long, or
        None.

    Raises
    ------
    ValueError : indices and results differ in length.
    """
    if isinstance(indices, int | np.integer):
        indices, results = [int(indices)], [results]
    if results is None:
        results = [None] * len(indices)
    if len(results) != len(indices):
        raise ValueError(f"{len(indices)} blocks done, but {len(results)} results")
    lines = [
        dump_json([int(index), result]) + b"\n"
        for index, result in zip(indices, results, strict=True)
    ]
    if lines:
        target.append(_manifest(pass_name), b"".join(lines))


def done(target: Target, pass_name: str) -> dict[int, Any]:
    """Finished blocks of a pass, with the result kept with each (the last, if marked twice)."""
    finished: dict[int, Any] = {}
    for line in (target.get(_manifest(pass_name)) or b"").split(b"\n"):
        try:
            index, result = json.loads(line)
        except (ValueError, TypeError):
            continue
        finished[index] = result
    return finished


def _manifest(pass_name: str) -> str:
    return f"{STATE}/{image_key(pass_name)}.done.jsonl"
