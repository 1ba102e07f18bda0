"""A folder with one file of every bad kind, some good ones and some good oddities."""

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from PIL import Image

HEIGHT, WIDTH = 48, 64


@dataclass(frozen=True)
class Corpus:
    """What lies in the folder.

    Parameters
    ----------
    bad : code each file is to be rejected with, by name.
    good : (width, height) after orientation, by name.
    ignored : names of files that are no images and are not to be told of.
    """

    folder: Path
    bad: dict[str, str] = field(default_factory=dict)
    good: dict[str, tuple[int, int]] = field(default_factory=dict)
    ignored: set[str] = field(default_factory=set)


def photo(height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    """Smooth colours with a little noise, (height, width, 3) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (5 + 3 * c) + c) + np.cos(y / (7 - c) + seed) for c in range(3)]
    return (127 + 50 * np.stack(waves, -1) + rng.normal(0, 4, (height, width, 3))).astype(np.uint8)


def encode(pixels: np.ndarray | Image.Image, form: str, **options: Any) -> bytes:
    """Bytes of a file as Pillow writes it."""
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def encode_tiff(pixels: np.ndarray, **options: Any) -> bytes:
    """Bytes of a TIFF as tifffile writes it."""
    out = io.BytesIO()
    tifffile.imwrite(out, pixels, **options)
    return out.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One PNG chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_zeros(width: int, height: int) -> bytes:
    """A one-bit PNG of any size in few bytes."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = b"\0" * ((width + 7) // 8 + 1)
    data = b"".join(packer.compress(row * 100) for _ in range(-(-height // 100))) + packer.flush()
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def jpeg_with_thumbnail() -> bytes:
    """A JPEG whose EXIF holds a whole small JPEG, with an end marker of its own."""
    exif = Image.Exif()
    exif[0x010E] = "caption"
    thumbnail = encode(photo(24, 32), "JPEG")
    segment = b"Exif\0\0" + exif.tobytes()[6:] + thumbnail
    plain = encode(photo(), "JPEG")
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]


def orientation(value: int) -> Image.Exif:
    """EXIF with nothing but an orientation."""
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def flipped(data: bytes, position: int) -> bytes:
    """The same bytes with one of them inverted."""
    changed = bytearray(data)
    changed[position] ^= 0xFF
    return bytes(changed)


def make_corpus(folder: Path) -> Corpus:
    """Make the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus = Corpus(folder)
    for kinds, codes in ((_bad_encodings(), corpus.bad), (_bad_tiffs(), corpus.bad)):
        for name, (code, data) in kinds.items():
            (folder / name).write_bytes(data)
            codes[name] = code
    _add_irregular(corpus)
    _add_zarr(corpus)
    _add_good(corpus)
    _add_ignored(corpus)
    return corpus


def _bad_encodings() -> dict[str, tuple[str, bytes]]:
    jpeg = encode(photo(), "JPEG", quality=90)
    progressive = encode(photo(), "JPEG", progressive=True)
    png, thumbnailed = encode(photo(), "PNG"), jpeg_with_thumbnail()
    after_thumbnail = thumbnailed.index(b"\xff\xd9") + 2
    middle = png.index(b"IDAT") + 40
    cut = {
        form: data[: len(data) * 2 // 3]
        for form in ("WEBP", "AVIF", "GIF", "BMP", "JPEG2000")
        for data in [encode(photo(), form)]
    }
    return {
        "empty.jpg": ("empty", b""),
        "text.jpg": ("not_image", b"This is no picture at all.\n"),
        "page.png": ("not_image", b"<!DOCTYPE html><html><body>404</body></html>"),
        "preallocated.jpg": ("not_image", b"\0" * 5_000),
        "truncated.jpg": ("truncated", jpeg[: len(jpeg) // 2]),
        "one_byte_short.jpg": ("truncated", jpeg[:-1]),
        "zero_tail.jpg": ("truncated", jpeg[: len(jpeg) // 2] + b"\0" * 3_000),
        "progressive.jpg": ("truncated", progressive[: len(progressive) * 3 // 4]),
        "cut_after_thumbnail.jpg": ("truncated", thumbnailed[:after_thumbnail]),
        "cut_in_header.jpg": ("truncated", jpeg[:100]),
        "no_scan.jpg": ("corrupt", jpeg[: jpeg.index(b"\xff\xda")] + b"\xff\xd9"),
        "truncated.png": ("truncated", png[: len(png) // 2]),
        "no_end_chunk.png": ("truncated", png[:-12]),
        "bad_crc.png": ("corrupt", flipped(png, middle)),
        "bad_header_crc.png": ("corrupt", flipped(png, 30)),
        "no_pixels.png": ("corrupt", png_of_zeros(0, 10)),
        "bomb.png": ("too_large", png_of_zeros(20_000, 20_000)),
        "bomb.gif": ("too_large", _gif_of_one_pixel(40_000, 40_000)),
        "truncated.webp": ("truncated", cut["WEBP"]),
        "truncated.avif": ("truncated", cut["AVIF"]),
        "truncated.gif": ("truncated", cut["GIF"]),
        "truncated.bmp": ("truncated", cut["BMP"]),
        "truncated.jp2": ("truncated", cut["JPEG2000"]),
        "phone.heic": ("corrupt", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 100),
        "camera.nef": ("corrupt", encode_tiff(photo())),
        "layers.psd": ("corrupt", b"8BPS\0\x01" + b"\0" * 100),
    }


def _gif_of_one_pixel(width: int, height: int) -> bytes:
    """A GIF of any size whose only frame is one pixel."""
    screen = struct.pack("<HHBBB", width, height, 0, 0, 0)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x4c\x01\0"
    return b"GIF89a" + screen + frame + b";"


def _bad_tiffs() -> dict[str, tuple[str, bytes]]:
    picture = photo()
    grey = picture[:, :, 0]
    unit = grey.astype(np.float32) / 255
    tiff = encode_tiff(picture, photometric="rgb", compression="deflate", tile=(16, 16))
    holed, endless, loud = unit.copy(), unit.copy(), unit * 3
    holed[3, 5], endless[7, 2] = np.nan, np.inf
    five = np.dstack([picture, grey, grey])
    volume = {"volumetric": True, "tile": (16, 16, 16), "photometric": "minisblack"}
    return {
        "truncated.tif": ("truncated", tiff[: len(tiff) * 2 // 3]),
        "truncated_plain.tif": ("truncated", encode_tiff(picture, photometric="rgb")[:-500]),
        "no_directory.tif": ("truncated", b"II*\0" + struct.pack("<I", 4_000) + b"\0" * 500),
        "nan.tif": ("non_finite", encode_tiff(holed)),
        "infinite.tif": ("non_finite", encode_tiff(endless)),
        "loud.tif": ("range", encode_tiff(loud)),
        "two_channels.tif": ("channels", _two_channels(picture)),
        "five_channels.tif": ("channels", encode_tiff(five, photometric="rgb")),
        "int16.tif": ("dtype", encode_tiff(grey.astype(np.int16))),
        "uint32.tif": ("dtype", encode_tiff(grey.astype(np.uint32))),
        "complex.tif": ("dtype", encode_tiff(unit.astype(np.complex64))),
        "volume.tif": ("unsupported", encode_tiff(np.stack([grey] * 16), **volume)),
        "lab.tif": ("unsupported", encode_tiff(picture, photometric="cielab")),
    }


def _two_channels(picture: np.ndarray) -> bytes:
    layout = {"photometric": "minisblack", "planarconfig": "contig"}
    return encode_tiff(picture[:, :, :2].copy(), extrasamples=["unspecified"], **layout)


def _add_irregular(corpus: Corpus) -> None:
    folder, bad = corpus.folder, corpus.bad
    os.mkfifo(folder / "pipe.jpg")
    os.mkfifo(folder / "pipe")
    bad["pipe.jpg"] = bad["pipe"] = "not_regular"
    os.symlink("loop_b.jpg", folder / "loop_a.jpg")
    os.symlink("loop_a.jpg", folder / "loop_b.jpg")
    bad["loop_a.jpg"] = bad["loop_b.jpg"] = "link_loop"
    os.symlink("nowhere.jpg", folder / "dangling.jpg")
    bad["dangling.jpg"] = "missing"
    (folder / "sub").mkdir()
    os.symlink("..", folder / "sub" / "up")
    bad["sub/up"] = "link_loop"
    _bind_socket(folder, "socket.png")
    bad["socket.png"] = "not_regular"
    os.symlink("/dev/zero", folder / "device.jpg")
    bad["device.jpg"] = "not_regular"


def _bind_socket(folder: Path, name: str) -> None:
    # The path of a socket may have 108 bytes at most, and temporary folders are long.
    here = Path.cwd()
    os.chdir(folder)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(name)
    finally:
        os.chdir(here)


def _add_zarr(corpus: Corpus) -> None:
    folder = corpus.folder
    arrays: dict[str, tuple[str, np.ndarray]] = {
        "labels.zarr": ("dtype", photo()[:, :, 0].astype(np.int32)),
        "two.zarr": ("channels", photo()[:, :, :2].copy()),
        "broken.zarr": ("corrupt", photo()),
    }
    for name, (code, array) in arrays.items():
        zarr.create_array(folder / name, data=array, chunks=array.shape)
        corpus.bad[name] = code
    chunk = next(path for path in (folder / "broken.zarr" / "c").rglob("*") if path.is_file())
    chunk.write_bytes(chunk.read_bytes()[:50])
    zarr.create_array(folder / "good.zarr", data=photo(), chunks=(16, 16, 3))
    corpus.good["good.zarr"] = (WIDTH, HEIGHT)
    zarr.create_group(folder / "run.zarr", attributes={"kmdist": {"schema": 1}})
    corpus.ignored.add("run.zarr")


def _add_good(corpus: Corpus) -> None:
    picture, sideways = photo(), orientation(6)
    mpo = encode(picture, "MPO", save_all=True, append_images=[Image.fromarray(photo(seed=1))])
    jpeg = encode(picture, "JPEG")
    palette = Image.fromarray(picture).quantize(16)
    upright, turned = (WIDTH, HEIGHT), (HEIGHT, WIDTH)
    makers: dict[str, tuple[tuple[int, int], Callable[[], bytes]]] = {
        "photo1.jpg": (upright, lambda: encode(photo(seed=1), "JPEG")),
        "photo2.png": (upright, lambda: encode(photo(seed=2), "PNG")),
        "photo3.webp": (upright, lambda: encode(photo(seed=3), "WEBP")),
        "photo4.tif": (upright, lambda: encode_tiff(photo(seed=4), photometric="rgb")),
        "sub/photo5.jpg": (upright, lambda: encode(photo(seed=5), "JPEG", progressive=True)),
        "motion.jpg": (upright, lambda: jpeg + np.random.default_rng(0).bytes(50_000)),
        "stereo.mpo": (upright, lambda: mpo),
        "cut_stereo.mpo": (upright, lambda: mpo[:-400]),
        "thumbnail.jpg": (upright, jpeg_with_thumbnail),
        "sideways.jpg": (turned, lambda: encode(picture, "JPEG", exif=sideways)),
        "sideways.png": (turned, lambda: encode(picture, "PNG", exif=sideways)),
        "cmyk.jpg": (upright, lambda: encode(Image.fromarray(picture).convert("CMYK"), "JPEG")),
        "one_pixel.png": ((1, 1), lambda: encode(photo(1, 1), "PNG")),
        "one_pixel.jpg": ((1, 1), lambda: encode(photo(1, 1), "JPEG")),
        "palette.png": (upright, lambda: encode(palette, "PNG", transparency=3)),
        "animation.gif": (
            upright,
            lambda: encode(picture, "GIF", save_all=True, append_images=[palette]),
        ),
        "deep.tif": (upright, lambda: encode_tiff(picture.astype(np.uint16) * 257)),
        "unit.tif": (upright, lambda: encode_tiff(picture[:, :, 0].astype(np.float32) / 255)),
        "no_suffix": (upright, lambda: jpeg),
        "wrong_suffix.png": (upright, lambda: jpeg),
    }
    for name, (size, make) in makers.items():
        (corpus.folder / name).write_bytes(make())
        corpus.good[name] = size


def _add_ignored(corpus: Corpus) -> None:
    for name in ("notes.txt", "photo1.xmp", "index.json", ".DS_Store", ".hidden.jpg", "clip.mp4"):
        (corpus.folder / name).write_bytes(b"\0\x01 something beside the pictures")
        corpus.ignored.add(name)
    (corpus.folder / "README").write_text("no suffix, no image")
    corpus.ignored.add("README")
