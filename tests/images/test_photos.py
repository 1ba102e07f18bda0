"""Pictures of phones, cameras and studios: HEIC, JPEG XL, camera raw, Photoshop, OpenEXR."""

import contextlib
import io
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR
import pillow_heif
import pillow_jxl  # noqa: F401 (registers its writer with Pillow)
import pytest
import tifffile
from PIL import Image

from kmdist.errors import ImageError
from kmdist.images import Found, ImageSource, decode, find_images, probe, to_rgb8
from kmdist.images.reading import integrity
from kmdist.images.reading.pillow_images import read_jpegxl
from tests.support.corpus import encode, orientation, photo
from tests.support.profiles import AS_SRGB, P3, PLAIN

pillow_heif.register_heif_opener()
PICTURE = photo(24, 36)
RGBA = np.dstack([PICTURE, np.arange(24 * 36).reshape(24, 36) % 256]).astype(np.uint8)


def source_of(folder: Path, name: str, data: bytes) -> ImageSource:
    (folder / name).write_bytes(data)
    return probe(Found(name, str(folder / name)))


def psd(pixels: np.ndarray, icc: bytes = b"") -> bytes:
    """A Photoshop document that is nothing but its composite (Adobe, 2019)."""
    height, width, channels = pixels.shape
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, channels, height, width, 8, 3)
    resource = b"8BIM" + struct.pack(">HHI", 1039, 0, len(icc)) + icc + bytes(len(icc) % 2)
    resources = resource if icc else b""
    planes = np.moveaxis(pixels, -1, 0).tobytes()
    sections = struct.pack(">II", 0, len(resources)) + resources + struct.pack(">IH", 0, 0)
    return head + sections + planes


def dng(flip: int = 1) -> bytes:
    """Camera raw whose red, green and blue sites all see the same light."""
    light = np.repeat(np.linspace(2_000, 60_000, 64, dtype=np.uint16)[None], 48, axis=0)
    identity = tuple(int(v) for one in np.eye(3).ravel() for v in (one * 10_000, 10_000))
    tags: list[tuple[int, Any, int, Any, bool]] = [
        (50706, "B", 4, (1, 4, 0, 0), True),
        (33421, "H", 2, (2, 2), True),
        (33422, "B", 4, (0, 1, 1, 2), True),
        (50708, "s", 0, "Test Camera", True),
        (50721, "2i", 9, identity, True),
        (50728, "2I", 3, (1, 1, 1, 1, 1, 1), True),
        (50778, "H", 1, 21, True),
        (50717, "I", 1, 65_535, True),
        (274, "H", 1, flip, True),
    ]
    out = io.BytesIO()
    tifffile.imwrite(out, light, photometric="cfa", extratags=tags, metadata=None, software=None)
    return out.getvalue()


def exr(channels: dict[str, np.ndarray], **header: Any) -> bytes:
    out = io.BytesIO()
    form = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, **header}
    OpenEXR.File(form, channels).write(out)
    return out.getvalue()


def linear(colours: np.ndarray) -> np.ndarray:
    share = colours / 255
    encoded = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return encoded.astype(np.float32)


@pytest.mark.parametrize("value", [1, 6])
def test_heic(tmp_path: Path, value: int) -> None:
    data = encode(PICTURE, "HEIF", quality=100, chroma=444, exif=orientation(value))
    source = source_of(tmp_path, "phone.heic", data)
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(opened.convert("RGB"))
    assert (source.format, source.channels) == ("heif", 3)
    np.testing.assert_array_equal(decode(source), expected)


def test_jpeg_xl(tmp_path: Path) -> None:
    source = source_of(tmp_path, "a.jxl", encode(PICTURE, "JXL", lossless=True))
    np.testing.assert_array_equal(decode(source), PICTURE)
    source = source_of(tmp_path, "b.jxl", encode(RGBA, "JXL", lossless=True))
    np.testing.assert_array_equal(decode(source), RGBA)


def test_photoshop_composites(tmp_path: Path) -> None:
    source = source_of(tmp_path, "a.psd", psd(PICTURE))
    assert source.pages == 1
    np.testing.assert_array_equal(decode(source), PICTURE)
    np.testing.assert_array_equal(decode(source_of(tmp_path, "b.psd", psd(RGBA))), RGBA)


@pytest.mark.parametrize("flip", [1, 6])
def test_camera_raw(tmp_path: Path, flip: int) -> None:
    source = source_of(tmp_path, "camera.dng", dng(flip))
    pixels = decode(source)
    assert pixels.shape == ((64, 48, 3) if flip == 6 else (48, 64, 3))
    along = pixels.mean(axis=(1, 2) if flip == 6 else (0, 2))
    assert (np.diff(along[4:-4]) >= 0).all()
    assert along[-5] > along[4] + 100


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "Y", "half"])
def test_openexr(tmp_path: Path, kind: str) -> None:
    light = linear(PICTURE)
    if kind == "RGBA":
        alpha = np.full((24, 36, 1), 0.5, np.float32)
        channels = {"RGBA": np.concatenate([light * alpha, alpha], axis=2)}
    elif kind == "Y":
        channels = {"Y": light[:, :, 0].copy()}
    else:
        channels = {"RGB": light.astype(np.float16) if kind == "half" else light}
    source = source_of(tmp_path, "a.exr", exr(channels))
    pixels = decode(source)
    assert source.channels == {"RGBA": 4, "Y": 1}.get(kind, 3)
    colours = pixels[:, :, : 1 if kind == "Y" else 3] * 255
    np.testing.assert_allclose(colours, PICTURE[:, :, : colours.shape[2]], atol=0.6)


