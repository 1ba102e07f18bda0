"""Generated files are those of the code; types and schemas are what users' tools read."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

import kmdist
from docs.generated_files import RECIPES, generated_files
from kmdist.recipes.registry import recipe_named
from tests.support.folders import ROOT

SCRIPT = """\
from pathlib import Path

import kmdist

run: kmdist.Run = kmdist.quantize("photos/", Path("run.zarr"), k=[8, 16], space="oklab", workers=2)
reveal_type(run)
reveal_type(kmdist.texture(["a.jpg"], k="2..8", shared=True, pool_px=12.5))
reveal_type(kmdist.digits("sample:digits", preset="raw", cell=(20, 20)))
reveal_type(kmdist.predict(run, "new/", overwrite=True))
reveal_type(kmdist.split(run, cluster=3, k=2))
reveal_type(kmdist.merge(run, clusters=[(1, 2)]))
reveal_type(kmdist.view(run, "picture.png"))
reveal_type(kmdist.extract(run, "a.jpg", "cut.png", at=[(3, 4)]).n_kept)
reveal_type([row.bytes for row in kmdist.export(run, "pictures/", dither=True)])
reveal_type(kmdist.KMeans(n_clusters=4))
try:
    kmdist.open_run("run.zarr")
except (kmdist.UsageError, kmdist.KmdistError, kmdist.ImageError) as error:
    print(error)
"""


@pytest.mark.parametrize("path", generated_files(), ids=lambda path: path.name)
def test_generated_files_are_of_this_code(path: Path) -> None:
    text = generated_files()[path]
    assert path.read_text() == text, "stale: run python -m docs.generated_files"


@pytest.mark.slow
def test_a_users_script_has_types(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", str(script)],
        cwd=ROOT,  # strict by its configuration, and with what mypy keeps of the package there
        capture_output=True,
        text=True,
    )
    revealed = [line for line in done.stdout.splitlines() if "Revealed" in line]
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(revealed) == SCRIPT.count("reveal_type"), done.stdout + done.stderr
    assert not [line for line in revealed if "Any" in line]


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_option_is_a_keyword_with_help(recipe: str) -> None:
    function = getattr(kmdist, recipe)
    keywords = inspect.signature(function).parameters
    for option in recipe_named(recipe).options.__struct_fields__:
        if option not in recipe_named(recipe).options.OMITTED:
            assert option in keywords
            assert f"\n{option} : " in inspect.getdoc(function)
    with pytest.raises(TypeError, match="did you mean 'overwrite'"):
        function("x", overwritte=True)


def test_shipped_specs_are_of_their_schemas() -> None:
    for path in [*(ROOT / "jobs").glob("*.yaml"), ROOT / "cluster.yaml"]:
        first = path.read_text().splitlines()[0]
        schema = json.loads((path.parent / first.rpartition("=")[2]).read_text())
        jsonschema.validate(yaml.safe_load(path.read_text()), schema)
    schema = json.loads((ROOT / "jobs" / "schemas" / "quantize.json").read_text())
    wrong = {"recipe": "quantize", "input": "a", "output": "b", "space": "cmyk"}
    with pytest.raises(jsonschema.ValidationError, match="cmyk"):
        jsonschema.validate(wrong, schema)
