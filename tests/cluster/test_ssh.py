"""The ssh profile's class against a real sshd on loopback, with throw-away keys."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import kmdist
from kmdist.cli import cli
from kmdist.cluster import read_profile
from tests.support.folders import ROOT
from tests.support.runs import bytes_of

pytestmark = pytest.mark.slow

SSHD = shutil.which("sshd") or shutil.which("/usr/sbin/sshd")


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """An sshd of this test's own; yields options for `asyncssh.connect`."""
    if SSHD is None or shutil.which("ssh-keygen") is None:
        pytest.skip("no sshd here (openssh-server)")
    pytest.importorskip("asyncssh", reason="asyncssh is not installed")
    folder = tmp_path / "sshd"
    folder.mkdir(mode=0o700)
    for name in ("host", "client"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/client.pub\nStrictModes no\nUsePAM no\n"
        f"PasswordAuthentication no\nPermitRootLogin yes\nSetEnv PYTHONPATH={ROOT}\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    log = (folder / "log").open("w")
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "config")], stderr=log)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None:
                pytest.skip(f"sshd does not start: {(folder / 'log').read_text()}")
            time.sleep(0.05)
        host_key = (folder / "host.pub").read_text()
        (folder / "known_hosts").write_text(f"[localhost]:{port} {host_key}")
        yield {
            "port": port,
            "username": getpass.getuser(),
            "client_keys": [str(folder / "client")],
            "known_hosts": str(folder / "known_hosts"),
        }
    finally:
        process.kill()
        process.wait()
        log.close()


def test_a_job_on_an_ssh_cluster(photographs: Path, tmp_path: Path, sshd: dict[str, Any]) -> None:
    shipped = read_profile(f"{ROOT / 'cluster.yaml'}:ssh")
    kwargs = {**shipped.kwargs, "connect_options": sshd, "remote_python": sys.executable}
    profile = {
        "module": shipped.module,
        "class": shipped.class_name,
        "args": list(shipped.args),
        "kwargs": kwargs,
        "min_workers": 2,
        "timeout": 60,
    }
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump({"profiles": {"ssh": profile}}))
    local = tmp_path / "local.zarr"
    kmdist.quantize(photographs, local, k=5, block_mpx=0.01, workers=1)
    there = tmp_path / "there.zarr"
    words = ["quantize", str(photographs), "-o", str(there), "-k", "5", "--block-mpx", "0.01"]
    done = CliRunner().invoke(cli, [*words, "--cluster", f"{file}:ssh", "-q"])
    assert done.exit_code == 0, done.output
    assert bytes_of(local) == bytes_of(there)


def test_a_refused_key_is_a_plain_error(tmp_path: Path, sshd: dict[str, Any]) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True
    )
    kwargs = {"connect_options": {**sshd, "client_keys": [str(tmp_path / "other")]}}
    profile = {
        "module": "dask.distributed",
        "class": "SSHCluster",
        "args": [["localhost", "localhost"]],
        "kwargs": kwargs,
    }
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump({"profiles": {"ssh": profile}}))
    done = CliRunner().invoke(cli, ["cluster", "check", f"{file}:ssh"])
    assert done.exit_code == 1
    assert "SSHCluster did not start" in done.output
    assert "Permission denied" in done.output
