"""Write docs/formats.md: what is made of each format, found out by reading files of it.

python -m docs.format_table        (some minutes: every prefix of every small file is read)
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import OpenEXR
import pillow_heif
import pillow_jxl  # noqa: F401 (registers its writer with Pillow)

from kmdist.errors import ImageError
from kmdist.images import Found, decode, probe
from kmdist.images.finding.formats import detect
from tests.images.test_photos import dng, psd
from tests.support.corpus import encode, encode_tiff
from tests.support.profiles import AS_SRGB, P3, PLAIN
from tests.support.small_files import DEEP, GREY, PICTURE, RGBA, small_files

PATH = Path(__file__).parent / "formats.md"
NEAR_LOSSY, NEAR_EXACT = 6, 1
SUFFIXES = {
    "jpeg": ".jpg",
    "png": ".png",
    "webp": ".webp",
    "avif": ".avif",
    "gif": ".gif",
    "bmp": ".bmp",
    "dib": ".dib",
    "jpeg2000": ".jp2",
    "ppm": ".ppm",
    "tga": ".tga",
    "sgi": ".sgi",
    "pcx": ".pcx",
    "qoi": ".qoi",
    "sun": ".ras",
    "tiff": ".tif",
    "psd": ".psd",
    "heif": ".heic",
    "jpegxl": ".jxl",
    "exr": ".exr",
    "raw": ".dng",
}
PROFILE_NOTES = {
    "exr": "primaries, light is linear",
    "jpeg2000": "not read",
    "bmp": "not read",
    "dib": "not read",
}
Files = dict[str, Callable[[], bytes]]

TAGGED: Files = {
    "jpeg": lambda: encode(PLAIN, "JPEG", icc_profile=P3, quality=100, subsampling=0),
    "png": lambda: encode(PLAIN, "PNG", icc_profile=P3),
    "webp": lambda: encode(PLAIN, "WEBP", icc_profile=P3, lossless=True),
    "avif": lambda: encode(PLAIN, "AVIF", icc_profile=P3, quality=100, subsampling="4:4:4"),
    "tiff": lambda: encode_tiff(PLAIN, photometric="rgb", iccprofile=P3),
    "psd": lambda: psd(PLAIN, P3),
    "heif": lambda: encode(_large(PLAIN), "HEIF", icc_profile=P3, quality=-1, chroma=444),
    "jpegxl": lambda: imagecodecs.jpegxl_encode_jpeg(TAGGED["jpeg"]()),
}
WITH_ALPHA: Files = {
    "png": lambda: encode(RGBA, "PNG"),
    "webp": lambda: encode(RGBA, "WEBP", lossless=True),
    "avif": lambda: encode(RGBA, "AVIF", quality=100, subsampling="4:4:4"),
    "tga": lambda: encode(RGBA, "TGA"),
    "sgi": lambda: encode(RGBA, "SGI"),
    "qoi": lambda: encode(RGBA, "QOI"),
    "jpeg2000": lambda: encode(RGBA, "JPEG2000"),
    "tiff": lambda: encode_tiff(RGBA, photometric="rgb", extrasamples=["unassalpha"]),
    "psd": lambda: psd(RGBA),
    "heif": lambda: encode(RGBA, "HEIF", quality=-1, chroma=444),
    "jpegxl": lambda: encode(RGBA, "JXL", lossless=True),
}
DEEPER: dict[str, Files] = {
    "png": {"16 grey": lambda: encode(DEEP[:, :, 0], "PNG")},
    "ppm": {
        "16 grey": lambda: encode(DEEP[:, :, 0], "PPM"),
        "float32 grey": lambda: encode(GREY.astype(np.float32) / 255, "PPM"),
    },
    "tiff": {
        "16": lambda: encode_tiff(DEEP, photometric="rgb"),
        "float32": lambda: encode_tiff(PICTURE.astype(np.float32) / 255, photometric="rgb"),
        "float64": lambda: encode_tiff(PICTURE / 255, photometric="rgb"),
    },
    "exr": {"float32": lambda: _exr(PICTURE)},
}
ALPHA_NOTES = {
    "bmp": "not read",
    "dib": "not read",
    "gif": "one colour",
    "exr": "multiplied into the light",
}
DEPTH_NOTES = {
    "raw": "developed to 8",
    "avif": "10 and 12 become 8",
    "heif": "10 and 12 become 8",
    "jpegxl": "deeper become 8",
    "jpeg2000": "16 become 8",
    "sgi": "16 become 8",
}


def _large(pixels: np.ndarray) -> np.ndarray:
    return np.tile(pixels, (16, 11, 1))  # libheif pads what is smaller


def _exr(pixels: np.ndarray) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        header: dict[str, Any] = {
            "compression": OpenEXR.NO_COMPRESSION,
            "type": OpenEXR.scanlineimage,
        }
        light = (pixels / 255).astype(np.float32)
        OpenEXR.File(header, {"RGB": light}).write(f"{folder}/a.exr")
        return Path(folder, "a.exr").read_bytes()


def read(folder: Path, name: str, data: bytes) -> np.ndarray:
    """Pixels of a file.

    Raises
    ------
    ImageError : it is rejected.
    """
    path = folder / name
    path.write_bytes(data)
    return decode(probe(Found(name, str(path))))


def files_of() -> dict[str, dict[str, bytes]]:
    """Small files by format."""
    files = {
        **small_files(),
        "a.psd": psd(PICTURE),
        "a.dng": dng(),
        "a.exr": _exr(PICTURE),
        "a.heic": encode(PICTURE, "HEIF"),
        "a.jxl": encode(PICTURE, "JXL"),
    }
    found: dict[str, dict[str, bytes]] = {kind: {} for kind in SUFFIXES}
    for name, data in files.items():
        kind = detect(data[:32], Path(name).suffix)
        assert kind is not None, name
        found[kind][name] = data
    return found


def profile(folder: Path, kind: str) -> str:
    """What becomes of one colour of Display P3."""
    if kind not in TAGGED:
        return PROFILE_NOTES.get(kind, "holds none")
    pixels = read(folder, "a" + SUFFIXES[kind], TAGGED[kind]())
    far = int(np.abs(pixels[..., :3].astype(int) - AS_SRGB).max())
    return "pass" if far <= NEAR_LOSSY else f"FAIL: {far} levels off"


def alpha(folder: Path, kind: str) -> str:
    """What becomes of a ramp of alpha."""
    if kind not in WITH_ALPHA:
        return ALPHA_NOTES.get(kind, "holds none")
    pixels = read(folder, "a" + SUFFIXES[kind], WITH_ALPHA[kind]())
    if pixels.shape[2] != 4:
        return "FAIL: lost"
    far = int(np.abs(pixels[..., 3].astype(int) - RGBA[..., 3]).max())
    return "pass" if far <= NEAR_EXACT else f"FAIL: {far} levels off"


def depth(folder: Path, kind: str) -> str:
    """In which types samples are handed on."""
    passed = ["8"]
    for name, made in DEEPER.get(kind, {}).items():
        pixels = read(folder, "a" + SUFFIXES[kind], made())
        wanted = {"16": "uint16"}.get(name.split()[0], name.split()[0])
        passed.append(name if str(pixels.dtype) == wanted else f"FAIL: {name} is {pixels.dtype}")
    note = DEPTH_NOTES.get(kind)
    return ", ".join(passed) + (f"; {note}" if note else "")


def prefixes(folder: Path, files: dict[str, bytes]) -> str:
    """How many prefixes of how many files were read; each must be rejected, or have all pixels."""
    n_read, wrong = 0, []
    for name, data in files.items():
        whole = read(folder, name, data)
        for length in range(len(data)):
            n_read += 1
            try:
                pixels = read(folder, name, data[:length])
            except ImageError:
                continue
            if not np.array_equal(pixels, whole):
                wrong.append(f"{name} less {len(data) - length}")
    if wrong:
        return f"FAIL: {len(wrong)} of {n_read:,}, such as {wrong[0]}"
    files_said = "1 file" if len(files) == 1 else f"{len(files)} files"
    return f"pass: {n_read:,} of {files_said}"


def rows() -> Iterator[tuple[str, ...]]:
    """Rows of the table."""
    pillow_heif.register_heif_opener()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, files in files_of().items():
            yield (
                kind,
                profile(folder, kind),
                alpha(folder, kind),
                depth(folder, kind),
                prefixes(folder, files),
            )


HEAD = """# Formats

Written by `python -m docs.format_table`, which reads files of every format and compression: a
colour of Display P3 that must come out as sRGB, a ramp of alpha, deeper samples, and every prefix
of every file, which must be rejected or hold all pixels. OME-Zarr and Zarr arrays have no profile;
their last channel is alpha where there are 4, and all of their dtypes are those of TIFF.

| format | profile | alpha | bits a sample | every prefix |
|---|---|---|---|---|
"""


def main() -> None:
    """Write the table."""
    lines = ["| " + " | ".join(row) + " |" for row in rows()]
    PATH.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
