"""Images: find them, probe their headers, decode them, plan blocks, open them lazily.

Files that cannot be used are rejected with a code:

==================  ============================================================================
``empty``           zero bytes
``missing``         not there, or a link to nothing
``link_loop``       a symbolic link that leads back to itself or to a folder above it
``not_regular``     a FIFO, socket, device or folder where a file is expected
``unreadable``      permission denied, or the disk cannot read it
``unreachable``     the object store did not answer, asked four times
``not_image``       no known image header
``unsupported``     a picture of a kind kmdist does not read: CIE Lab, volumes; or not yet installed
``truncated``       the file ends before the picture does
``corrupt``         a checksum is wrong, or the decoder gives up
``too_large``       more pixels than allowed for an image that is decoded whole
``too_costly``      a JPEG of so many scans that decoding it would take minutes
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

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
