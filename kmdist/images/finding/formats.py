"""Which files are images: by suffix when a folder is searched, by first bytes when one is read.

Zarr nodes are told by their metadata alone.
"""

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_READ = (
    "apng avif avifs bmp btf dib gif j2c j2k jfif jp2 jpc jpe jpeg jpf jpg jpx mpo ndpi pbm pcx "
    "exr heic heif hif jxl pfm pgm png pnm ppm psd qoi ras rgb sgi svs tf8 tga tif tiff webp"
)
_RAW = "3fr arw cr2 cr3 crw dng erf kdc mos nef nrw orf pef raf raw rw2 sr2 srw x3f"  # of cameras
_OTHER = "hdr psb"
_SIDECARS = (
    "7z aae avi bib bz2 cfg conf css csv db doc docx geojson gz h5 hdf5 htm html icc "
    "ini ipynb js json log m4a m4v mat md mkv mov mp3 mp4 mpeg mpg npy npz odt parquet pdf pkl "
    "pp3 py pyc rar rst sh sqlite svg tar tfw thm toml tsv txt wav wld xls xlsx xml xmp xz yaml "
    "yml zip zst"
)


def _dotted(suffixes: str) -> frozenset[str]:
    return frozenset("." + suffix for suffix in suffixes.split())


RAW_SUFFIXES = _dotted(_RAW)
"""Suffixes of camera raw files, many of which begin like a TIFF and hold a small one."""
SUFFIXES = _dotted(_READ) | RAW_SUFFIXES
"""Suffixes of images that are read."""
REFUSED_SUFFIXES = _dotted(_OTHER)
"""Suffixes of pictures that are not read: told of, so that nobody wonders where they are."""
SIDECAR_SUFFIXES = _dotted(_SIDECARS)
"""Suffixes of what lies beside images: passed over in a folder, without a look inside."""

SNIFFED_BYTES = 32

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"BM", "bmp"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jpeg2000"),
    (b"\xff\x4f\xff\x51", "jpeg2000"),
    (b"qoif", "qoi"),
    (b"\x01\xda", "sgi"),
    (b"\x59\xa6\x6a\x95", "sun"),
    (b"8BPS\0\1", "psd"),
    (b"\x76\x2f\x31\x01", "exr"),
    (b"\xff\x0a", "jpegxl"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "jpegxl"),
    (b"FUJIFILMCCD-RAW", "raw"),
)

_REFUSED_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"8BPS\0\2", "a large Photoshop document"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
)

_PACKAGES = {"exr": "OpenEXR", "heif": "pillow_heif", "jpegxl": "pillow_jxl", "raw": "rawpy"}
"""Formats that a package of the extra ``kmdist[photos]`` reads."""
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")

_WEAK = {".dib": (b"\x28\0\0\0", "dib"), ".pcx": (b"\x0a", "pcx"), ".tga": (b"", "tga")}
"""Formats with little or no magic: believed only together with their suffix."""


def detect(prefix: bytes, suffix: str) -> str | None:
    """The format of a file from its first bytes.

    Parameters
    ----------
    prefix : the first `SNIFFED_BYTES` bytes.
    suffix : of the file's name, lower case with its dot.

    Returns
    -------
    A name such as ``jpeg``, or None.
    """
    if suffix in RAW_SUFFIXES or _brand(prefix) == b"crx ":
        return "raw"
    for magic, kind in _MAGIC:
        if prefix.startswith(magic):
            return kind
    if prefix[:4] == b"RIFF" and prefix[8:12] == b"WEBP":
        return "webp"
    if prefix[4:8] == b"ftyp" and (b"avif" in prefix[8:] or b"avis" in prefix[8:]):
        return "avif"
    if _brand(prefix) in _HEIF_BRANDS:
        return "heif"
    if prefix[:1] == b"P" and prefix[1:2] in b"123456fF" and prefix[2:3] in b" \t\r\n#":
        return "ppm"
    if suffix in _WEAK:
        magic, kind = _WEAK[suffix]
        return kind if prefix.startswith(magic) else None
    return None


def refused(prefix: bytes) -> str | None:
    """What kind of picture a file is that is recognized but not read, or None."""
    return next((kind for magic, kind in _REFUSED_MAGIC if prefix.startswith(magic)), None)


def missing_package(kind: str) -> str | None:
    """The package that a format is read with and that is not installed, or None."""
    package = _PACKAGES.get(kind)
    return package if package is not None and find_spec(package) is None else None


def _brand(prefix: bytes) -> bytes:
    """Major brand of an ISO base media file."""
    return prefix[8:12] if prefix[4:8] == b"ftyp" else b""


ZARR_METADATA = ("zarr.json", ".zgroup", ".zarray")
MAX_METADATA_BYTES = 1 << 25
"""Of one Zarr node, consolidated metadata included, as of `kmdist.store.zarr_trees`."""


def is_zarr(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is a Zarr group or array, of format 2 or 3."""
    return any(os.path.isfile(os.path.join(path, name)) for name in ZARR_METADATA)


def is_zarr_image(path: str | os.PathLike[str]) -> bool:
    """Whether a Zarr node is an array or an OME-Zarr image: not a run of kmdist, or a mere group.

    Reads the node's own metadata alone: a folder of thousands of nodes is searched at the speed
    of its files.
    """
    node = zarr_metadata(Path(path))
    return node.get("node_type") == "array" or bool(multiscales(node.get("attributes", {})))


def holds_images(path: str | os.PathLike[str]) -> bool:
    """Whether a Zarr group is a plate, a row or a well of one, or the images of a conversion.

    OME-Zarr 0.5, sections "HCS" and "bioformats2raw.layout"; rows of a plate say nothing.
    """
    attributes = zarr_metadata(Path(path)).get("attributes", {})
    ome = attributes.get("ome", attributes)
    if not isinstance(ome, dict) or multiscales(attributes):
        return False
    if any(key in ome for key in ("plate", "well", "bioformats2raw.layout")):
        return True
    above = zarr_metadata(Path(path).resolve().parent).get("attributes", {})
    return "plate" in above.get("ome", above)


def zarr_metadata(path: Path) -> dict[str, Any]:
    """``node_type`` and ``attributes``, as format 3 names them; empty if there are none to read."""
    try:
        if (path / "zarr.json").is_file():
            node = _read_json(path / "zarr.json")
            return node if isinstance(node, dict) else {}
        read = _read_json(path / ".zattrs") if (path / ".zattrs").is_file() else {}
        kind = "array" if (path / ".zarray").is_file() else "group"
        return {"node_type": kind, "attributes": read}
    except (OSError, ValueError, RecursionError):
        return {}


def _read_json(path: Path) -> Any:
    if path.stat().st_size > MAX_METADATA_BYTES:
        raise ValueError(f"{path}: more than {MAX_METADATA_BYTES:,} bytes of metadata")
    return json.loads(path.read_text("utf-8"))


def multiscales(attributes: Any) -> Any:
    """The ``multiscales`` of OME-Zarr 0.5, or of 0.4 and before."""
    if not isinstance(attributes, dict):
        return None
    ome = attributes.get("ome", attributes)
    return ome.get("multiscales") if isinstance(ome, dict) else None
