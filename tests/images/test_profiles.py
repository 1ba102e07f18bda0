"""What a file says of its colours: converted to sRGB, left as they are, or said and ignored."""

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from kmdist import quantize
from kmdist.images import Found, ImageSource, Window, decode, probe, to_rgb8
from kmdist.images.reading.srgb import state_of
from tests.support.corpus import encode, encode_tiff, orientation, photo, png_chunk
from tests.support.profiles import (
    AS_SRGB,
    COLOUR,
    GREY_18,
    P3,
    P3_POINTS,
    PLAIN,
    SRGB,
    SRGB_POINTS,
    profile,
)

RGBA = np.dstack([PLAIN, np.full((4, 6), 128, np.uint8)])
GREY = np.full((4, 6), 100, np.uint8)
EXACT: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 100, "subsampling": 0},
    "TIFF": {"compression": "tiff_lzw"},
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}


def source_of(folder: Path, data: bytes, name: str = "a") -> ImageSource:
    (folder / name).write_bytes(data)
    return probe(Found(name, str(folder / name)))


def with_chunks(data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with chunks after its header."""
    return data[:33] + b"".join(png_chunk(*chunk) for chunk in chunks) + data[33:]


def points(*values: float) -> bytes:
    return struct.pack(">8I", *(round(value * 100_000) for value in values))


def colour_of(source: ImageSource) -> list[int]:
    rgb = to_rgb8(decode(source))[0]
    assert (rgb == rgb[0, 0]).all()
    return rgb[0, 0].tolist()


@pytest.mark.parametrize("form", EXACT)
@pytest.mark.parametrize(
    ("icc", "state", "expected"),
    [(P3, "converted", AS_SRGB), (SRGB, "", COLOUR), (P3[:200], "unusable", COLOUR)],
    ids=["p3", "srgb", "broken"],
)
def test_profiles(
    tmp_path: Path, form: str, icc: bytes, state: str, expected: tuple[int, ...]
) -> None:
    source = source_of(tmp_path, encode(PLAIN, form, icc_profile=icc, **EXACT[form]))
    assert source.profile == state
    assert colour_of(source) == list(expected)


@pytest.mark.parametrize("form", EXACT)
def test_an_srgb_profile_changes_no_byte(tmp_path: Path, form: str) -> None:
    picture = photo(30, 40)
    tagged = source_of(tmp_path, encode(picture, form, icc_profile=SRGB), "tagged")
    plain = source_of(tmp_path, encode(picture, form), "plain")
    np.testing.assert_array_equal(decode(tagged), decode(plain))


@pytest.mark.parametrize("form", EXACT)
def test_pixels_are_those_of_little_cms(tmp_path: Path, form: str) -> None:
    picture = photo(30, 40)
    plain = decode(source_of(tmp_path, encode(picture, form), "plain"))
    expected = ImageCms.profileToProfile(
        Image.fromarray(plain), ImageCms.getOpenProfile(_file(tmp_path, P3)), SRGB_PROFILE
    )
    tagged = source_of(tmp_path, encode(picture, form, icc_profile=P3), "tagged")
    np.testing.assert_array_equal(decode(tagged), np.asarray(expected))


SRGB_PROFILE = ImageCms.createProfile("sRGB")


def _file(folder: Path, data: bytes) -> str:
    (folder / "profile.icc").write_bytes(data)
    return str(folder / "profile.icc")


PURE = (216, 92, 24)  # (200, 100, 50) of Display P3's primaries with a curve of 2.2
PNG_CHUNKS: dict[str, tuple[list[tuple[bytes, bytes]], tuple[int, ...], str]] = {
    "cICP of P3": ([(b"cICP", bytes([12, 13, 0, 1]))], AS_SRGB, "converted"),
    "cICP of sRGB": ([(b"cICP", bytes([1, 13, 0, 1]))], COLOUR, ""),
    "cICP before iCCP": (
        [(b"cICP", bytes([1, 13, 0, 1])), (b"iCCP", b"p\0\0" + zlib.compress(P3))],
        COLOUR,
        "",
    ),
    "cICP of PQ": ([(b"cICP", bytes([9, 16, 0, 1]))], COLOUR, "unusable"),
    "short cICP": ([(b"cICP", bytes([12]))], COLOUR, "unusable"),
    "cHRM and gAMA": (
        [(b"cHRM", points(*P3_POINTS)), (b"gAMA", struct.pack(">I", 45_455))],
        PURE,
        "converted",
    ),
    "what goes with sRGB": (
        [(b"cHRM", points(*SRGB_POINTS)), (b"gAMA", struct.pack(">I", 45_455))],
        COLOUR,
        "",
    ),
    "linear gAMA": ([(b"gAMA", struct.pack(">I", 100_000))], (229, 168, 122), "converted"),
    "sRGB before gAMA": (
        [(b"gAMA", struct.pack(">I", 100_000)), (b"sRGB", b"\0")],
        COLOUR,
        "",
    ),
    "gAMA of 0": ([(b"gAMA", bytes(4))], COLOUR, "unusable"),
    "iCCP not compressed": ([(b"iCCP", b"p\0\0" + P3)], COLOUR, "unusable"),
    "cHRM of one point": ([(b"cHRM", points(*[0.3] * 8))], COLOUR, "unusable"),
}


@pytest.mark.parametrize("case", PNG_CHUNKS)
def test_png_says_it_in_four_ways(
    tmp_path: Path, case: str, capfd: pytest.CaptureFixture[str]
) -> None:
    chunks, expected, state = PNG_CHUNKS[case]
    source = source_of(tmp_path, with_chunks(encode(PLAIN, "PNG"), *chunks))
    assert colour_of(source) == list(expected)
    assert source.profile == state
    assert capfd.readouterr().err == ""


def test_alpha_is_kept(tmp_path: Path) -> None:
    layout = {"photometric": "rgb", "extrasamples": ["unassalpha"]}
    files = {
        "a.png": encode(RGBA, "PNG", icc_profile=P3),
        "a.webp": encode(RGBA, "WEBP", icc_profile=P3, lossless=True),
        "a.tif": encode_tiff(RGBA, iccprofile=P3, **layout),
    }
    for name, data in files.items():
        pixels = decode(source_of(tmp_path, data, name))
        assert (pixels == [*AS_SRGB, 128]).all(), name


def _deep_png() -> bytes:
    encoded = cv2.imencode(".png", PLAIN[:, :, ::-1].astype(np.uint16) * 257)[1].tobytes()
    return with_chunks(encoded, (b"iCCP", b"p\0\0" + zlib.compress(P3)))


@pytest.mark.parametrize("kind", ["png", "uint16", "float32", "float64"])
def test_depth_is_kept(tmp_path: Path, kind: str) -> None:
    scale = {"uint16": np.uint16(257)}.get(kind, 1 / 255)
    if kind == "png":
        data = _deep_png()
    else:
        deep = (PLAIN * scale).astype(kind)
        data = encode_tiff(deep, photometric="rgb", iccprofile=P3, tile=(16, 16))
    source = source_of(tmp_path, data)
    pixels = decode(source)
    assert pixels.dtype == ("uint16" if kind == "png" else kind)
    full = 65_535 if pixels.dtype == np.uint16 else 1
    # Display P3 to sRGB by the matrices of CSS Color 4, section 10.
    linear = np.array(COLOUR) / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    matrix = [[1.2249401763, -0.2249401763, 0], [-0.0420569547, 1.0420569547, 0]]
    mixed = np.array([*matrix, [-0.0196375546, -0.0786360456, 1.0982736001]]) @ linear
    expected = np.where(mixed <= 0.0031308, mixed * 12.92, 1.055 * mixed ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(pixels[0, 0] / full, expected, atol=0.001)
    part = decode(source, Window(1, 2, 3, 5))
    np.testing.assert_array_equal(part, pixels[1:3, 2:5])


def test_floats_out_of_range_are_still_refused(tmp_path: Path) -> None:
    data = encode_tiff(PLAIN.astype(np.float32), photometric="rgb", iccprofile=P3)
    with pytest.raises(Exception, match="rescale"):
        to_rgb8(decode(source_of(tmp_path, data)))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "deep", "float"])
def test_grey_profiles(tmp_path: Path, form: str) -> None:
    if form == "float":
        data = encode_tiff(GREY / np.float32(255), iccprofile=GREY_18)
    elif form == "deep":
        data = encode(GREY.astype(np.uint16) * 257, "PNG", icc_profile=GREY_18)
    else:
        data = encode(GREY, form, icc_profile=GREY_18)
    source = source_of(tmp_path, data)
    assert (source.profile, source.channels) == ("converted", 1)
    linear = (100 / 255) ** 1.8
    expected = round(255 * (1.055 * linear ** (1 / 2.4) - 0.055))
    assert colour_of(source) == [expected] * 3


def test_grey_in_an_rgb_space_is_its_neutral_axis(tmp_path: Path) -> None:
    adobe = profile((0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06), gamma=2.2)
    grey = colour_of(source_of(tmp_path, encode(GREY, "JPEG", icc_profile=adobe)))
    colour = np.dstack([GREY] * 3)
    assert grey == colour_of(source_of(tmp_path, encode(colour, "PNG", icc_profile=adobe)))


def test_a_profile_of_other_colours_is_ignored(tmp_path: Path) -> None:
    cmyk = Image.fromarray(PLAIN).convert("CMYK")
    plain = source_of(tmp_path, encode(cmyk, "JPEG"), "plain")
    tagged = source_of(tmp_path, encode(cmyk, "JPEG", icc_profile=P3), "tagged")
    assert tagged.profile == "unusable"
    np.testing.assert_array_equal(decode(tagged), decode(plain))
    assert source_of(tmp_path, encode(PLAIN, "PNG", icc_profile=GREY_18)).profile == "unusable"


def cmyk_profile() -> bytes:
    """Sixteen corners of ink as Lab, in a table of 8 bits (ICC.1, 10.11)."""
    corners = np.indices((2, 2, 2, 2)).reshape(4, -1).T
    lightness = 255 * np.prod(1 - corners * [0.3, 0.4, 0.1, 0.9], axis=1)
    table = np.stack([lightness, 128 - 40 * corners[:, 0], 128 + 60 * corners[:, 2]], axis=1)
    ramp = bytes(range(256))
    identity = np.eye(3, dtype=">i4") * 65_536
    head = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity.astype(">i4").tobytes()
    lut = head + ramp * 4 + table.round().astype(np.uint8).tobytes() + ramp * 3
    white = b"XYZ " + bytes(4) + struct.pack(">3I", 63_190, 65_536, 54_061)
    offset = 128 + 4 + 24
    tags = [b"A2B0" + struct.pack(">2I", offset, len(lut))]
    lut += bytes(-len(lut) % 4)
    tags.append(b"wtpt" + struct.pack(">2I", offset + len(lut), len(white)))
    body = struct.pack(">I", len(tags)) + b"".join(tags) + lut + white
    size = struct.pack(">I", 128 + len(body))
    header = size + b"lcms" + b"\2\x40\0\0" + b"prtrCMYKLab " + bytes(12) + b"acsp"
    illuminant = struct.pack(">3I", 63_190, 65_536, 54_061)
    return (header.ljust(68, b"\0") + illuminant).ljust(128, b"\0") + body


@pytest.mark.parametrize("form", ["JPEG", "TIFF", "LZW"])
def test_cmyk_profiles(tmp_path: Path, form: str) -> None:
    icc = cmyk_profile()
    cmyk = Image.fromarray(photo(20, 30)).convert("CMYK")
    options = {"compression": "tiff_lzw"} if form == "LZW" else {}
    data = encode(cmyk, form.replace("LZW", "TIFF"), icc_profile=icc, **options)
    source = source_of(tmp_path, data)
    assert (source.profile, source.channels) == ("converted", 3)
    with Image.open(source.path) as opened:
        from_profile = ImageCms.getOpenProfile(_file(tmp_path, icc))
        expected = ImageCms.profileToProfile(opened, from_profile, SRGB_PROFILE, outputMode="RGB")
    np.testing.assert_array_equal(decode(source), np.asarray(expected))
    assert np.abs(decode(source).astype(int) - np.asarray(cmyk.convert("RGB"))).max() > 20


def test_palettes_and_orientation(tmp_path: Path) -> None:
    palette = encode(Image.fromarray(PLAIN).quantize(4), "PNG", icc_profile=P3)
    assert colour_of(source_of(tmp_path, palette)) == list(AS_SRGB)
    turned = encode(PLAIN, "JPEG", icc_profile=P3, exif=orientation(6), **EXACT["JPEG"])
    source = source_of(tmp_path, turned)
    assert decode(source).shape == (6, 4, 3)
    assert colour_of(source) == list(AS_SRGB)


def test_code_points_of_avif(tmp_path: Path) -> None:
    data = encode(PLAIN, "AVIF", **EXACT["AVIF"])
    place = data.index(b"colrnclx") + 8
    p3 = data[:place] + struct.pack(">H", 12) + data[place + 2 :]
    assert colour_of(source_of(tmp_path, p3)) == list(AS_SRGB)


def test_a_profile_in_jpeg_2000_and_bmp(tmp_path: Path) -> None:
    jp2 = encode(PLAIN, "JPEG2000")
    start = jp2.index(b"colr") - 4
    old = int.from_bytes(jp2[start : start + 4], "big")
    box = struct.pack(">I", 11 + len(P3)) + b"colr\x02\0\0" + P3
    header = jp2.index(b"jp2h") - 4
    longer = int.from_bytes(jp2[header : header + 4], "big") + len(box) - old
    data = jp2[:header] + struct.pack(">I", longer) + jp2[header + 4 : start]
    source = source_of(tmp_path, data + box + jp2[start + old :], "a.jp2")
    assert colour_of(source) == list(AS_SRGB)
    rows = np.dstack([PLAIN[:, :, ::-1]]).tobytes()  # six pixels: 18 bytes, padded to 20
    rows = b"".join(rows[i : i + 18] + b"\0\0" for i in range(0, len(rows), 18))
    info = struct.pack("<IiiHHIIiiII", 124, 6, 4, 1, 24, 0, len(rows), 0, 0, 0, 0)
    info += bytes(16) + b"DEBM" + bytes(48) + struct.pack("<IIII", 4, 124 + len(rows), len(P3), 0)
    head = b"BM" + struct.pack("<IHHI", 14 + 124 + len(rows) + len(P3), 0, 0, 14 + 124)
    assert colour_of(source_of(tmp_path, head + info + rows + P3, "a.bmp")) == list(AS_SRGB)


def test_a_run_says_what_it_did_with_profiles(tmp_path: Path) -> None:
    for name, icc in (("p3", P3), ("broken", P3[:200]), ("srgb", SRGB)):
        (tmp_path / f"{name}.png").write_bytes(encode(PLAIN, "PNG", icc_profile=icc))
    said: list[Any] = []
    run = quantize(tmp_path, k=2, watch=said.append)
    texts = [one.text for one in said if hasattr(one, "text")]
    assert "converted to sRGB from the colour profile: 1 image" in texts
    assert "colour profile cannot be used in 1 image, taken as sRGB: broken.png" in texts
    assert sorted(run.palette.tolist()) == sorted([list(COLOUR), list(AS_SRGB)])


def test_one_transform_a_profile() -> None:
    before = state_of.cache_info().misses
    for _ in range(5):
        state_of(bytes(bytearray(P3)), "RGB")
    assert state_of.cache_info().misses <= before + 1