def test_bright_light_is_clipped_and_other_primaries_converted(tmp_path: Path) -> None:
    light = np.full((4, 6, 3), [0.25, 1.0, 70.0], np.float32)
    clipped = decode(source_of(tmp_path, "a.exr", exr({"RGB": light})))
    np.testing.assert_allclose(clipped[0, 0] * 255, [137, 255, 255], atol=0.6)
    points = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290)
    data = exr({"RGB": linear(PLAIN)}, chromaticities=points)
    rgb, _ = to_rgb8(decode(source_of(tmp_path, "p3.exr", data)))
    assert rgb[0, 0].tolist() == list(AS_SRGB)


@pytest.mark.parametrize("form", ["HEIF", "psd"])
def test_profiles(tmp_path: Path, form: str) -> None:
    options = {"quality": 100, "chroma": 444, "icc_profile": P3}
    data = psd(PLAIN, P3) if form == "psd" else encode(PLAIN, form, **options)
    source = source_of(tmp_path, f"a.{form.lower()}", data)
    assert source.profile == "converted"
    np.testing.assert_allclose(to_rgb8(decode(source))[0][0, 0].astype(int), AS_SRGB, atol=1)


MAKERS = {
    "a.heic": lambda: encode(photo(8, 8), "HEIF"),
    "a.jxl": lambda: encode(photo(8, 8), "JXL"),
    "a.psd": lambda: psd(photo(8, 8)),
    "a.exr": lambda: exr({"RGB": linear(photo(8, 8))}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
def test_every_prefix(tmp_path: Path, name: str) -> None:
    data = MAKERS[name]()
    whole = decode(source_of(tmp_path, name, data))
    for length in range(len(data)):
        try:
            pixels = decode(source_of(tmp_path, name, data[:length]))
        except ImageError:
            continue
        np.testing.assert_array_equal(pixels, whole)


@pytest.mark.parametrize(
    ("name", "package"),
    [("a.heic", "pillow_heif"), ("a.jxl", "pillow_jxl"), ("a.exr", "OpenEXR"), ("a.dng", "rawpy")],
)
def test_an_absent_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    monkeypatch.setattr("kmdist.images.finding.formats.find_spec", lambda _: None)
    with pytest.raises(ImageError, match=rf"{package}.*kmdist\[photos\]") as caught:
        source_of(tmp_path, name, dng() if name == "a.dng" else MAKERS[name]())
    assert caught.value.code == "unsupported"


def test_they_are_found_in_folders(tmp_path: Path) -> None:
    names = ["a.HEIC", "b.jxl", "c.CR2", "d.psd", "e.exr"]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    assert [one.name for one in find_images([tmp_path])[0]] == names


@pytest.mark.parametrize("box", [True, False])
@pytest.mark.parametrize(
    "size", [(1, 1), (8, 8), (256, 8), (36, 24), (301, 200), (1000, 40), (48, 40)]
)
def test_header_of_jpeg_xl_is_read_without_its_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], *, box: bool
) -> None:
    data = encode(np.zeros((size[1], size[0], 3), np.uint8), "JXL", use_container=box)
    assert read_jpegxl(io.BytesIO(data)) == (*size, 3)
    (tmp_path / "a.jxl").write_bytes(data)
    monkeypatch.delattr("pillow_jxl.JpegXLImagePlugin.JXLImageFile._open")
    with pytest.raises(ImageError, match="more than the 0 allowed") as caught:
        probe(Found("a.jxl", str(tmp_path / "a.jxl")), max_pixels=0)
    assert caught.value.code == "too_large"
    source = probe(Found("a.jxl", str(tmp_path / "a.jxl")))
    assert (source.width, source.height, source.channels) == (*size, 3)


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("kind", ["L", "RGB", "RGBA", "LA", "I;16"])
def test_header_of_jpeg_xl_says_what_its_pixels_are(
    tmp_path: Path, kind: str, *, lossless: bool
) -> None:
    image = Image.fromarray(PICTURE[..., 0].astype(np.uint16) * 257)
    if kind != "I;16":
        image = Image.fromarray(RGBA).convert(kind)
    channels = {"L": 1, "RGB": 3, "RGBA": 4, "LA": 4, "I;16": 1}[kind]
    data = encode(image, "JXL", lossless=lossless)
    header = read_jpegxl(io.BytesIO(data))
    assert header == (36, 24, 0 if kind == "I;16" else channels)
    assert decode(source_of(tmp_path, "a.jxl", data)).shape == (24, 36, channels)


DAMAGED = {
    "cmyk.tif": lambda: encode(Image.fromarray(PICTURE).convert("CMYK"), "TIFF", **LZW),
    "a.jpg": lambda: encode(PICTURE, "JPEG", progressive=True),
    "a.png": lambda: encode(PICTURE, "PNG"),
    "a.exr": MAKERS["a.exr"],
    "a.dng": dng,
}
LZW = {"compression": "tiff_lzw"}


@pytest.mark.parametrize("name", DAMAGED)
def test_libraries_say_nothing_of_damaged_files(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Bytes are overwritten here and there; Python's own stderr is heard."""
    whole = DAMAGED[name]()
    for place in range(0, len(whole), max(1, len(whole) // 100)):
        data = whole[:place] + b"\xa5\xff\xda\0" + whole[place + 4 :]
        with contextlib.suppress(ImageError):
            decode(source_of(tmp_path, name, data))
    with integrity.silenced():
        sys.stderr.write("heard\n")
    assert capfd.readouterr() == ("", "heard\n")
