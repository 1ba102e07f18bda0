"""The command line: the same as the functions, exit codes, what is said, what is left behind."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

import kmdist
from kmdist.cli import cli
from kmdist.errors import UsageError
from kmdist.store import open_run
from tests.support.folders import ROOT
from tests.support.runs import bytes_of

COMMANDS = ("quantize", "run", "demo", "info", "view", "export", "extract", "predict")


def kmdist_command(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(one) for one in arguments], prog_name="kmdist")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def run_path(photographs: Path, tmp_path: Path) -> Path:
    path = tmp_path / "r.zarr"
    done = kmdist_command("quantize", photographs, "-o", path, "-k", 6, "-q")
    assert done.exit_code == 0, done.output
    return path


def test_help_is_given_with_an_example_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom kmdist.cli import cli\n"
        "try:\n    cli(['--help'], prog_name='kmdist')\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'dask', 'distributed', 'numba', 'cv2', 'zarr', 'rich', 'yaml', 'PIL'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert f"  {name}" in done.stdout
        if name != "demo":
            shown = kmdist_command(name, "--help").output
            assert re.search(rf"^ +kmdist {name} ", shown, re.MULTILINE), shown


def test_a_job_spec_equals_the_direct_command(photographs: Path, tmp_path: Path) -> None:
    spec = ROOT / "jobs" / "quantize.yaml"
    by_spec = kmdist_command(
        "run", spec, "--set", f"input={photographs}", "--set", f"output={tmp_path / 'a.zarr'}",
        "--set", "k=5", "--set", "space=oklab", "-q",
    )  # fmt: skip
    assert by_spec.exit_code == 0, by_spec.output
    direct = kmdist_command(
        "quantize", photographs, "-o", tmp_path / "b.zarr", "-k", 5, "--space", "oklab", "-q"
    )
    assert direct.exit_code == 0, direct.output
    assert bytes_of(tmp_path / "a.zarr") == bytes_of(tmp_path / "b.zarr")
    first, second = open_run(tmp_path / "a.zarr"), open_run(tmp_path / "b.zarr")
    assert first.parameters == second.parameters
    assert first.inertia == second.inertia


def test_python_equals_the_command(run_path: Path, photographs: Path, tmp_path: Path) -> None:
    run = kmdist.quantize(photographs, tmp_path / "b.zarr", k=6)
    assert bytes_of(run_path) == bytes_of(tmp_path / "b.zarr")
    assert run.inertia == open_run(run_path).inertia


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("sed=1", "did you mean 'seed'"),
        ("blok_mpx=3", "did you mean 'block_mpx'"),
        ("recipe=quantise", "recipe 'quantise' is not known; allowed: quantize"),
        ("shared=maybe", "'shared' must be true or false"),
        ("k", "must be KEY=VALUE"),
    ],
)
def test_wrong_keys_of_a_job_spec(change: str, said: str) -> None:
    done = kmdist_command("run", ROOT / "jobs" / "quantize.yaml", "--set", change)
    assert done.exit_code == 2
    assert said in done.output


def test_values_of_a_job_spec_are_checked(tmp_path: Path) -> None:
    done = kmdist_command("run", ROOT / "jobs" / "quantize.yaml", "--set", "space=rbg")
    assert done.exit_code == 2
    assert "'rbg' is not one of" in done.output
    for text, said in (("[1, 2]", "must be a mapping"), ("a: [", "not valid YAML")):
        (tmp_path / "spec.yaml").write_text(text)
        done = kmdist_command("run", tmp_path / "spec.yaml")
        assert done.exit_code == 2
        assert said in done.output
    done = kmdist_command("run", tmp_path / "gone.yaml")
    assert (done.exit_code, "No such file" in done.output) == (2, True)


def test_exit_codes_and_plain_errors(run_path: Path, photographs: Path, tmp_path: Path) -> None:
    (photographs / "bad.png").write_bytes(b"not an image")
    out = tmp_path / "n.zarr"
    rejected = kmdist_command("quantize", photographs, "-o", out, "-k", 3)
    assert rejected.exit_code == 0
    assert "1 file left out" in rejected.output
    assert "bad.png" in rejected.output
    only_bad = kmdist_command("quantize", photographs / "bad.png", "-o", tmp_path / "m.zarr")
    assert only_bad.exit_code == 1
    strict = kmdist_command("quantize", photographs, "-o", tmp_path / "m.zarr", "--strict")
    assert strict.exit_code == 1
    usage = [
        ("quantize", photographs, "-o", out, "-k", 3),  # exists
        ("quantize", tmp_path / "nothing", "-o", tmp_path / "m.zarr"),
        ("quantize", photographs, "-o", tmp_path / "m.zarr", "-k", "many"),
        ("quantize", photographs, "-o", tmp_path / "m.zarr", "-k", 3, "--psnr", 30),
        ("info", tmp_path / "nothing.zarr"),
        ("view", run_path, "nothing.png", "-o", tmp_path / "v.png"),
        ("extract", run_path, "0.png", "-o", tmp_path / "v.png"),
        ("extract", run_path, "0.png", "-o", tmp_path / "v.png", "--at", "3"),
        ("export", run_path, photographs),
        ("export", run_path, "-o", photographs),
        ("export", run_path),
        ("export", run_path, tmp_path / "m.zarr", "-o", tmp_path / "m.zarr"),
        ("predict", run_path, tmp_path / "nothing", "-o", tmp_path / "m.zarr"),
        ("quantize", photographs, "-o", tmp_path / "m.zarr", "-k", "2..99999999999"),
        ("quantize", photographs, "-o", tmp_path / "m.zarr", "-k", "2..300"),
        ("digits", "", "-o", tmp_path / "m.zarr"),
        ("view", run_path, "-o", ""),
        ("demo", "-o", ""),
        ("no-such-command",),
    ]
    for arguments in usage:
        done = kmdist_command(*arguments)
        assert done.exit_code == 2, (arguments, done.output)
        assert "Traceback" not in done.output
        assert done.output.strip()
    assert not list(tmp_path.glob("*m.zarr*"))


def test_output_in_the_way_is_refused_before_the_files_are_read(
    run_path: Path, photographs: Path
) -> None:
    taken = kmdist_command("quantize", photographs, "-o", run_path, "-k", 3)
    assert "use --overwrite" in taken.output
    no_run = kmdist_command("quantize", photographs, "-o", photographs, "-k", 3)
    assert "is no run of kmdist: --overwrite would not replace it" in no_run.output
    for done in (taken, no_run):
        assert done.exit_code == 2
        assert "probe" not in done.output
        assert "images" not in done.output


def test_a_picture_of_one_photograph_is_all_that_is_written(
    photographs: Path, tmp_path: Path
) -> None:
    """Nor palettes of images that have their own, beside the picture."""
    place = tmp_path / "out"
    place.mkdir()
    for how in ((), ("--per-image",)):
        words = ("quantize", photographs / "0.png", "-k", 3, "-o", place / "o.png", "--overwrite")
        done = kmdist_command(*words, *how)
        assert done.exit_code == 0, done.output
        assert [path.name for path in place.iterdir()] == ["o.png"]
    for words, said in (
        ((photographs / "0.png", "--fit-only"), "0 images are labelled"),
        ((photographs / "*.png",), "4 images are labelled"),
        ((photographs, "--dry-run"), "is one picture, of one photograph"),
    ):
        done = kmdist_command("quantize", *words, "-k", 3, "-o", place / "other.png")
        assert (done.exit_code, said in done.output) == (2, True), done.output
        assert [path.name for path in place.iterdir()] == ["o.png"]


def test_digits_have_no_label_maps_to_export(tmp_path: Path) -> None:
    assert "--export" not in kmdist_command("digits", "--help").output
    assert "--export" in kmdist_command("segment", "--help").output
    run = tmp_path / "d.zarr"
    done = kmdist_command("digits", "sample:digits", "-o", run, "--preset", "raw", "-q")
    assert done.exit_code == 0, done.output
    for words in (
        ("export", run, "-o", tmp_path / "out"),
        ("extract", run, "--clusters", 0, "-o", tmp_path / "out"),
        ("extract", run, "0.png", "--clusters", 0, "-o", tmp_path / "out.png"),
    ):
        refused = kmdist_command(*words)
        assert refused.exit_code == 2, refused.output
        assert f"{run}: images of digits have no label maps" in refused.output
    assert [path.name for path in tmp_path.iterdir()] == ["d.zarr"]


def test_no_run_is_named_as_a_picture(run_path: Path, photographs: Path, tmp_path: Path) -> None:
    """What makes no picture of one photograph would make a folder of that name."""
    job = tmp_path / "job.yaml"
    job.write_text(f"recipe: digits\ninput: sample:digits\noutput: {tmp_path / 'o.png'}\n")
    for words in (
        ("predict", run_path, photographs / "0.png", "-o", tmp_path / "o.png"),
        ("digits", "sample:digits", "-o", tmp_path / "o.JPG"),
        ("run", job),
    ):
        done = kmdist_command(*words)
        assert done.exit_code == 2, done.output
        assert "is named as a picture, and a run is a folder" in done.output
    with pytest.raises(UsageError, match="is named as a picture"):
        kmdist.quantize(photographs, tmp_path / "o.tif", k=2)
    assert not list(tmp_path.glob("*o.[pJt]*"))


def test_nothing_is_written_into_a_run(run_path: Path, photographs: Path) -> None:
    """Whose --overwrite would take it along."""
    inside = run_path / "mine"
    files = sorted(run_path.rglob("*"))
    for words in (
        ("quantize", photographs, "-k", 3, "-o", f"{inside}.zarr"),
        ("quantize", photographs / "0.png", "-k", 3, "-o", f"{inside}.png"),
        ("quantize", photographs, "-k", 3, "--export", inside),
        ("predict", run_path, photographs, "-o", f"{inside}.zarr"),
        ("export", run_path, "-o", inside),
        ("view", run_path, "-o", f"{inside}.png"),
        ("extract", run_path, "0.png", "--clusters", 0, "-o", f"{inside}.png"),
        ("extract", run_path, "--clusters", 0, "-o", inside),
        ("report", run_path, "-o", f"{inside}.html"),
        ("filters", "lm", "-o", f"{inside}.png"),
        ("demo", "-o", run_path),
    ):
        done = kmdist_command(*words)
        assert done.exit_code == 2, (words, done.output)
        assert f"lies within the run {run_path}" in done.output
        assert "probe" not in done.output
        assert sorted(run_path.rglob("*")) == files


def test_info_json(run_path: Path, photographs: Path, tmp_path: Path) -> None:
    info = json.loads(kmdist_command("info", run_path, "--json").output)
    assert set(info) >= {
        "recipe", "k", "inertia", "n_iter", "stop_reason", "seed", "images", "rejected", "counts",
        "palette", "scores", "timings", "fingerprint",
    }  # fmt: skip
    assert info["k"] == 6
    (first,) = (image for image in info["images"] if image["name"] == "0.png")
    assert (first["width"], first["height"]) == (90, 60)
    assert first["psnr_db"] > 10
    assert sum(info["counts"]) == 90 * sum(range(60, 120, 10)) + 20 * 50
    done = kmdist_command("quantize", photographs, "-o", tmp_path / "many.zarr", "-k", "2,11", "-q")
    assert done.exit_code == 0
    runs = json.loads(kmdist_command("info", tmp_path / "many.zarr", "--json").output)["runs"]
    assert {name: run["k"] for name, run in runs.items()} == {"k2": 2, "k11": 11}
    assert "many.zarr holds k2, k11" in kmdist_command("info", tmp_path / "many.zarr/k3").output


def test_info_json_of_images_fitted_each_on_its_own(photographs: Path, tmp_path: Path) -> None:
    where = tmp_path / "each.zarr"
    done = kmdist_command("quantize", photographs, "-o", where, "-k", "3", "--per-image", "-q")
    assert done.exit_code == 0, done.output
    info = json.loads(kmdist_command("info", where, "--json").output)
    assert info["palette"] is None
    for image in info["images"]:
        assert image["k"] == len(image["palette"]) == len(image["counts"])
        clear = 2 if image["name"] == "transparent.png" else 1  # half of it is transparent
        assert sum(image["counts"]) == image["width"] * image["height"] // clear
    assert sum(image["inertia"] for image in info["images"]) == pytest.approx(info["inertia"])


def test_info_for_people(run_path: Path, photographs: Path, tmp_path: Path) -> None:
    (photographs / "bad\x1b[31m.png").write_bytes(b"not an image")
    shown = kmdist_command("info", run_path).output
    assert "7 images" in shown
    assert "k = 6" in shown
    assert "#" in shown
    assert "sub/1.png" in shown
    many = tmp_path / "many.zarr"
    assert kmdist_command("quantize", photographs, "-o", many, "-k", "2,4").exit_code == 0
    shown = kmdist_command("info", many).output
    assert f"{many}/k2" in shown
    assert f"{many}/k4" in shown
    assert "bad\\x1b[31m.png" in shown
    assert "\x1b" not in shown
    each = tmp_path / "each.zarr"
    assert (
        kmdist_command("quantize", photographs, "-o", each, "-k", 3, "--per-image").exit_code == 0
    )
    assert "each fitted on its own" in kmdist_command("info", each).output
    new = tmp_path / "new.zarr"
    assert kmdist_command("predict", many / "k4", photographs, "-o", new, "-q").exit_code == 0
    assert "k4" in kmdist_command("info", new).output


def test_the_commands_on_runs(run_path: Path, tmp_path: Path) -> None:
    for arguments, said in (
        (("view", run_path, "-o", tmp_path / "v.png"), "picture:"),
        (("view", run_path, "0.png", "-o", tmp_path / "w.png", "--overlay", 0.5), "picture:"),
        (("export", run_path, tmp_path / "out", "--dither"), "all 7"),
        (("export", run_path, "--dither", "-o", tmp_path / "named"), f"to {tmp_path / 'named'}"),
        (("extract", run_path, "0.png", "--at", "3,4", "--at", "9,9", "-o", tmp_path / "c.png"),
         "of the pixels"),
        (("extract", run_path, "0.png", "--clusters", "0,2", "--mask", "-o", tmp_path / "m.png"),
         "clusters 0, 2"),
    ):  # fmt: skip
        done = kmdist_command(*arguments)
        assert done.exit_code == 0, done.output
        assert said in done.output
        quiet = ("--overwrite", "-q") if arguments[0] == "export" else ("-q",)
        again = kmdist_command(*arguments, *quiet)
        assert (again.exit_code, again.output) == (0, ""), again.output
    assert cv2.imread(str(tmp_path / "c.png"), cv2.IMREAD_UNCHANGED).shape == (60, 90, 4)
    assert cv2.imread(str(tmp_path / "m.png"), cv2.IMREAD_UNCHANGED).shape == (60, 90)


def test_demo(tmp_path: Path) -> None:
    done = kmdist_command("demo", "-o", tmp_path / "demo", "-k", 4)
    assert done.exit_code == 0, done.output
    assert "picture:" in done.output
    assert open_run(tmp_path / "demo" / "photos.zarr").k == 4
    assert cv2.imread(str(tmp_path / "demo" / "photos.png")).shape[1] > 1000


def test_a_demo_where_no_folder_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    done = CliRunner().invoke(cli, ["demo", "-o", str(tmp_path / "file" / "demo")])
    assert isinstance(done.exception, SystemExit)
    assert "cannot make" in done.output


def children_of(process: int) -> set[int]:
    """Processes below one, at any depth."""
    found, todo = set(), [process]
    while todo:
        tasks = Path(f"/proc/{todo.pop()}/task")
        for task in tasks.iterdir() if tasks.is_dir() else ():
            below = {int(one) for one in (task / "children").read_text().split()}
            todo += below - found
            found |= below
    return found


def is_alive(process: int) -> bool:
    """Whether a process runs: neither gone nor a zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def heed_interrupts() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("kind", ["thread", "process"])
