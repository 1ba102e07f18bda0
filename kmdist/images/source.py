"""What is known of an image before it is decoded, and why one is left out."""

from dataclasses import dataclass, field

from kmdist.store import PIXELS, Grid


@dataclass(frozen=True)
class ImageSource:
    """One usable image, from its header.

    Parameters
    ----------
    name : path relative to its input folder, ``/`` between folders.
    path : where to read it.
    width, height : pixels, after EXIF orientation; rows of all planes.
    channels : 1, 3 or 4, of what `decode` returns.
    dtype : of what `decode` returns: uint8, uint16, float32 or float64.
    format : ``jpeg``, ``png``, ``tiff``, ``zarr`` …
    windowed : can be read by window: tiled or striped TIFF, Zarr.
    size_bytes, mtime_ns, ctime_ns : of the file when it was probed; of a Zarr image the size of
        its samples uncompressed, and the newest times in its tree.
    pages : pages or frames in the file, of which the first is used.
    orientation : EXIF orientation 1 … 8 (EXIF 2.32, tag 0x0112), which `decode` applies.
    decoder : ``opencv``, ``pillow``, ``photo``, ``tifffile`` or ``zarr``: who reads the pixels.
    profile : of its colours: empty for sRGB or none; ``converted`` where `decode` makes them sRGB;
        ``unusable`` where they are taken as sRGB because it is damaged.
    grid : where its pixels lie, of OME-Zarr.
    """

    name: str
    path: str
    width: int
    height: int
    channels: int
    dtype: str
    format: str
    windowed: bool = False
    size_bytes: int = -1
    mtime_ns: int = -1
    ctime_ns: int = -1
    pages: int = 1
    orientation: int = 1
    decoder: str = "opencv"
    profile: str = ""
    grid: Grid = PIXELS

    @property
    def planes(self) -> int:
        """Of a volume, whose planes are rows below one another; 1 of a picture."""
        return max(self.grid.planes, 1)

    @property
    def plane_height(self) -> int:
        """Rows of a plane."""
        return self.height // self.planes

    @property
    def pixels(self) -> int:
        """Pixels of the whole image."""
        return self.width * self.height


@dataclass(frozen=True)
class Header:
    """What a reader learns from a file's header, before orientation is applied.

    Parameters
    ----------
    width, height : pixels as stored.
    channels, dtype, windowed, pages, orientation, decoder, profile, grid : as of `ImageSource`.
    """

    width: int
    height: int
    channels: int
    dtype: str
    decoder: str
    windowed: bool = False
    pages: int = 1
    orientation: int = 1
    profile: str = ""
    grid: Grid = PIXELS


LOST = "lost"
"""Code of images that killed their workers."""
SHORT_OF_MEMORY = "memory"
"""Code of images that took more memory than there was."""
NOT_THEIR_OWN = frozenset({LOST, SHORT_OF_MEMORY, "changed", "unreachable"})
"""Codes of images left out for reasons that may be the machine's: they are worth another try."""


@dataclass(frozen=True)
class Rejection:
    """An image that is left out: its name, a stable code, and the reason in a sentence."""

    image: str
    code: str
    reason: str
    path: str = field(default="", compare=False)
    """Where it was found, of one that was not opened."""
