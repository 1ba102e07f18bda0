"""Files that cannot be used: rejected by name and reason, without crash, hang or memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kmdist.errors import ImageError
from kmdist.images import Found, decode, find_images, open_images, probe
from tests.support.corpus import Corpus, encode, encode_tiff, make_corpus, photo
from tests.support.damage import CODES, outcome
from tests.support.folders import ROOT


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return make_corpus(tmp_path_factory.mktemp("corpus") / "photos")


def test_every_file_of_the_corpus(corpus: Corpus) -> None:
    found, rejected = find_images([corpus.folder])
    outcomes = {one.name: outcome(one) for one in found}
    outcomes |= {one.image: one.code for one in rejected}
    assert outcomes == corpus.bad | corpus.good
    assert len(corpus.bad) >= 25
    assert set(corpus.bad.values()) <= CODES
    assert not set(outcomes) & corpus.ignored


def test_each_bad_file_named_itself_has_the_same_code(corpus: Corpus) -> None:
    for name, code in corpus.bad.items():
        if name == "sub/up":
            continue  # a folder: named itself it is searched
        found, rejected = find_images([corpus.folder / name])
        assert [one.code for one in rejected] or outcome(found[0]) == code, name


def test_reasons_help(corpus: Corpus) -> None:
    def reason(name: str) -> str:
        with pytest.raises(ImageError) as caught:
            decode(probe(Found(name, str(corpus.folder / name))))
        return caught.value.reason

    assert "400,000,000" in reason("bomb.png")
    assert "--max-pixels" in reason("bomb.png")
    assert "IDAT" in reason("bad_crc.png")
    assert "5 channels" in reason("five_channels.tif")
    assert "DOCTYPE" in reason("page.png")
    assert "HEIF" in reason("phone.heic")


def test_bad_files_write_nothing_to_the_terminal(
    corpus: Corpus, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in corpus.bad:
        if name.endswith((".png", ".jpg")):
            outcome(Found(name, str(corpus.folder / name)))
    assert capfd.readouterr() == ("", "")


def test_open_images_lists_the_rejected(corpus: Corpus) -> None:
    images = open_images(corpus.folder)
    codes = {one.image: one.code for one in images.rejected}
    at_decoding = {
        "nan.tif", "infinite.tif", "loud.tif", "bad_crc.png", "no_end_chunk.png", "broken.zarr",
        "truncated.jpg", "one_byte_short.jpg", "zero_tail.jpg", "progressive.jpg",
        "truncated.png", "truncated.webp", "truncated.avif", "no_scan.jpg",
        "truncated.gif", "truncated.bmp", "truncated.jp2",
    }  # fmt: skip
    assert codes == {name: corpus.bad[name] for name in codes}
    assert set(corpus.bad) - set(codes) <= at_decoding
    assert set(corpus.good) <= set(images)


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(photo(), "JPEG"))
    source = probe(Found("a.jpg", str(path)))
    if os.geteuid() == 0:  # root may read everything, so the system's answer is made up

        def refuse(*_: object, **__: object) -> int:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(os, "open", refuse)
    else:
        path.chmod(0)
    for attempt in (lambda: probe(Found("a.jpg", str(path))), lambda: decode(source)):
        with pytest.raises(ImageError, match="Permission denied") as caught:
            attempt()
        assert caught.value.code == "unreadable"


def test_files_that_change_after_probing(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode(photo(), "PNG"))
    source = probe(Found("a.png", str(path)))
    path.write_bytes(encode(photo(20, 20), "PNG"))
    with pytest.raises(ImageError) as caught:
        decode(source)
    assert caught.value.code == "changed"
    path.unlink()
    with pytest.raises(ImageError) as caught:
        decode(source)
    assert caught.value.code == "missing"
    os.mkfifo(path)
    with pytest.raises(ImageError) as caught:
        decode(source)
    assert caught.value.code == "not_regular"


def test_limit_on_pixels(tmp_path: Path) -> None:
    for name, data in {
        "a.png": encode(photo(), "PNG"),
        "b.tif": encode_tiff(photo(), photometric="rgb", tile=(16, 16)),
    }.items():
        (tmp_path / name).write_bytes(data)
    n = photo().shape[0] * photo().shape[1]
    assert probe(Found("a", str(tmp_path / "a.png")), max_pixels=n).pixels == n
    assert probe(Found("b", str(tmp_path / "b.tif")), max_pixels=1).windowed
    with pytest.raises(ImageError) as caught:
        probe(Found("a", str(tmp_path / "a.png")), max_pixels=n - 1)
    assert caught.value.code == "too_large"


def test_images_beyond_opencvs_limit_are_decoded(tmp_path: Path) -> None:
    from tests.support.corpus import png_of_zeros

    (tmp_path / "wide.png").write_bytes(png_of_zeros((1 << 20) + 8, 2))
    source = probe(Found("wide.png", str(tmp_path / "wide.png")))
    assert source.decoder == "pillow"
    assert decode(source).shape == (2, (1 << 20) + 8, 1)


def test_jpeg_with_damage_between_its_scans_and_a_tail() -> None:
    from kmdist.images.reading.integrity import jpeg_fault

    progressive = encode(photo(), "JPEG", progressive=True)
    assert jpeg_fault(progressive) is None
    assert jpeg_fault(progressive + b"tail") is None
    for length in range(2, len(progressive) - 1, 7):
        fault = jpeg_fault(progressive[:length])
        assert fault is not None
        assert fault.code == "truncated", length
        assert jpeg_fault(progressive[:length] + b"\0" * 64) is not None


@pytest.mark.slow
def test_random_damage_neither_crashes_nor_hangs_nor_fills_memory(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.support.damage import *;"
        f"print(check_damaged(Path({str(tmp_path)!r}), int(sys.argv[1]), int(sys.argv[2])));"
        "print(peak_kib())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "200", "0"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    tally, peak = done.stdout.splitlines()
    assert "truncated" in tally
    assert "corrupt" in tally
    assert int(peak) < 1 << 20


@pytest.mark.slow
def test_the_corpus_needs_less_than_a_gigabyte(corpus: Corpus) -> None:
    code = (
        "import sys; from kmdist.images import find_images; from tests.support.damage import *;"
        "found, _ = find_images([sys.argv[1]]); print(len([outcome(one) for one in found]));"
        "print(peak_kib())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(corpus.folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    n_probed, peak = map(int, done.stdout.split())
    assert n_probed >= 60
    assert peak < 1 << 20
