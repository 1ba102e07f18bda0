"""Images: find them, probe their headers, decode them, plan blocks, open them lazily.

Files that cannot be used are rejected with a code:

==================  ============================================================================
``empty``           zero bytes
``missing``         not there, or a link to nothing
``link_loop``       a symbolic link that leads back to itself or to a folder above it
``not_regular``     a FIFO, socket, device or folder where a file is expected
``unreadable``      permission denied, or the disk cannot read it
``not_image``       no known image header
``unsupported``     a picture of a kind kmdist does not read: CIE Lab, volumes; or not yet installed
``truncated``       the file ends before the picture does
``corrupt``         a checksum is wrong, or the decoder gives up
``too_large``       more pixels than allowed for an image that is decoded whole
``channels``        other than 1, 3 or 4 channels (grey with alpha is made RGBA)
``dtype``           samples other than 8 and 16 bit unsigned integers and floating point
``non_finite``      NaN or infinite values
``range``           floating point values outside 0 … 1
``transparent``     nothing but transparent pixels (where every image has its own palette)
``changed``         the file is not what it was when its header was read
``lost``            it killed the workers that tried it, the last of them alone
``memory``          it takes more memory than there is, with nothing else at work
==================  ============================================================================
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kmdist.images.finding.choice import EVERYTHING, Choice
from kmdist.images.finding.find import Found, find_images
from kmdist.images.source import (
    LOST,
    NOT_THEIR_OWN,
    SHORT_OF_MEMORY,
    ImageSource,
    Rejection,
)

if TYPE_CHECKING:
    from kmdist.images.blocks import Block, Part, Window, plan_blocks, shard_windows
    from kmdist.images.collection import ImageCollection, open_images
    from kmdist.images.pixels import to_rgb8
    from kmdist.images.reading.decoding import decode
    from kmdist.images.reading.header import probe

_HOMES = {
    **dict.fromkeys(
        ("Block", "Part", "Window", "plan_blocks", "shard_windows"), "kmdist.images.blocks"
    ),
    "ImageCollection": "kmdist.images.collection",
    "decode": "kmdist.images.reading.decoding",
    "open_images": "kmdist.images.collection",
    "probe": "kmdist.images.reading.header",
    "to_rgb8": "kmdist.images.pixels",
}

__all__ = [
    "EVERYTHING",
    "LOST",
    "NOT_THEIR_OWN",
    "SHORT_OF_MEMORY",
    "Block",
    "Choice",
    "Found",
    "ImageCollection",
    "ImageSource",
    "Part",
    "Rejection",
    "Window",
    "decode",
    "find_images",
    "open_images",
    "plan_blocks",
    "probe",
    "shard_windows",
    "to_rgb8",
]


def __getattr__(name: str) -> Any:
    # These need NumPy, OpenCV, Pillow or Dask: imported on first use.
    if name not in _HOMES:
        raise AttributeError(f"module 'kmdist.images' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
