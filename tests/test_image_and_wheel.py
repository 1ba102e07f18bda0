"""What the container image, the workflows and the conda recipe say; and what a wheel holds."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.support.folders import ROOT

DOCKERFILE = ROOT / "jobs/schedule/Dockerfile"


def _instructions() -> list[tuple[str, str]]:
    """Instructions of the Dockerfile and what they say."""
    lines = DOCKERFILE.read_text("utf-8").splitlines()
    return [(w, rest) for w, _, rest in (line.partition(" ") for line in lines if line) if w != "#"]


def test_the_image_runs_without_privileges_and_copies_what_there_is() -> None:
    words = [word for word, _ in _instructions()]
    assert words.count("FROM") == 2
    users = [rest for word, rest in _instructions() if word == "USER"]
    assert users == ["1000"]
    for word, rest in _instructions():
        if word == "COPY" and "--from" not in rest:
            assert all((ROOT / name).exists() for name in rest.split()[:-1]), rest


def test_workflows_and_the_conda_recipe_are_yaml_that_runs_ci() -> None:
    texts = {path.name: path.read_text("utf-8") for path in (ROOT / ".github/workflows").iterdir()}
    assert {"test.yaml", "docs.yaml", "release.yaml"} <= set(texts)
    assert all(yaml.safe_load(text)["jobs"] for text in texts.values())
    assert ".ci/run" in texts["test.yaml"]
    recipe = (ROOT / "jobs/conda/recipe.yaml").read_text("utf-8")
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    needed = re.search(r"^dependencies = \[(.*?)^\]", project, re.DOTALL | re.MULTILINE)[1]
    assert len(yaml.safe_load(recipe)["requirements"]["run"]) == needed.count('"') // 2 + 1


@pytest.mark.slow
def test_the_wheel_holds_its_pages_and_their_licences(tmp_path: Path) -> None:
    """As the image's build stage installs it."""
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", str(tmp_path), str(ROOT)], check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    held = [path for path in (ROOT / "kmdist").rglob("*") if path.suffix in KINDS]
    missing = {str(path.relative_to(ROOT)) for path in held} - names
    assert not missing
    assert "kmdist/pages/static/openseadragon/LICENSE.txt" in names
    assert "kmdist/napari.yaml" in names


KINDS = {".py", ".pyi", ".html", ".css", ".js", ".txt", ".yaml"}
