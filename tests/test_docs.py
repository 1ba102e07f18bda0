"""The documentation names what there is; `.ci/run` builds it and runs its examples."""

import re
import sys
from pathlib import Path

import pytest

import kmdist
from tests.support.browser import axe_core, browser
from tests.support.folders import ROOT

DOCS = ROOT / "docs"
PAGES = [*DOCS.rglob("*.rst"), *(DOCS / "examples").glob("*.py")]
MADE = {"_build", "gallery", "generated"}


def _texts() -> dict[str, str]:
    return {
        str(path.relative_to(DOCS)): path.read_text("utf-8")
        for path in PAGES
        if not MADE & set(path.relative_to(DOCS).parts)
    }


def test_every_public_name_has_a_page() -> None:
    listed = set(re.findall(r"^   ([\w.]+)$", _texts()["reference/api.rst"], re.MULTILINE))
    public = {name for names in kmdist.PLACES.values() for name in names}
    assert public <= listed, f"not in reference/api.rst: {sorted(public - listed)}"


def test_every_public_function_is_used_or_told_of() -> None:
    public = {name for names in kmdist.PLACES.values() for name in names}
    examples, pages = set(), set()
    for path, text in _texts().items():
        if path != "reference/api.rst":
            named = {name for name in public if re.search(rf"\b{name}\b", text)}
            (examples if path.startswith("examples/") else pages).update(named)
    mentioned, missing = pages - examples, public - examples - pages
    told = f"{len(examples)} in examples, {len(mentioned)} mentioned"
    sys.stdout.write(f"{len(public)} public names: {told}\n")
    assert not missing, f"neither an example nor a mention: {sorted(missing)}"


def test_the_gallery_has_its_examples() -> None:
    assert len(list((DOCS / "examples").glob("plot_*.py"))) >= 12


def test_links_between_pages_lead_somewhere() -> None:
    texts = _texts()
    for name, text in texts.items():
        folder = (DOCS / name).parent
        for target in re.findall(r":doc:`(?:[^`<]*<)?([^`<>]+)>?`", text):
            page = (folder / target).resolve().relative_to(DOCS)
            if page.parts[0] == "gallery":
                found = page.name == "index" or (DOCS / f"examples/{page.name}.py").exists()
            else:
                found = f"{page}.rst" in texts
            assert found, f"{name}: {target}"


@pytest.mark.slow
def test_built_pages_are_accessible_and_fit_small_screens(tmp_path: Path) -> None:
    built = DOCS / "_build"
    if not (built / "index.html").exists():
        pytest.skip("the documentation is not built; .ci/run runs this again once it is")
    axe = axe_core(tmp_path)
    with browser(tmp_path) as window:
        for name in ("index", "gallery/index", "how-to/cluster", "reference/generated/kmdist.Run"):
            for width, scheme in ((1280, "light"), (390, "dark")):
                window.open(built / f"{name}.html", width, scheme)
                assert window.violations(axe) == [], f"{name}, {width} px"
                wide = window.run("return document.documentElement.scrollWidth - innerWidth")
                assert wide <= 0, f"{name}: {wide} px wider than a window of {width}"
                assert all(url.startswith("file:") for url in window.requests())
