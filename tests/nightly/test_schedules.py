"""Schedule templates: checked by the tools that read them, and the command inside really run."""

import os
import shlex
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from distributed import Security

from kmdist.cluster import read_profile
from tests.support.folders import ROOT

pytestmark = pytest.mark.slow

SCHEDULE = ROOT / "jobs" / "schedule"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder as the templates assume it: the command, and jobs/ in the working folder."""
    command = tmp_path / "bin" / "kmdist"
    command.parent.mkdir()
    command.write_text(
        f"#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} "
        f'exec {shlex.quote(sys.executable)} -m kmdist "$@"\n'
    )
    command.chmod(0o755)
    (tmp_path / "srv" / "jobs").mkdir(parents=True)
    shutil.copy(ROOT / "jobs" / "nightly.yaml", tmp_path / "srv" / "jobs")
    return tmp_path


def at(site: Path, text: str) -> str:
    """A template with this site's paths."""
    assert "/opt/kmdist/bin/kmdist" in text
    text = text.replace("/opt/kmdist/bin/kmdist", str(site / "bin" / "kmdist"))
    return text.replace("/srv/kmdist", str(site / "srv"))


def assert_labelled(site: Path, done: "subprocess.CompletedProcess[str]") -> None:
    assert done.returncode == 0, done.stderr
    assert len(list((site / "srv" / "nightly" / "runs").glob("*.zarr"))) == 1


def unit(path: Path) -> ConfigParser:
    parser = ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser


def test_systemd_units(site: Path) -> None:
    units = site / "units"
    units.mkdir()
    for name in ("kmdist-nightly.service", "kmdist-nightly.timer"):
        text = (SCHEDULE / name).read_text()
        (units / name).write_text(at(site, text) if name.endswith("service") else text)
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze to verify the units with")
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, sorted(units.iterdir()))],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "kmdist-nightly" not in done.stderr, done.stderr


def test_the_command_of_the_service_runs(site: Path) -> None:
    service = unit(SCHEDULE / "kmdist-nightly.service")["Service"]
    assert service["SuccessExitStatus"] == "75"
    done = subprocess.run(
        shlex.split(at(site, service["ExecStart"])),
        cwd=at(site, f"{service['WorkingDirectory']} /opt/kmdist/bin/kmdist").split()[0],
        capture_output=True,
        text=True,
    )
    assert_labelled(site, done)


def test_the_line_for_cron_runs(site: Path) -> None:
    lines = (SCHEDULE / "crontab").read_text().splitlines()
    (line,) = [line for line in lines if line and not line.startswith("#")]
    *times, command = line.split(None, 5)
    assert times == ["0", "1", "*", "*", "*"]
    assert "%" not in command, "cron ends the command at a percent sign"
    done = subprocess.run(["/bin/sh", "-c", at(site, command)], capture_output=True, text=True)
    assert_labelled(site, done)
    assert "6 done" in (site / "srv" / "nightly.log").read_text()


def test_the_batch_script_runs(site: Path) -> None:
    script = SCHEDULE / "kmdist.sbatch"
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    options = [x for x in script.read_text().splitlines() if x.startswith("#SBATCH")]
    assert len(options) == 8
    environment = {
        **os.environ,
        "SLURM_SUBMIT_DIR": str(site / "srv"),
        "SLURM_CPUS_PER_TASK": "1",
        "KMDIST": str(site / "bin" / "kmdist"),
    }
    done = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True)
    assert_labelled(site, done)


def manifests() -> dict[str, Any]:
    documents = yaml.safe_load_all((SCHEDULE / "kubernetes.yaml").read_text())
    found = {document["kind"]: document for document in documents}
    found["DaskJob"] = yaml.safe_load(found["ConfigMap"]["data"]["daskjob.yaml"])
    return found


def test_kubernetes_manifests_belong_together() -> None:
    found = manifests()
    pod = found["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == found["ServiceAccount"]["metadata"]["name"]
    (volume,) = pod["volumes"]
    assert volume["configMap"]["name"] == found["ConfigMap"]["metadata"]["name"]
    assert found["CronJob"]["spec"]["concurrencyPolicy"] == "Forbid"
    spec = found["DaskJob"]["spec"]
    name = found["DaskJob"]["metadata"]["name"]
    selector = spec["cluster"]["spec"]["scheduler"]["service"]["selector"]
    policy = found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]
    assert selector["dask.org/cluster-name"] == policy["dask.org/cluster-name"] == name
    worker = spec["cluster"]["spec"]["worker"]["spec"]
    job = spec["job"]["spec"]
    for part in (worker, job):
        volumes = {volume["name"] for volume in part["volumes"]}
        mounts = {mount["name"] for mount in part["containers"][0]["volumeMounts"]}
        assert mounts <= volumes
        assert any(m["mountPath"] == "/data" for m in part["containers"][0]["volumeMounts"])


def test_the_command_of_the_dask_job_runs(site: Path, dask_cluster: Any) -> None:
    """As the pod runs it: the operator gives the scheduler's address by a variable."""
    args = manifests()["DaskJob"]["spec"]["job"]["spec"]["containers"][0]["args"]
    known = {
        "$(DASK_SCHEDULER_ADDRESS)": dask_cluster.address,
        "kmdist": str(site / "bin" / "kmdist"),
        "/spec/nightly.yaml": str(site / "srv" / "jobs" / "nightly.yaml"),
    }
    command = [known.get(word, word) for word in args]
    done = subprocess.run(command, cwd=site / "srv", capture_output=True, text=True)
    assert_labelled(site, done)


def test_slurm_profile_makes_a_job_script(tmp_path: Path) -> None:
    """As shipped, for more cores than are here; tests/cluster/test_slurm.py runs smaller jobs."""
    jobqueue = pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")
    pytest.importorskip("cryptography", reason="cryptography, for certificates, is not installed")
    profile = read_profile(f"{ROOT / 'cluster.yaml'}:slurm")
    assert profile.security == {"temporary": True}
    kwargs = {**profile.kwargs, "shared_temp_directory": str(tmp_path)}
    kwargs["scheduler_options"] = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with jobqueue.SLURMCluster(security=Security.temporary(), **kwargs) as cluster:
        assert cluster.scheduler_address.startswith("tls://")
        script = cluster.job_script()
    path = tmp_path / "job.sh"
    path.write_text(script)
    assert subprocess.run(["bash", "-n", str(path)]).returncode == 0
    for line in ("#SBATCH --cpus-per-task=8", "#SBATCH --mem=32G", "#SBATCH -t 04:00:00"):
        assert line in script
    assert "--nthreads 1 " in script
    assert "--nworkers 8 " in script
    assert "--protocol tls:// --tls-ca-file" in script
