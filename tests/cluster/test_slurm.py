"""The slurm profile on a SLURM of one node, and a job that SLURM ends in the middle."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import kmdist
from kmdist.cli import cli
from kmdist.cluster import read_profile
from tests.support.folders import ROOT
from tests.support.runs import bytes_of
from tests.support.slurm import missing_programs, one_node

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")
    if os.geteuid() or missing_programs():
        pytest.skip(f"not root, or not installed: {missing_programs()}")
    with one_node(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


@pytest.fixture
def cluster_file(slurm: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The shipped profile, made smaller: two jobs of one core."""
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    shipped = read_profile(f"{ROOT / 'cluster.yaml'}:slurm")
    certificates = tmp_path / "tls"
    certificates.mkdir(mode=0o700)
    kwargs = {**shipped.kwargs, "cores": 1, "processes": 1, "memory": "2GiB", "interface": "lo"}
    kwargs |= {"shared_temp_directory": str(certificates), "log_directory": str(tmp_path / "logs")}
    kwargs["scheduler_options"] = {"dashboard_address": "127.0.0.1:0"}
    profile = {
        "module": shipped.module,
        "class": shipped.class_name,
        "kwargs": kwargs,
        "security": shipped.security,
        "scale": {"jobs": 2},
        "min_workers": 2,
    }
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump({"profiles": {"slurm": profile}}))
    return f"{file}:slurm"


def jobs(slurm: dict[str, str]) -> list[str]:
    command = ["squeue", "--noheader", "--states=running", "--format=%i"]
    return subprocess.run(
        command, env=slurm, capture_output=True, text=True, check=True
    ).stdout.split()


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_job_has_the_bytes_of_a_local_one(
    cancelled: bool, photographs: Path, tmp_path: Path, slurm: dict[str, str], cluster_file: str
) -> None:
    local, there = tmp_path / "local.zarr", tmp_path / "there.zarr"
    kmdist.quantize(photographs, local, k=5, block_mpx=0.01, workers=1)
    ended: list[str] = []

    def end_a_job() -> None:
        while not list(there.parent.glob(f".{there.name}*")) or len(jobs(slurm)) < 2:
            time.sleep(0.05)
        ended.extend(jobs(slurm)[:1])
        subprocess.run(["scancel", "--signal=KILL", *ended], env=slurm, check=True)

    if cancelled:
        threading.Thread(target=end_a_job, daemon=True).start()
    words = ["quantize", str(photographs), "-o", str(there), "-k", "5", "--block-mpx", "0.01"]
    done = CliRunner().invoke(cli, [*words, "--cluster", cluster_file, "-q"])
    assert done.exit_code == 0, done.output
    assert bytes_of(local) == bytes_of(there)
    assert len(ended) == cancelled
    while jobs(slurm):  # they end with the job that asked for them
        time.sleep(0.1)
