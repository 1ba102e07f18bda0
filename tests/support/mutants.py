"""Runs of which one file is damaged, or was made to do harm."""

import copy
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

VALUES = (None, "x", "\x1b[31m\n", -1, 0, 2**70, 1.5, [], ["x"], [[]], {}, {"x": 1}, True)
TEXTS = ("", "{}", "[]", "null", "{", "[" * 9999, '{"zarr_format":3,"node_type":"group"}')
Change = Callable[[Path], None]


def mutants(run: Path) -> Iterator[tuple[str, Change]]:
    """Ways to damage a run: what is done, and a function that does it to a copy."""
    for path in sorted(path for path in run.rglob("*") if path.is_file()):
        key = path.relative_to(run).as_posix()
        whole = path.read_bytes()
        yield f"{key} removed", lambda at, key=key: (at / key).unlink()
        yield f"{key} a folder", lambda at, key=key: _replace(at / key, os.mkdir)
        yield f"{key} a FIFO", lambda at, key=key: _replace(at / key, os.mkfifo)
        yield f"{key} a device", lambda at, key=key: _replace(at / key, _link_to_zeros)
        if path.name == "zarr.json":
            texts = [*TEXTS, *map(json.dumps, _spoilt(json.loads(whole)))]
            for number, text in enumerate(texts):
                yield f"{key} text {number}: {text[:300]}", _writing(key, text.encode())
            continue
        yield f"{key} emptied", _writing(key, b"")
        yield f"{key} cut", _writing(key, whole[: len(whole) // 2])
        yield f"{key} zeroed", _writing(key, bytes(len(whole)))
        yield f"{key} long", _writing(key, whole * 3)
        for at in {0, len(whole) // 2, len(whole) - 1}:
            flipped = bytearray(whole)
            flipped[at] ^= 0xFF
            yield f"{key} byte {at} flipped", _writing(key, bytes(flipped))


def damaged(run: Path, change: Change, copy_at: Path) -> Path:
    """A damaged copy of a run."""
    shutil.rmtree(copy_at, ignore_errors=True)
    shutil.copytree(run, copy_at)
    change(copy_at)
    return copy_at


def _writing(key: str, data: bytes) -> Change:
    return lambda at: (at / key).write_bytes(data) and None


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def _link_to_zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _spoilt(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The metadata of a node with one value replaced, or left out."""
    node.pop("consolidated_metadata", None)
    record = node.get("attributes", {})
    for place in [(key,) for key in node if key != "attributes"] + _places(record):
        for value in (*VALUES, ...):
            spoilt = copy.deepcopy(node)
            inside: Any = spoilt
            for key in place[:-1]:
                inside = inside[key]
            if value is ...:
                del inside[place[-1]]
            else:
                inside[place[-1]] = value
            yield spoilt
    if node.get("node_type") != "array":
        return
    n, shape = len(node["shape"]), node["shape"]
    for key, values in {
        "shape": [[2**40] * n, [0] * n, [1] * n, [s + 1 for s in shape], [*shape, 2], shape[1:]],
        "data_type": ["float64", "float32", "int8", "uint8", "uint64", "bool", "string", "r16"],
        "fill_value": [250, 2**40, "NaN", "0xff"],
        "codecs": [
            [{"name": "nobody"}],
            [{"name": "bytes"}, {"name": "nobody"}],
            [{"name": "bytes", "configuration": {"endian": "big"}}],
            [{"name": "bytes"}, {"name": "gzip", "configuration": {"level": 1}}],
        ],
        "chunk_grid": [
            {"name": "regular", "configuration": {"chunk_shape": sizes}}
            for sizes in ([2**40] * n, [0] * n, [1] * n, [2] * (n + 1))
        ]
        + [{"name": "irregular"}],
    }.items():
        for value in values:
            yield {**node, key: value}


def _places(record: Any, depth: int = 4) -> list[tuple[str, ...]]:
    """Keys of nested objects."""
    found: list[tuple[str, ...]] = []
    for key, value in record.items() if depth and isinstance(record, dict) else ():
        found.append((key,))
        found += [(key, *below) for below in _places(value, depth - 1)]
    return [("attributes", *place) if depth == 4 else place for place in found]
