"""Data, pictures and clusters that several tests share."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

DATA = Path(os.environ.get("KMDIST_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))


def data_folder(name: str) -> Path:
    """A folder of the public material, or a skip that says what is missing."""
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"public material {name!r} is not there (KMDIST_DATA)")
    return folder


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder of small made photographs: smooth, noisy, grey, with transparency."""
    import cv2

    folder = tmp_path / "photographs"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(6):
        y, x = np.mgrid[0 : 60 + 10 * i, 0:90]
        waves = np.stack([np.sin(x / (5 + i)), np.cos(y / 9), np.sin((x + y) / 14)], axis=-1)
        pixels = np.clip(127 + 90 * waves + rng.normal(0, 6, waves.shape), 0, 255)
        name = f"sub/{i}.png" if i % 2 else f"{i}.png"
        cv2.imwrite(str(folder / name), pixels.astype(np.uint8))
    alpha = np.full((40, 50, 4), 200, np.uint8)
    alpha[:20, :, 3] = 0
    alpha[..., 1] = np.arange(50)
    cv2.imwrite(str(folder / "transparent.png"), alpha)
    return folder


class DaskProcesses:
    """A scheduler and workers as separate processes, as `dask scheduler` and `dask worker`."""

    def __init__(self, folder: Path, n_workers: int, tls: Path | None = None) -> None:
        self.folder = folder
        self.tls = tls
        self._file = folder / "scheduler.json"
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
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
        import json
        import time

        from distributed import Client, Security

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


@pytest.fixture
def dask_tls_processes(tmp_path: Path) -> Iterator[DaskProcesses]:
    """A scheduler and two workers as separate processes that speak TLS alone."""
    folder = tmp_path / "dask"
    folder.mkdir()
    processes = DaskProcesses(folder, 2, make_certificates(tmp_path / "tls"))
    yield processes
    processes.close()


@pytest.fixture
def dask_processes(tmp_path: Path) -> Iterator[DaskProcesses]:
    """A scheduler and two workers started as separate processes."""
    folder = tmp_path / "dask"
    folder.mkdir()
    processes = DaskProcesses(folder, 2)
    yield processes
    processes.close()
