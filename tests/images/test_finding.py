"""What folders, globs, lists and paths stand for."""

import os
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

from kmdist.errors import UsageError
from kmdist.images import Choice, find_images
from tests.support.corpus import encode, photo
from tests.support.folders import ROOT
from tests.support.permissions import as_user

JPEG = encode(photo(8, 8), "JPEG")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name in ("b.jpg", "a.JPG", "2024/c.png", "2024/05/d.tif", "2024/e", "notes.txt", "f.xyz"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(JPEG if name != "f.xyz" else b"no picture")
    return root


ALL = ["2024/05/d.tif", "2024/c.png", "2024/e", "a.JPG", "b.jpg"]


def names(*inputs: str | Path) -> list[str]:
    found, rejected = find_images(inputs)
    assert not rejected
    return [one.name for one in found]


def test_folder_is_searched_and_sorted(folder: Path) -> None:
    assert names(folder) == names(f"{folder}/") == names(folder, folder) == ALL
    found, _ = find_images([folder])
    assert all(Path(one.path).samefile(folder / one.name) for one in found)


def test_relative_and_home_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    assert names(".") == names("~") == names("../photos") == ALL
    assert names("b.jpg") == names("./b.jpg") == names("~/b.jpg") == ["b.jpg"]
    assert names("*.jpg", "*/*.png") == ["2024/c.png", "b.jpg"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["b.jpg"]),
        ("*", ALL),
        ("**/*.tif", ["2024/05/d.tif"]),
        ("20*/*.png", ["2024/c.png"]),
        ("[ab].*", ["a.JPG", "b.jpg"]),
    ],
)
def test_globs(folder: Path, pattern: str, expected: list[str]) -> None:
    assert names(f"{folder}/{pattern}") == expected


def test_brackets_in_a_real_name_are_no_glob(folder: Path) -> None:
    (folder / "[1].jpg").write_bytes(JPEG)
    assert names(folder / "[1].jpg") == ["[1].jpg"]


def test_what_is_named_itself_is_taken(folder: Path) -> None:
    assert names(folder / "f.xyz", folder / "2024" / "e") == ["e", "f.xyz"]


def test_list_of_files(folder: Path) -> None:
    lines = ["# a comment", "", "b.jpg", " 2024/c.png ", str(folder / "a.JPG"), "2024/05", "b.jpg"]
    (folder / "list.txt").write_text("\n".join(lines))
    assert names(folder / "list.txt") == ["2024/05/d.tif", "2024/c.png", "a.JPG", "b.jpg"]