def test_interruption_leaves_no_process_and_a_resumable_run(tmp_path: Path, kind: str) -> None:
    photographs = tmp_path / "in"
    photographs.mkdir()
    random = np.random.default_rng(0)
    # Few colours, so that it is the files which take time: there the interruption comes.
    pixels = 16 * random.integers(0, 16, (250, 300, 3), np.uint8)
    cv2.imwrite(str(photographs / "0.png"), pixels)
    for i in range(1, 60):
        os.link(photographs / "0.png", photographs / f"{i}.png")
    command = [
        sys.executable, "-m", "kmdist", "quantize", str(photographs), "-o", "r.zarr", "-k", "64",
        "--block-mpx", "0.075", "--workers", "2", "--worker-kind", kind, "--keep-pixels", "never",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        text=True, start_new_session=True, preexec_fn=heed_interrupts,
    )  # fmt: skip
    counted = tmp_path / ".r.zarr.partial" / "state"
    while not list(counted.glob("count-*")) and process.poll() is None:
        time.sleep(0.005)
    below = children_of(process.pid)
    # As a terminal does on Ctrl-C: to the whole group, worker processes included.
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert "Traceback" not in said, said
    assert "--resume" in said
    assert not (tmp_path / "r.zarr").exists()
    assert (tmp_path / ".r.zarr.partial").is_dir()
    while any(map(is_alive, below)):
        time.sleep(0.1)
    resume = re.search(r"Go on with: kmdist (quantize .*--resume)", said)
    assert resume, said
    subprocess.run(
        [sys.executable, "-m", "kmdist", *resume[1].split(), "-q"],
        cwd=tmp_path, env=environment(), check=True, capture_output=True,
    )  # fmt: skip
    again = kmdist.quantize(photographs, tmp_path / "b.zarr", k=64, block_mpx=0.075)
    assert bytes_of(tmp_path / "r.zarr") == bytes_of(tmp_path / "b.zarr")
    assert open_run(tmp_path / "r.zarr").inertia == again.inertia


