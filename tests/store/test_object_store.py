"""Images from and runs to object stores: fsspec's memory, and S3 by moto's server on loopback."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import fsspec
import numpy as np
import pytest
from click.testing import CliRunner

import kmdist
from kmdist.cli import cli
from kmdist.errors import KmdistError, UsageError
from kmdist.images import open_images
from kmdist.store import FsspecTarget
from kmdist.store.claims.url_claims import staging_url
from tests.support.bad_network import FAULTS, bad_network
from tests.support.folders import ROOT

pytestmark = pytest.mark.slow

NETWORK_RUNS = int(os.environ.get("KMDIST_NETWORK_RUNS", "1"))
"""Runs through a bad network; 300 take an hour."""

SECRET = "kmdist-test-secret-0123456789"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket on an S3 server of this test's own; the environment leads to it."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    server_module = pytest.importorskip("moto.server", reason="moto's server is not installed")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "kmdist-test-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    import s3fs

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    reset = urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset).close()
    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem(use_listings_cache=False)
    fs.mkdir("bucket")
    yield fs
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def objects_of(target: FsspecTarget) -> dict[str, Any]:
    """Content of a run by key, without the root's record and the images' true places."""
    keys = list(target.keys())
    return {key: plain(key, target.get(key) or b"") for key in keys if key != "zarr.json"}


def files_of(run: Path) -> dict[str, Any]:
    return {
        (key := path.relative_to(run).as_posix()): plain(key, path.read_bytes())
        for path in sorted(run.rglob("*"))
        if path.is_file() and path != run / "zarr.json"
    }


def plain(key: str, data: bytes) -> Any:
    if not key.endswith("zarr.json"):
        return data
    node = json.loads(data)
    node.get("attributes", {}).pop("source", None)
    return node


def test_a_run_from_s3_to_s3_has_the_bytes_of_the_local_one(
    s3: Any, photographs: Path, tmp_path: Path
) -> None:
    local = kmdist.quantize(photographs, tmp_path / "local.zarr", k=5, block_mpx=0.01)
    s3.put(str(photographs), "bucket/photographs", recursive=True)
    words = ["quantize", "s3://bucket/photographs", "-o", "s3://bucket/runs/there.zarr", "-q"]
    done = CliRunner().invoke(cli, [*words, "-k", "5", "--block-mpx", "0.01"])
    assert done.exit_code == 0, done.output
    assert objects_of(FsspecTarget("s3://bucket/runs/there.zarr")) == files_of(local.path)
    there = kmdist.open_run("s3://bucket/runs/there.zarr")
    assert list(there.images) == list(local.images)
    assert there.inertia == local.inertia
    for name in local.images:
        assert np.array_equal(there.labels(name)[:], local.labels(name)[:])
    record = json.dumps(there.attributes) + done.output
    assert SECRET not in record
    assert "kmdist-test-key" not in record
    again = CliRunner().invoke(cli, [*words, "-k", "5"])
    assert again.exit_code == 2
    assert "exists" in again.output


def test_a_kill_in_the_middle_leaves_no_run_and_resumes(
    s3: Any, photographs: Path, tmp_path: Path
) -> None:
    s3.put(str(photographs), "bucket/photographs", recursive=True)
    output = "s3://bucket/run.zarr"
    words = ["quantize", "s3://bucket/photographs", "-o", output, "-k", "5", "-q",
             "--block-mpx", "0.01", "--workers", "1"]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "kmdist", *words], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    target = FsspecTarget(output)
    while process.poll() is None and not target.children("state/count.done.jsonl.parts"):
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not target.exists("zarr.json")
    with pytest.raises(KmdistError, match="not complete"):
        kmdist.open_run(output)
    refused = CliRunner().invoke(cli, words)
    assert refused.exit_code == 2
    assert "--resume" in refused.output
    done = CliRunner().invoke(cli, [*words, "--resume"])
    assert done.exit_code == 0, done.output
    local = kmdist.quantize(photographs, tmp_path / "local.zarr", k=5, block_mpx=0.01)
    assert objects_of(target) == files_of(local.path)


def test_a_kill_while_a_run_is_replaced_keeps_the_old_one(
    s3: Any, photographs: Path, tmp_path: Path
) -> None:
    """Another process is at work meanwhile: it is named; killed, its work is gone on with."""
    s3.put(str(photographs), "bucket/photographs", recursive=True)
    output = "s3://bucket/run.zarr"
    words = ["quantize", "s3://bucket/photographs", "-o", output, "-q", "--block-mpx", "0.01",
             "--workers", "1"]  # fmt: skip
    assert CliRunner().invoke(cli, [*words, "-k", "3"]).exit_code == 0
    old = objects_of(FsspecTarget(output))
    process = subprocess.Popen(
        [sys.executable, "-m", "kmdist", *words, "-k", "5", "--overwrite"], cwd=ROOT
    )
    staged = FsspecTarget(staging_url(output))
    while process.poll() is None and not staged.children("state/count.done.jsonl.parts"):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGSTOP)
    refused = CliRunner().invoke(cli, [*words, "-k", "5", "--overwrite"])
    assert refused.exit_code == 1
    assert f"is being written by process {process.pid}" in refused.output
    process.kill()
    process.wait()
    assert kmdist.open_run(output).k == 3
    kept = objects_of(FsspecTarget(output))
    assert {key: data for key, data in kept.items() if "state/" not in key} == old
    done = CliRunner().invoke(cli, [*words, "-k", "5", "--resume"])
    assert done.exit_code == 0, done.output
    local = kmdist.quantize(photographs, tmp_path / "local.zarr", k=5, block_mpx=0.01)
    assert objects_of(FsspecTarget(output)) == files_of(local.path)
    assert not s3.find("bucket/.run.zarr.partial")


def test_credentials_reach_no_object_no_log_and_no_report(
    s3: Any, photographs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    s3.put(str(photographs), "bucket/photographs", recursive=True)
    s3.pipe_file("bucket/photographs/bad.jpg", b"nothing")
    said = []
    with caplog.at_level(logging.DEBUG, "kmdist"):
        for words in (
            ["quantize", "s3://bucket/photographs", "-o", "s3://bucket/run.zarr", "-k", "3", "-v"],
            ["info", "s3://bucket/run.zarr"],
            ["info", "s3://bucket/run.zarr", "--json"],
            ["quantize", "s3://nosuchbucket/photographs", "-o", "s3://bucket/other.zarr"],
            ["quantize", "s3://bucket/photographs", "-o", "s3://nosuchbucket/other.zarr"],
        ):
            done = CliRunner().invoke(cli, words)
            said.append(done.output)
            assert done.exit_code == (1 if "nosuchbucket" in str(words) else 0), done.output
    said += [record.getMessage() for record in caplog.records if record.name.startswith("kmdist")]
    stored = b"".join(s3.cat(s3.find("bucket/run.zarr")).values())
    for credential in (SECRET, "kmdist-test-key"):
        assert credential not in "".join(said)
        assert credential.encode() not in stored


def test_workers_read_and_write_s3(
    s3: Any, photographs: Path, tmp_path: Path, dask_processes: Any
) -> None:
    """The workers are processes that inherit the credentials from the environment alone."""
    s3.put(str(photographs), "bucket/photographs", recursive=True)
    output = "s3://bucket/run.zarr"
    kmdist.quantize("s3://bucket/photographs/*.png", output, k=5, scheduler=dask_processes.address)
    local = kmdist.quantize(photographs.glob("*.png"), tmp_path / "local.zarr", k=5)
    assert objects_of(FsspecTarget(output)) == files_of(local.path)


def test_a_target_in_memory() -> None:
    target = FsspecTarget(f"memory://target-{os.urandom(4).hex()}")
    assert target.get("a") is None
    assert list(target.keys()) == []
    target.put("a/b", b"1")
    target.put("a/c/d", memoryview(b"22"))
    assert target.get("a/c/d") == b"22"
    assert target.exists("a/b")
    assert not target.exists("a")
    assert list(target.keys()) == ["a/b", "a/c/d"]
    assert list(target.keys("a/c")) == ["a/c/d"]
    assert target.children("a") == ["b", "c"]
    for i in range(12):
        target.append("log.jsonl", b"%d\n" % i)
    assert target.get("log.jsonl") == b"".join(b"%d\n" % i for i in range(12))
    target.delete("a/c")
    target.delete("a/none")
    assert list(target.keys("a")) == ["a/b"]
    for key in ("", "/a", "a/../b", "a//b"):
        with pytest.raises(ValueError, match="not a key"):
            target.put(key, b"")


def test_jobs_in_memory_and_what_is_refused(photographs: Path) -> None:
    import fsspec

    place = f"memory://job-{os.urandom(4).hex()}"
    fs = fsspec.filesystem("memory")
    fs.put(str(photographs), f"{place}/photographs", recursive=True)
    (bad,) = [f"{place}/photographs/bad.jpg"]
    fs.pipe_file(bad, b"nothing")
    run = kmdist.quantize(f"{place}/photographs", f"{place}/run.zarr", k=4)
    assert len(run.images) == 7
    assert [r["image"] for r in run.attributes["rejected"]] == ["bad.jpg"]
    assert open_images(f"{place}/photographs")["0.png"].compute().shape == (60, 90, 3)
    with pytest.raises(UsageError, match="exists"):
        kmdist.quantize(f"{place}/photographs", f"{place}/run.zarr", k=4)
    with pytest.raises(UsageError, match="not empty"):
        kmdist.quantize(f"{place}/photographs", f"{place}/photographs", k=4)
    with pytest.raises(UsageError, match="nothing is there"):
        kmdist.quantize(f"{place}/none", f"{place}/other.zarr", k=4)
    with pytest.raises(UsageError, match="does not exist"):
        kmdist.open_run(f"{place}/none.zarr")
    with pytest.raises(UsageError, match="leave credentials out") as caught:
        kmdist.quantize(f"s3://key:{SECRET}@bucket/x", f"{place}/other.zarr", k=4)
    assert SECRET not in str(caught.value)
    with pytest.raises(UsageError, match="nosuchscheme"):
        kmdist.quantize("nosuchscheme://x", f"{place}/other.zarr", k=4)


def test_a_bad_network_changes_no_byte(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resets, lost replies, cut and late ones, and busy servers: what ends early is resumed."""
    server = urlsplit(os.environ["AWS_ENDPOINT_URL"])
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        pixels = rng.integers(0, 256, (60, 80, 3), np.uint8)
        for fs, key in ((s3, "bucket/photos"), (fsspec.filesystem("memory"), "/bad/photos")):
            fs.pipe_file(f"{key}/{name}.png", cv2.imencode(".png", pixels)[1].tobytes())
    options: dict[str, Any] = {"k": 3, "workers": 1, "keep_pixels": "never", "block_mpx": 0.01}
    kmdist.quantize("memory://bad/photos", "memory://bad/plain.zarr", **options)
    plain_run = objects_of(FsspecTarget("memory://bad/plain.zarr"))
    faults: Counter[str] = Counter()
    interrupted = 0
    for n in range(NETWORK_RUNS):
        with bad_network((str(server.hostname), int(server.port or 0)), 0.1, n) as proxy:
            to_server(monkeypatch, proxy.url)
            url = f"s3://bucket/{n}.zarr"
            while True:
                try:
                    run = kmdist.quantize("s3://bucket/photos", url, resume=True, **options)
                    assert run.attributes["rejected"] == []
                    break
                except KmdistError:
                    interrupted += 1
            faults += proxy.done
        to_server(monkeypatch, server.geturl())
        assert objects_of(FsspecTarget(url)) == plain_run, n
        left = s3.find(staging_url(url).removeprefix("s3://"))
        assert not left, (n, left)
    sys.stdout.write(f"{NETWORK_RUNS} runs, {interrupted} interrupted; {dict(faults)}\n")
    assert set(faults) == set(FAULTS) or NETWORK_RUNS < 10


def to_server(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # botocore waits half a second before each
    s3fs.S3FileSystem.clear_instance_cache()
