"""Quantizing photographs: what the design's targets rest on.

Part ``a``: fitting and labelling in memory against other k-means programs. Parts ``b``, ``c``
and ``d``: whole collections against decoding once, and peak memory. Part ``e``: single
photographs against libimagequant.
"""

import argparse
from collections.abc import Callable

from benchmarks import quantize_collection, quantize_fit

PARTS: dict[str, Callable[[], None]] = {
    "a": lambda: quantize_fit.compare_fits([8, 16, 256], quantize_fit.PEERS),
    "b": lambda: quantize_collection.main(["--parts", "b"]),
    "c": lambda: quantize_collection.main(["--parts", "c"]),
    "d": lambda: quantize_collection.main(["--parts", "d"]),
    "e": quantize_fit.compare_single_images,
}


def main(argv: list[str]) -> None:
    """Run the parts asked for, all by default; b and c take minutes and gigabytes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks quantize", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parts = parser.parse_args(argv).parts or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    for part in parts:
        PARTS[part]()
