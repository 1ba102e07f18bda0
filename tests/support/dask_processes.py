"""Dask clusters of separate processes, with certificates where they speak TLS."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from distributed import Client, Security

from tests.support.folders import ROOT


class DaskProcesses:
    """A scheduler and workers as separate processes, as `dask scheduler` and `dask worker`."""

    def __init__(self, folder: Path, n_workers: int, tls: Path | None = None) -> None:
        self.folder = folder
        self.tls = tls
        self._file = folder / "scheduler.json"
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._start = lambda *args: subprocess.Popen(
            [sys.executable, "-m", "dask", *args],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        file = ["--scheduler-file", str(self._file), *self._tls_options()]
        address = "tls://127.0.0.1" if tls else "127.0.0.1"
        self.scheduler = self._start(
            "scheduler", "--host", address, "--port", "0", "--no-dashboard", *file
        )
        self.workers = [self.add_worker() for _ in range(n_workers)]

    def add_worker(self) -> "subprocess.Popen[bytes]":
        """One more worker process, without a nanny: killed, it stays dead."""
        return self._start(
            "worker",
            "--scheduler-file",
            str(self._file),
            "--nthreads",
            "1",
            "--no-nanny",
            "--no-dashboard",
            "--host",
            "tls://127.0.0.1" if self.tls else "127.0.0.1",
            "--local-directory",
            str(self.folder),
            *self._tls_options(),
        )

    def _tls_options(self) -> list[str]:
        if self.tls is None:
            return []
        names = {"--tls-ca-file": "ca.pem", "--tls-cert": "node.pem", "--tls-key": "node.key"}
        return [word for key, name in names.items() for word in (key, str(self.tls / name))]

    @property
    def security(self) -> dict[str, str | bool]:
        """Keywords of `distributed.Security` for a client; empty without TLS."""
        if self.tls is None:
            return {}
        return {
            "tls_ca_file": str(self.tls / "ca.pem"),
            "tls_client_cert": str(self.tls / "node.pem"),
            "tls_client_key": str(self.tls / "node.key"),
            "require_encryption": True,
        }

    @property
    def address(self) -> str:
        """The scheduler's address, once it listens and all workers are there."""
        while not (self._file.exists() and self._file.read_text().strip()):
            time.sleep(0.05)
        address = str(json.loads(self._file.read_text())["address"])
        security = Security(**self.security) if self.tls else None
        with Client(address, timeout=60, security=security) as client:
            if self.workers:
                client.wait_for_workers(len(self.workers), timeout=120)
        return address

    def close(self) -> None:
        """Kill every process."""
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


def make_certificates(folder: Path) -> Path:
    """A throw-away authority and one certificate for scheduler, workers and client."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make certificates with")
    folder.mkdir()
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.pem -subj /CN=test-ca",
        "req -newkey rsa:2048 -nodes -keyout node.key -out node.csr -subj /CN=node",
        "x509 -req -in node.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out node.pem",
    ):
        subprocess.run(
            ["openssl", *command.split()], cwd=folder, check=True, stderr=subprocess.DEVNULL
        )
    return folder
