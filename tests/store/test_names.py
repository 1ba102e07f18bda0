"""Node names never escape the run, never collide, and lead back to the image."""

import hashlib
import os
import random
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kmdist.errors import UsageError
from kmdist.store.format.names import candidate_keys, clash_ranks, image_key, name_of_key

FILE_NAME_BYTES = st.binary(min_size=1, max_size=300).map(
    lambda raw: raw.decode("utf-8", "surrogateescape")
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
TRICKY = st.sampled_from(
    [
        "..",
        ".",
        "...",
        "../..",
        "a/../../b",
        "zarr.json",
        "ZARR.json",
        "__reserved",
        ".zgroup",
        "=2E=2E",
        "e\u0301.png",
        "\u00e9.png",
        "A.png",
        "a.png",
        "a/b.png",
        "a=2Fb.png",
        "A-" + hashlib.sha256(b"A").hexdigest()[:8],
        "A",
        "a",
        "x" * 255,
        "X" * 255,
        "d/" * 600 + "x.png",
        "\x00\n\r\t\x7f",
        "CON",
        " leading and trailing ",
    ]
)
NAMES = st.lists(st.one_of(FILE_NAME_BYTES, TEXT, TRICKY), unique=True, max_size=30)


def keys_of(names: list[str]) -> dict[str, str]:
    ranks = clash_ranks(names)
    return {name: image_key(name, ranks.get(name, 0)) for name in names}


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(NAMES)
@example(["A", "a", "A-" + hashlib.sha256(b"A").hexdigest()[:8]])
@example(["." * n for n in (1, 2, 3, 119, 120, 121)])
def test_names_never_escape_nor_collide(names):
    keys = keys_of(names)
    assert len({key.lower() for key in keys.values()}) == len(names)
    for name, key in keys.items():
        assert re.fullmatch(r"[A-Za-z0-9._=-]{1,120}", key)
        assert key.strip(".")
        assert not key.startswith("__")
        assert key.lower() != "zarr.json"
        assert key in candidate_keys(name)
        assert name_of_key(key) in (name, None)


@settings(deadline=None, max_examples=50)
@given(NAMES, st.randoms(use_true_random=False))
def test_keys_depend_on_the_set_of_names_alone(names, shuffler: random.Random):
    shuffled = list(names)
    shuffler.shuffle(shuffled)
    assert keys_of(shuffled) == keys_of(names)


def test_the_rule_of_the_run_format():
    assert image_key("IMG_0001.jpg") == "IMG_0001.jpg"
    assert image_key("a/b c.png") == "a=2Fb=20c.png"
    assert image_key("..") == "=2E."
    assert image_key("é.png") == "=C3=A9.png"
    assert image_key("x" * 120) == "x" * 120
    digits = hashlib.sha256(b"x" * 121).hexdigest()[:8]
    assert image_key("x" * 121) == "x" * 111 + "-" + digits
    clashing = keys_of(["a.png", "A.png", "b.png"])
    assert clashing["b.png"] == "b.png"
    for name in ("a.png", "A.png"):
        assert clashing[name] == f"{name}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def test_hashed_names_that_clash_again_get_more_digits(monkeypatch):
    class Weak:
        def __init__(self, raw: bytes) -> None:
            self.raw = raw

        def hexdigest(self) -> str:
            return "00000000" + hashlib.sha256(self.raw).hexdigest()[8:]

    monkeypatch.setattr("kmdist.store.format.names.hashlib", type("H", (), {"sha256": Weak}))
    long = ["x" * 150 + str(i) for i in range(4)]
    keys = keys_of(long)
    assert len(set(keys.values())) == 4
    assert all(key.endswith("-00000000") and len(key) <= 120 for key in keys.values())


@pytest.mark.parametrize("name", ["", "\ud800"])
def test_names_that_no_file_can_have_are_refused(name):
    with pytest.raises(ValueError, match=r"empty|surrogate"):
        image_key(name)


def test_two_images_of_one_name_are_refused():
    with pytest.raises(UsageError, match="same name 'a'"):
        clash_ranks(["a", "b", "a"])


def test_every_key_can_be_made_a_folder(tmp_path):
    names = [
        "..",
        "\x00\x01",
        "x" * 255,
        "d/" * 600 + "x",
        "e\u0301",
        "\u00e9",
        "A",
        "a",
        "zarr.json",
    ]
    for key in keys_of(names).values():
        (tmp_path / key).mkdir()
    assert len(os.listdir(tmp_path)) == len(names)
