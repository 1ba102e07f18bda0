"""Several hosts: scheduler, workers and client in network namespaces of their own."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

import kmdist
from tests.support.dask_processes import make_certificates
from tests.support.folders import ROOT
from tests.support.runs import bytes_of

pytestmark = pytest.mark.slow

PATIENCE = {
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "8s",
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "10s",
    "DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT": "5s",
}
"""Seconds after which a silent peer counts as gone; Dask's own minutes are for slow networks."""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Hosts:
    """Namespaces on one bridge, with a process in each."""

    def __init__(self, folder: Path, names: tuple[str, ...]) -> None:
        self.folder = folder
        self.tag = f"km{secrets.token_hex(2)}"
        self.names = names
        self.processes: list[subprocess.Popen[bytes]] = []
        self.tls = make_certificates(folder / "tls")

    def open(self) -> None:
        """Make the namespaces; `CalledProcessError` where that is not allowed."""
        hub = f"{self.tag}hub"
        ip("netns", "add", hub)
        ip("-n", hub, "link", "add", "bridge", "type", "bridge")
        ip("-n", hub, "link", "set", "bridge", "up")
        for i, name in enumerate(self.names):
            space, end = f"{self.tag}{name}", f"to-{name}"
            ip("netns", "add", space)
            ip("-n", hub, "link", "add", end, "type", "veth", "peer", "name", "eth0",
               "netns", space)  # fmt: skip
            ip("-n", hub, "link", "set", end, "master", "bridge", "up")
            ip("-n", space, "addr", "add", f"10.231.7.{i + 1}/24", "dev", "eth0")
            ip("-n", space, "link", "set", "eth0", "up")
            ip("-n", space, "link", "set", "lo", "up")

    def address(self, name: str) -> str:
        return f"10.231.7.{self.names.index(name) + 1}"

    def cut(self, name: str) -> None:
        """No packet reaches the host or leaves it; nobody is told."""
        ip("-n", f"{self.tag}hub", "link", "set", f"to-{name}", "down")

    def start(self, name: str, *words: str, **options: Any) -> "subprocess.Popen[bytes]":
        environment = {**os.environ, **PATIENCE, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            ["ip", "netns", "exec", f"{self.tag}{name}", sys.executable, "-m", *words],
            cwd=self.folder,
            env=environment,
            **{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **options},
        )
        self.processes.append(process)
        return process

    def start_dask(self) -> None:
        """A scheduler on the first host, a worker on each of the others but the client."""
        tls = ["--tls-ca-file", str(self.tls / "ca.pem"), "--tls-cert", str(self.tls / "node.pem"),
               "--tls-key", str(self.tls / "node.key"), "--no-dashboard"]  # fmt: skip
        host = f"tls://{self.address('sched')}"
        self.start("sched", "dask", "scheduler", "--host", host, "--port", "8786", *tls)
        for name in self.names:
            if name.startswith("work"):
                own = [
                    "--host",
                    f"tls://{self.address(name)}",
                    "--local-directory",
                    str(self.folder),
                ]
                words = ["--nthreads", "1", "--no-nanny", *own, *tls]
                self.start(name, "dask", "worker", f"{host}:8786", *words)

    def cluster_file(self) -> Path:
        security = {
            "tls_ca_file": "tls/ca.pem",
            "tls_client_cert": "tls/node.pem",
            "tls_client_key": "tls/node.key",
            "require_encryption": True,
        }
        address = f"tls://{self.address('sched')}:8786"
        profile = {"address": address, "min_workers": 2, "timeout": 60, "security": security}
        path = self.folder / "cluster.yaml"
        path.write_text(yaml.safe_dump({"profiles": {"hosts": profile}}))
        return path

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        for name in (*self.names, "hub"):
            subprocess.run(["ip", "netns", "del", f"{self.tag}{name}"], capture_output=True)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    """A scheduler, two workers and a client, each on a host of its own."""
    if shutil.which("ip") is None:
        pytest.skip("no `ip` to make network namespaces with")
    made = Hosts(tmp_path, ("sched", "work1", "work2", "client"))
    try:
        made.open()
    except subprocess.CalledProcessError as error:
        made.close()
        pytest.skip(f"no network namespaces can be made here: {error.stderr.decode().strip()}")
    made.start_dask()
    yield made
    made.close()


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Photographs enough for passes of seconds: 60 blocks of a megapixel each."""
    folder = tmp_path / "many"
    folder.mkdir()
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 16, (1000, 1000, 3), dtype=np.uint8) * np.uint8(16)
    for i in range(8):
        cv2.imwrite(str(folder / f"{i:02}.png"), np.roll(pixels, 31 * i, axis=i % 2) ^ np.uint8(i))
    for i in range(8, 60):
        os.link(folder / f"{i % 8:02}.png", folder / f"{i:02}.png")
    return folder


def start_job(hosts: Hosts, folder: Path, output: Path, *more: str) -> Any:
    file = hosts.cluster_file()
    return hosts.start(
        "client", "kmdist", "quantize", str(folder), "-o", str(output), "-k", "8", "--block-mpx",
        "1", "--keep-pixels", "never", "--cluster", f"{file}:hosts", "-q", *more,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def await_blocks(output: Path, blocks: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until so many blocks of the first pass are done."""
    manifest = output.with_name(f".{output.name}.partial") / "state" / "count.done.jsonl"
    while not manifest.exists() or len(manifest.read_bytes().splitlines()) < blocks:
        assert process.poll() is None, "the job ended before the link was cut"
        time.sleep(0.01)


def test_a_job_over_hosts_and_a_cut_worker(hosts: Hosts, many: Path, tmp_path: Path) -> None:
    local = tmp_path / "local.zarr"
    kmdist.quantize(many, local, k=8, block_mpx=1, keep_pixels="never")
    whole = tmp_path / "whole.zarr"
    process = start_job(hosts, many, whole)
    errors = process.communicate(timeout=200)[1].decode()
    assert process.returncode == 0, errors
    assert bytes_of(whole) == bytes_of(local)
    cut = tmp_path / "cut.zarr"
    process = start_job(hosts, many, cut)
    await_blocks(cut, 8, process)
    hosts.cut("work2")
    errors = process.communicate(timeout=200)[1].decode()
    assert process.returncode == 0, errors
    assert bytes_of(cut) == bytes_of(local)


def test_a_cut_scheduler_is_a_plain_error_and_a_resumable_run(
    hosts: Hosts, many: Path, tmp_path: Path
) -> None:
    output = tmp_path / "run.zarr"
    process = start_job(hosts, many, output)
    await_blocks(output, 8, process)
    hosts.cut("sched")
    errors = process.communicate(timeout=200)[1].decode()
    assert process.returncode == 1, errors
    assert "Traceback" not in errors
    assert "scheduler" in errors
    assert "--resume" in errors
    assert not output.exists()
    manifest = output.with_name(f".{output.name}.partial") / "state" / "count.done.jsonl"
    finished = {json.loads(line)[0] for line in manifest.read_text().splitlines()}
    assert len(finished) >= 8
    kmdist.quantize(many, output, k=8, block_mpx=1, keep_pixels="never", resume=True)
    fresh = tmp_path / "fresh.zarr"
    kmdist.quantize(many, fresh, k=8, block_mpx=1, keep_pixels="never")
    assert bytes_of(output) == bytes_of(fresh)
