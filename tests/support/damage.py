"""Image files damaged at random: each is decoded, or rejected with a known code."""

from pathlib import Path

import numpy as np

import kmdist.images
from kmdist.errors import ImageError
from kmdist.images import Found, decode, probe, to_rgb8
from tests.support.corpus import encode, encode_tiff, photo

CODES = frozenset(
    {
        line.split("``")[1]
        for line in (kmdist.images.__doc__ or "").splitlines()
        if line.startswith("``")
    }
)

MAX_PIXELS = 10_000_000

FORMS = {
    "jpeg": encode(photo(96, 120), "JPEG", quality=90),
    "progressive": encode(photo(96, 120), "JPEG", progressive=True),
    "png": encode(photo(96, 120), "PNG"),
    "tiff": encode_tiff(photo(96, 120), photometric="rgb", compression="deflate", tile=(32, 32)),
    "strips": encode_tiff(photo(96, 120), photometric="rgb", rowsperstrip=9),
    "lzw": encode(photo(96, 120), "TIFF", compression="tiff_lzw"),
    "webp": encode(photo(96, 120), "WEBP"),
    "lossless": encode(photo(96, 120), "WEBP", lossless=True),
    "gif": encode(photo(96, 120), "GIF"),
    "avif": encode(photo(96, 120), "AVIF"),
}


def outcome(found: Found) -> tuple[int, int] | str:
    """Size of a usable image, or the code of its fault."""
    try:
        source = probe(found, max_pixels=MAX_PIXELS)
        rgb, _ = to_rgb8(decode(source))
    except ImageError as error:
        return error.code if error.reason else "no reason"
    assert rgb.shape == (source.height, source.width, 3)
    return source.width, source.height


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip 1 to 8 bits, half of them near the start, or cut, or both."""
    changed = bytearray(data)
    kind = rng.integers(3)
    if kind != 1:
        for _ in range(rng.integers(1, 9)):
            reach = len(changed) if rng.integers(2) else min(len(changed), 300)
            changed[rng.integers(reach)] ^= 1 << int(rng.integers(8))
    if kind != 0:
        del changed[rng.integers(1, len(changed)) :]
    return bytes(changed)


def check_damaged(folder: Path, count: int, seed: int) -> dict[str, int]:
    """Damage files at random: each is decoded or rejected with a known code."""
    rng = np.random.default_rng(seed)
    tally: dict[str, int] = {}
    for number in range(count):
        form = list(FORMS)[number % len(FORMS)]
        path = folder / f"{form}.img"
        path.write_bytes(damaged(FORMS[form], rng))
        result = outcome(Found(path.name, str(path)))
        code = result if isinstance(result, str) else "good"
        assert code == "good" or code in CODES
        tally[code] = tally.get(code, 0) + 1
    return tally


def peak_kib() -> int:
    """Peak resident memory of this program; ``ru_maxrss`` would count its parent's too."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