def test_lists_name_objects_and_are_some(tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    for key in ("b/a.png", "b/sub/b.jpg", "b/sub/notes.md", "b/sub/more/c.tif", "other/a.png"):
        fs.pipe_file(f"/{key}", b"")
    lines = ["a.png", "# a comment", " sub ", "../other/a.png", "memory://b/sub/b.jpg", "gone.png"]
    fs.pipe_file("/b/list.txt", "\n".join(lines).encode())
    found, rejected = find_images(["memory://b/list.txt"])
    assert [(one.name, one.path) for one in found] == [
        ("b/a.png", "memory://b/a.png"),
        ("b/a.png~2", "memory://other/a.png"),
        ("gone.png", "memory://b/gone.png"),  # found out when it is probed
        ("sub/b.jpg", "memory://b/sub/b.jpg"),
        ("sub/more/c.tif", "memory://b/sub/more/c.tif"),
    ]
    assert not rejected
    (tmp_path / "list.txt").write_text("memory://b/a.png\nmemory://b/sub\n")
    assert names(tmp_path / "list.txt") == ["a.png", "sub/b.jpg", "sub/more/c.tif"]
    with pytest.raises(UsageError, match="cannot be read as a list"):
        find_images(["memory://b/none.txt"])
    fs.store.clear()


def test_list_names_what_is_not_there(folder: Path) -> None:
    (folder / "list.lst").write_text("b.jpg\ngone.jpg\n")
    found, rejected = find_images([folder / "list.lst"])
    assert [one.name for one in found] == ["b.jpg"]
    assert [(one.image, one.code) for one in rejected] == [("gone.jpg", "missing")]


def test_list_that_is_no_text(folder: Path) -> None:
    (folder / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"list\.txt"):
        find_images([folder / "list.txt"])


@pytest.mark.parametrize("text", ["nowhere", "nowhere/*.jpg", "sample:nothing"])
def test_inputs_that_do_not_exist(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"nowhere|nothing"):
        find_images([tmp_path / text if "sample" not in text else text])


def test_no_images_at_all(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(UsageError, match="no images in"):
        find_images([tmp_path])
    with pytest.raises(UsageError, match="no inputs"):
        find_images([])


def test_names_are_unique(tmp_path: Path) -> None:
    for path in ("one/a.jpg", "two/a.jpg", "two/b.jpg", "x/two/a.jpg"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(JPEG)
    inputs = [tmp_path / "one", tmp_path / "two", tmp_path / "x" / "two"]
    assert names(*inputs) == ["b.jpg", "one/a.jpg", "two/a.jpg", "two/a.jpg~2"]
    assert names(*inputs) == names(*reversed(inputs))


def test_links_are_followed_without_looping(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "g.jpg").write_bytes(JPEG)
    os.symlink(tmp_path / "elsewhere", folder / "linked")
    os.symlink(folder / "b.jpg", folder / "h.jpg")
    assert names(folder) == [*ALL, "h.jpg", "linked/g.jpg"]
    os.symlink(folder, tmp_path / "elsewhere" / "back")
    found, rejected = find_images([folder])
    assert [one.name for one in found] == [*ALL, "h.jpg", "linked/g.jpg"]
    assert [(one.image, one.code) for one in rejected] == [("linked/back", "link_loop")]


def test_deep_folders(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(400):
        deep = deep / "d"
    deep.mkdir(parents=True)
    (deep / "a.jpg").write_bytes(JPEG)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    try:
        found, _ = find_images([tmp_path])
    finally:
        sys.setrecursionlimit(limit)
    assert [one.name for one in found] == ["d/" * 400 + "a.jpg"]


def test_odd_file_names(tmp_path: Path) -> None:
    odd = [
        "ä ö.jpg",
        "a\nb.jpg",
        "#1.jpg",
        "*.jpg",
        "x" * 251 + ".jpg",
        "\u00e9.jpg",
        "e\u0301.jpg",
    ]
    for name in odd:
        (tmp_path / name).write_bytes(JPEG)
    (tmp_path / os.fsdecode(b"\xff\xfe.jpg")).write_bytes(JPEG)
    assert names(tmp_path) == sorted([*odd, os.fsdecode(b"\xff\xfe.jpg")])


REJECTED = """
import sys
from kmdist.images import find_images
from tests.support.folders import ROOT
from tests.support.permissions import as_user
print([(one.image, one.code) for one in find_images([sys.argv[1]])[1]])
"""


def test_unreadable_folder(folder: Path) -> None:
    (folder / "2024").chmod(0)
    words = as_user([sys.executable, "-c", REJECTED, str(folder)])
    try:
        said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    finally:
        (folder / "2024").chmod(0o755)
    assert said.strip() == "[('2024', 'unreadable')]"


def test_samples_need_no_network() -> None:
    found, rejected = find_images(["sample:photos"])
    assert len(found) >= 3
    assert not rejected
    assert all(os.path.isfile(one.path) for one in found)


def test_what_systems_put_among_pictures_is_passed_over(folder: Path) -> None:
    for inside in (
        *("@eaDir/b.jpg/THUMB_XL.jpg", "#recycle/old.jpg", ".thumbnails/normal/a.png"),
        *("__MACOSX/._b.jpg", "2024/@eaDir/c.png", "$RECYCLE.BIN/$R1.jpg", "lost+found/1.jpg"),
        *("#snapshot/b.jpg", "System Volume Information/x.png", "Thumbs.db", "desktop.ini"),
    ):
        (folder / inside).parent.mkdir(parents=True, exist_ok=True)
        (folder / inside).write_bytes(JPEG)
    assert names(folder) == ALL
    assert names(folder / "**" / "*.jpg") == ["b.jpg"]
    assert names(folder / "@eaDir") == ["b.jpg/THUMB_XL.jpg"]
    assert names(folder / "lost+found" / "1.jpg") == ["1.jpg"]


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (["*.jpg"], [], ["b.jpg"]),
        (["*.jpg", "*.JPG"], [], ["a.JPG", "b.jpg"]),
        ([], ["*.jpg"], ["2024/05/d.tif", "2024/c.png", "2024/e", "a.JPG"]),
        (["2024"], [], ["2024/05/d.tif", "2024/c.png", "2024/e"]),
        (["2024/*"], ["05"], ["2024/c.png", "2024/e"]),
        ([], ["2024"], ["a.JPG", "b.jpg"]),
        (["2024/*.png"], [], ["2024/c.png"]),
        (["**/*.tif"], [], ["2024/05/d.tif"]),
        ([], ["/2024/05/"], ["2024/c.png", "2024/e", "a.JPG", "b.jpg"]),
        (["[ab].*"], ["b.*"], ["a.JPG"]),
    ],
)
def test_choosing(
    folder: Path, include: list[str], exclude: list[str], expected: list[str]
) -> None:
    choice = Choice(tuple(include), tuple(exclude))
    assert [one.name for one in find_images([folder], choice)[0]] == expected
    (folder / "list.txt").write_text("\n".join(ALL))
    listed = find_images([folder / "list.txt"], choice)[0]
    assert [one.name for one in listed] == expected


def test_choosing_among_named_files_and_globs(folder: Path) -> None:
    named = [folder / "a.JPG", folder / "b.jpg"]
    assert [one.name for one in find_images(named, Choice(exclude=("b.*",)))[0]] == ["a.JPG"]
    globbed = find_images([folder / "*"], Choice(exclude=("2024",)))[0]
    assert [one.name for one in globbed] == ["a.JPG", "b.jpg"]


def test_nothing_left_is_said(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"no images in .*photos, .*--include \*\.gif"):
        find_images([folder], Choice(include=("*.gif",)))
