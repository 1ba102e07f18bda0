"""Image names as Zarr node names: flat, safe on every file system, never colliding.

``NAME`` is the image's path relative to its input folder. Bytes outside ``[A-Za-z0-9._-]`` become
``=XX``, so that what is left is one path component in ASCII: it cannot escape the run, and Unicode
normal forms stay apart. Names over 120 bytes, or equal when case-folded (they would be one folder
on macOS and Windows), end in ``-`` and 8 hexadecimal digits of the SHA-256 of the path.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable

from kmdist.errors import UsageError

MAX_BYTES = 120
"""Length of a node name: a file system allows 255 bytes, and paths get long below it."""

MAX_RANK = 8
"""Groups of 8 digits in a SHA-256."""

_SAFE = re.compile(r"[A-Za-z0-9._-]+")
_HASHED = re.compile(r"-[0-9a-f]{8}$")
_PARTIAL_ESCAPE = re.compile(r"=[0-9A-F]?$")
_ESCAPES = [chr(byte) if _SAFE.fullmatch(chr(byte)) else f"={byte:02X}" for byte in range(256)]
# Zarr reserves the prefix "__" and names of periods; the others are metadata files of its formats.
_RESERVED = re.compile(r"\.+|__.*|zarr\.json|\.z(array|group|attrs|metadata)", re.IGNORECASE)


def image_key(name: str, rank: int = 0) -> str:
    """Node name of one image.

    Parameters
    ----------
    name : path relative to the input folder, '/' separated; bytes that are no UTF-8 as Python's
        surrogate escapes.
    rank : groups of 8 hexadecimal digits at the end; 0 means none unless the name is long.

    Returns
    -------
    str : at most 120 ASCII characters of ``[A-Za-z0-9._=-]``.

    Raises
    ------
    ValueError : the name is empty, or holds a surrogate that no file name can hold.
    """
    if not name:
        raise ValueError("an image name is empty; it must be a path relative to the input folder")
    key = _flatten(name)
    rank = max(rank, int(len(key) > MAX_BYTES))
    if rank == 0:
        return key
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    suffix = "".join(f"-{digest[8 * i : 8 * i + 8]}" for i in reversed(range(rank)))
    return _PARTIAL_ESCAPE.sub("", key[: MAX_BYTES - len(suffix)]) + suffix


def clash_ranks(names: Iterable[str]) -> dict[str, int]:
    """Find the names that need more than `image_key` of themselves to stay apart.

    All names that clash get the hash, so the result depends on the set of names, not on their
    order. Should hashed names clash again (8 digits of a million names with one long prefix do,
    about 100 times), 8 more digits go before the first ones.

    Parameters
    ----------
    names : every image of the run, each once.

    Returns
    -------
    dict : name → rank for `image_key`, of the clashing names alone.

    Raises
    ------
    UsageError : a name occurs twice.
    """
    keys: dict[str, str] = {}
    for name in names:
        if name in keys:
            raise UsageError(
                f"two images have the same name {name!r}; names are relative to the input folder, "
                "so give a folder that holds both instead of two folders"
            )
        keys[name] = image_key(name)
    ranks: dict[str, int] = {}
    while True:
        groups: defaultdict[str, list[str]] = defaultdict(list)
        for name, key in keys.items():
            groups[key.lower()].append(name)
        clashing = [name for group in groups.values() if len(group) > 1 for name in group]
        if not clashing:
            return ranks
        for name in clashing:
            ranks[name] = min(ranks.get(name, _own_rank(name)) + 1, MAX_RANK)
            keys[name] = image_key(name, ranks[name])


def candidate_keys(name: str) -> list[str]:
    """Every node name that `name` can have in some run, the likeliest first."""
    return [image_key(name, rank) for rank in range(_own_rank(name), MAX_RANK + 1)]


def name_of_key(key: str) -> str | None:
    """Invert `image_key`, or None where the key ends as a hashed one does and cannot tell."""
    if _HASHED.search(key):
        return None
    raw = re.sub(rb"=([0-9A-F]{2})", lambda m: bytes([int(m[1], 16)]), key.encode("ascii"))
    return raw.decode("utf-8", "surrogateescape")


def _own_rank(name: str) -> int:
    """Rank that the name has without any clash: 1 for long ones."""
    return int(len(_flatten(name)) > MAX_BYTES)


def _flatten(name: str) -> str:
    """The whole name with unsafe bytes escaped; the first byte too, where Zarr would misread it."""
    raw = name.encode("utf-8", "surrogateescape")
    key = name if _SAFE.fullmatch(name) else "".join(map(_ESCAPES.__getitem__, raw))
    return f"={raw[0]:02X}{key[1:]}" if _RESERVED.fullmatch(key) else key