INTERRUPTED_AT_LOADING = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "kmdist.cli.nightly":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in background
sys.meta_path.insert(0, Interrupting())
from kmdist.__main__ import main
main()
"""


def test_an_interruption_while_the_command_loads_is_silent() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_AT_LOADING], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.slow
def test_dask_kmdist(photographs: Path, tmp_path: Path) -> None:
    try:
        distribution("kmdist")
    except PackageNotFoundError:
        pytest.skip("kmdist is not installed: `dask` finds its commands through the metadata")
    dask = shutil.which("dask", path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}")
    assert dask
    done = subprocess.run(
        [dask, "kmdist", "quantize", str(photographs), "-o", "r.zarr", "-k", "3", "-q"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert open_run(tmp_path / "r.zarr").k == 3
    failed = subprocess.run([dask, "kmdist", "info", str(tmp_path / "x.zarr")], capture_output=True)
    assert failed.returncode == 2


def test_output_that_cannot_be_written_is_told() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "kmdist", "--help"], stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 1
    assert done.stderr == b"kmdist: error: cannot write: No space left on device\n"


def test_help_explains_the_exit_codes_that_there_are() -> None:
    from kmdist.cli.printing import WORTH_ANOTHER_TRY
    from kmdist.errors import KmdistError, UsageError
    from kmdist.nightly.ledger import LockHeldError
    from kmdist.nightly.outcome import InputError

    said = kmdist_command("--help").output
    errors = (KmdistError, UsageError, InputError, LockHeldError)
    for code in (0, WORTH_ANOTHER_TRY, 130, *(error.exit_code for error in errors)):
        assert f"\n    {code} " in said
