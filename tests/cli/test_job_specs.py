"""Job specs: shipped ones run, dry runs write nothing, mistakes are said with the nearest name."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

import kmdist
from kmdist.cli import cli
from kmdist.recipes.digits.options import DigitsOptions
from kmdist.recipes.quantize.options import QuantizeOptions
from kmdist.recipes.registry import recipe_names
from tests.support.folders import ROOT

JOBS = ROOT / "jobs"
SPECS = sorted(p.stem for p in JOBS.glob("*.yaml"))
RECIPES = [name for name in SPECS if name in recipe_names()]


def kmdist_run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["run", *words])


def spec_of(folder: Path, **keys: Any) -> str:
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump({"recipe": "quantize", "input": "sample:photos", **keys}))
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_shipped_specs_run_as_they_stand(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = kmdist_run(str(JOBS / f"{recipe}.yaml"))
    assert done.exit_code == 0, done.output
    assert kmdist.open_run(tmp_path / f"{recipe}.zarr").recipe == recipe
    again = kmdist_run(str(JOBS / f"{recipe}.yaml"), "--dry-run")
    assert again.exit_code == 0, again.output


def test_a_nightly_spec_is_sent_to_its_command() -> None:
    done = kmdist_run(str(JOBS / "nightly.yaml"))
    assert done.exit_code == 2
    assert "kmdist nightly" in done.output


@pytest.mark.parametrize("name", SPECS)
def test_shipped_specs_explain_every_line(name: str) -> None:
    for line in (JOBS / f"{name}.yaml").read_text().splitlines():
        assert not line or "#" in line, line


def test_a_dry_run_says_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    output = tmp_path / "run.zarr"
    done = kmdist_run(spec_of(tmp_path, output=str(output), k=[4, 8], block_mpx=0.3), "--dry-run")
    assert done.exit_code == 0, done.output
    for fact in ("images   6", "blocks   ", "passes   ", "memory: projected", "disk     "):
        assert fact in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["job.yaml"]


def test_a_dry_run_counts_what_the_job_then_does(photographs: Path, tmp_path: Path) -> None:
    from kmdist.job.progress import Event, Message
    from kmdist.job.running import plan_job
    from kmdist.recipes.registry import recipe_named

    output = tmp_path / "run.zarr"
    keys: dict[str, Any] = {"k": 4, "block_mpx": 0.01, "keep_pixels": "never"}
    options = QuantizeOptions(**keys)
    procedure = recipe_named("quantize").fit([str(photographs)], options)
    plan = plan_job(procedure, output, options)
    seen: list[Event | Message] = []
    run = kmdist.quantize(photographs, output, **keys, watch=seen.append)
    blocks = Counter(event.stage for event in seen if isinstance(event, Event))
    assert plan.images == len(run.images)
    assert plan.blocks == blocks["count"] == blocks["label"]
    assert plan.passes == 2
    written = sum(f.stat().st_size for f in (tmp_path / "run.zarr").rglob("*") if f.is_file())
    assert written <= plan.disk_bytes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "k"), [("landmark", (10,)), ("refined", (5, 10)), ("raw", (4,))]
)
def test_a_dry_run_of_digits_counts_what_the_job_then_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str, k: tuple[int, ...]
) -> None:
    from kmdist.job.progress import Event, Message
    from kmdist.job.running import plan_job
    from kmdist.recipes.registry import recipe_named
    from kmdist.store import RunWriter

    output = tmp_path / "run.zarr"
    keys: dict[str, Any] = {
        "k": k,
        "preset": preset,
        "block_mpx": 0.05,
        "keep_pixels": "always",
    }
    asked = DigitsOptions(**keys)
    plan = plan_job(recipe_named("digits").fit("sample:digits", asked), output, asked)
    seen: list[Event | Message] = []
    states: list[int] = []
    publish = RunWriter.publish

    def weighed(self: RunWriter, *arguments: Any, **options: Any) -> None:
        states.extend(file.stat().st_size for file in tmp_path.rglob("*.npz"))
        publish(self, *arguments, **options)

    monkeypatch.setattr(RunWriter, "publish", weighed)
    run = kmdist.digits("sample:digits", output, **keys, watch=seen.append)
    blocks = Counter(event.stage for event in seen if isinstance(event, Event))
    assert plan.images == run.attributes["n_images"]
    assert plan.blocks == blocks["label"] == blocks.get("describe", plan.blocks)
    assert plan.passes == (2 if preset == "raw" else 3)
    assert 0.5 * plan.checkpoint_bytes < sum(states) <= plan.checkpoint_bytes
    written = sum(f.stat().st_size for f in (tmp_path / "run.zarr").rglob("*") if f.is_file())
    assert written <= plan.disk_bytes
    assert plan.memory is not None
    assert any(plan.memory.explained == m.text for m in seen if isinstance(m, Message))


def test_digits_that_cannot_fit_are_refused(tmp_path: Path) -> None:
    spec = spec_of(
        tmp_path, recipe="digits", input="sample:digits", output=str(tmp_path / "x"), workers=99999
    )
    for more in ([], ["--dry-run"]):
        done = kmdist_run(spec, *more)
        assert done.exit_code == 1
        assert "fewer --workers" in done.output


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"outptu": "x"}, "unknown key 'outptu'; did you mean 'output'?"),
        ({"output": "x.zarr", "seed": "first"}, "'seed': 'first' is not a valid integer"),
        ({"output": "x.zarr", "k": [2, "many"]}, "'k': '2,many' is not a whole number"),
        ({"output": "x.zarr", "k": {"a": 1}}, "'k' must be a single value"),
        ({"output": "x.zarr", "strict": "perhaps"}, "'strict' must be true or false"),
        ({"output": "x.zarr", "space": "cmyk"}, "'space': 'cmyk' is not one of"),
        ({"output": "x.zarr", "input": 7}, "'input' must be a path or a list of them: 7"),
        ({"output": "x.zarr", "input": []}, "'input' is missing"),
        ({}, "'output' is missing"),
        ({"output": "x.zarr", "recipe": "quantise"}, "recipe 'quantise' is not known"),
    ],
)
def test_mistakes_are_said_plainly(tmp_path: Path, keys: dict[str, Any], said: str) -> None:
    done = kmdist_run(spec_of(tmp_path, **keys))
    assert done.exit_code == 2, done.output
    assert said in done.output
    assert "job.yaml" in done.output
    assert "Traceback" not in done.output


def test_specs_are_read_as_data(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("recipe: !!python/object/apply:os.getcwd []\n")
    done = kmdist_run(str(path))
    assert done.exit_code == 2
    assert "not valid YAML" in done.output
