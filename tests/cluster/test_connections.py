"""Cluster files and the clusters they lead to: real schedulers, real workers, real TLS."""

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import kmdist
from kmdist.cli import cli
from kmdist.cluster import Compute, connect, local_workers, profile_of, read_profile
from kmdist.cluster import workers as pools
from kmdist.cluster.connection import is_loopback, join, require_kmdist
from kmdist.errors import KmdistError, UsageError
from kmdist.recipes.registry import recipe_names
from tests.support.dask_processes import DaskProcesses
from tests.support.folders import ROOT
from tests.support.runs import bytes_of

SHIPPED = ROOT / "cluster.yaml"
JOBS = [name for name in sorted(recipe_names()) if (ROOT / f"jobs/{name}.yaml").exists()]
"""Recipes that have a job spec."""


def cluster_file(folder: Path, **profiles: Any) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump({"default": next(iter(profiles)), "profiles": profiles}))
    return path


@pytest.mark.parametrize("name", ["local", "existing", "ssh", "slurm", "kubernetes"])
def test_shipped_profiles_can_be_read(name: str) -> None:
    profile = read_profile(f"{SHIPPED}:{name}")
    assert profile.local == (name == "local")
    if profile.module:
        assert profile.class_name
        assert profile.min_workers > 1
    assert read_profile(str(SHIPPED)).name == "local"


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ({"adress": "tcp://127.0.0.1:1"}, "unknown key 'adress'; did you mean 'address'?"),
        ({"address": "tcp://127.0.0.1:1", "module": "x", "class": "y"}, "keep one"),
        ({"module": "distributed"}, "go together"),
        ({"address": "tcp://h:1", "scale": 3}, "'scale' is for a cluster that"),
        ({"min_workers": "many"}, "'min_workers' must be a whole number, got 'many'"),
        ({"timeout": -1}, "'timeout' must be at least"),
        ({"address": "tcp://127.0.0.1:$NO_SUCH_PORT"}, "variable $NO_SUCH_PORT is not set"),
        ({"version": 2, "address": "tcp://h:1"}, "version 2; this kmdist reads 1"),
        ({"worker_kind": "fibre"}, "'worker_kind' must be auto, thread, process"),
        ({"workers": "all"}, "'workers' must be a number or auto"),
        ({"address": "tls://h:1", "security": {"tls_ca_file": "none.pem"}}, "No such file"),
        ("text", "must be a mapping"),
    ],
)
def test_a_mistake_in_the_file_is_said_plainly(tmp_path: Path, profile: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_profile(str(cluster_file(tmp_path, mine=profile)))
    assert said in str(caught.value)
    assert "cluster.yaml" in str(caught.value)
    assert "'mine'" in str(caught.value)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("foo", "must be HOST:PORT"),
        ("tpc://127.0.0.1:8786", "did you mean tcp://?"),
        ("http://127.0.0.1:8787", "one of tcp://, tls://"),
        ("threads", "choose with --worker-kind thread or process"),
        ("cluster.yaml:existing", "--cluster cluster.yaml:existing"),
        ("tcp://127.0.0.1", "such as tcp://127.0.0.1:8786"),
    ],
)
def test_what_is_no_address_is_said_with_what_is(address: str, said: str, tmp_path: Path) -> None:
    words = ["quantize", "sample:photos", "-o", str(tmp_path / "r.zarr"), "--scheduler", address]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 2
    assert said in done.output
    assert repr(address) in done.output


def test_a_cluster_file_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        read_profile("cluster.yaml:existing")
    assert str(tmp_path / "cluster.yaml") in str(caught.value)
    smallest = str(caught.value).split("two lines:\n")[1].rpartition("\n")[0]
    Path("cluster.yaml").write_text(smallest)
    assert read_profile("cluster.yaml:existing").address == "tcp://127.0.0.1:8786"


def test_variables_and_files_relative_to_the_cluster_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KMDIST_TEST_PORT", "4321")
    monkeypatch.setenv("KMDIST_TEST_WORKERS", "7")
    (tmp_path / "ca.pem").write_text("")
    path = cluster_file(
        tmp_path,
        mine={
            "address": "tls://127.0.0.1:$KMDIST_TEST_PORT",
            "min_workers": "${KMDIST_TEST_WORKERS}",
            "security": {"tls_ca_file": "ca.pem"},
        },
    )
    profile = read_profile(str(path))
    assert profile.address == "tls://127.0.0.1:4321"
    assert profile.min_workers == 7
    assert profile.security == {"tls_ca_file": str(tmp_path / "ca.pem")}


def test_the_file_is_read_as_data(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("profiles:\n  mine: !!python/object/apply:os.system ['touch hacked']\n")
    with pytest.raises(UsageError, match="not valid YAML"):
        read_profile(str(path))
    assert not Path("hacked").exists()


def test_only_modules_on_the_list_are_imported(tmp_path: Path) -> None:
    path = cluster_file(tmp_path, mine={"module": "os", "class": "system", "args": ["true"]})
    with pytest.raises(UsageError, match="--trust os"), connect(read_profile(str(path))):
        pass
    # Trusted, it is called, and what it returns is no cluster.
    trusted = connect(read_profile(str(path)), trust=("os",))
    with pytest.raises((KmdistError, AttributeError)), trusted:
        pass


@pytest.mark.parametrize(
    "profile",
    [
        {"module": "distributed.utils", "class": "import_file", "args": ["{code}"]},
        {"module": "distributed", "class": "SpecCluster", "kwargs": {}},
        {"module": "distributed.deploy.old_ssh", "class": "start_scheduler"},
        {"module": "distributed", "class": "LocalCluster", "kwargs": {"preload": ["{code}"]}},
        {"module": "distributed", "class": "LocalCluster", "kwargs": {"preload_nanny": "{code}"}},
        {"module": "distributed", "class": "LocalCluster", "kwargs": {"worker_class": "x.Y"}},
        {"module": "distributed", "class": "LocalCluster", "kwargs": {"env": {"LD_PRELOAD": "x"}}},
        {
            "module": "dask.distributed",
            "class": "SSHCluster",
            "args": [["localhost"]],
            "kwargs": {"worker_options": {"preload": "{code}"}},
        },
        {
            "module": "dask.distributed",
            "class": "SSHCluster",
            "args": [["localhost"]],
            "kwargs": {"connect_options": {"proxy_command": "touch hacked"}},
        },
        {
            "module": "dask_jobqueue",
            "class": "SLURMCluster",
            "kwargs": {"worker_extra_args": ["--preload", "{code}"]},
        },
    ],
)
def test_a_cluster_file_runs_no_code_of_its_own(tmp_path: Path, profile: dict[str, Any]) -> None:
    code, ran = tmp_path / "code.py", tmp_path / "ran"
    code.write_text(f"open({str(ran)!r}, 'w')")
    text = json.dumps({"profiles": {"mine": profile}}).replace("{code}", str(code))
    (tmp_path / "cluster.yaml").write_text(text)
    hostile = connect(read_profile(f"{tmp_path / 'cluster.yaml'}:mine"))
    with pytest.raises(UsageError, match="--trust"), hostile:
        pass
    assert not ran.exists()


@pytest.mark.parametrize("address", ["0.0.0.0:0", "tcp://0.0.0.0:8787", "[::]:0", ":8787", "8787"])
def test_an_open_dashboard_needs_consent(tmp_path: Path, address: str) -> None:
    for kwargs in (
        {"dashboard_address": address},
        {"scheduler_options": {"dashboard_address": address}},
        {"worker_dashboard_address": address},
    ):
        profile = {"module": "distributed", "class": "LocalCluster", "kwargs": kwargs}
        path = cluster_file(tmp_path, mine=profile)
        opened = connect(read_profile(str(path)))
        with pytest.raises(UsageError, match=r"dashboard at .*--insecure"), opened:
            pass


def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    profile = {"module": "dask_kubernetes.no_such_part", "class": "KubeCluster"}
    path = cluster_file(tmp_path, mine=profile)
    with (
        pytest.raises(UsageError, match=r"pip install dask-kubernetes"),
        connect(read_profile(str(path))),
    ):
        pass


def test_wrong_arguments_of_the_class_are_plain_errors(tmp_path: Path) -> None:
    profile = {"module": "distributed", "class": "LocalCluster", "kwargs": {"no_such": 1}}
    path = cluster_file(tmp_path, mine=profile)
    with (
        pytest.raises(KmdistError, match="LocalCluster did not start"),
        connect(read_profile(str(path))),
    ):
        pass


@pytest.mark.parametrize(
    "address", ["tcp://192.0.2.7:8786", "192.0.2.7:8786", "ws://[2001:db8::1]"]
)
def test_a_scheduler_in_the_open_is_refused(address: str) -> None:
    profile = profile_of(Compute(scheduler=address))
    with pytest.raises(UsageError, match=r"has no TLS.*--insecure"), connect(profile):
        pass


def test_loopback_is_told_from_the_rest() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "127.8.8.8"))
    assert not any(is_loopback(host) for host in ("0.0.0.0", "192.0.2.7", "no.such.host.invalid"))


def test_a_cluster_that_listens_to_all_is_refused_and_stopped(tmp_path: Path) -> None:
    kwargs = {"n_workers": 0, "processes": False, "host": "0.0.0.0", "dashboard_address": ":0"}
    profile = {"module": "distributed", "class": "LocalCluster", "kwargs": kwargs}
    path = cluster_file(tmp_path, mine=profile)
    with pytest.raises(UsageError, match="no TLS"), connect(read_profile(str(path))):
        pass


def test_no_answer_names_address_and_remedy(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = cluster_file(tmp_path, mine={"address": f"tcp://127.0.0.1:{port}", "timeout": 1})
    done = CliRunner().invoke(cli, ["cluster", "check", f"{path}:mine"])
    assert done.exit_code == 1
    assert f"no Dask scheduler answers at tcp://127.0.0.1:{port}" in done.output
    assert "Traceback" not in done.output


def test_too_few_workers_are_counted(tmp_path: Path, dask_cluster: DaskProcesses) -> None:
    profile = {"address": dask_cluster.address, "min_workers": 3, "timeout": 1}
    path = cluster_file(tmp_path, mine=profile)
    with (
        pytest.raises(KmdistError, match=r"2 of 3 workers came in 1 s.*min_workers"),
        connect(read_profile(str(path))),
    ):
        pass


def test_check_reports_workers_versions_and_sight(
    tmp_path: Path, dask_cluster: DaskProcesses
) -> None:
    seen = tmp_path / "seen"
    seen.mkdir()
    path = cluster_file(tmp_path, mine={"address": dask_cluster.address})
    done = CliRunner().invoke(cli, ["cluster", "check", f"{path}:mine", "--input", str(seen)])
    assert done.exit_code == 0, done.output
    assert "2 workers, 2 threads" in done.output
    assert "2 of 2 workers ran a task" in done.output
    for package in ("python", "kmdist", "numpy", "numba", "zarr", "cv2"):
        assert f"{package} " in done.output
    assert f"{seen}: every worker sees what is seen here" in done.output
    missing = str(tmp_path / "missing")
    done = CliRunner().invoke(cli, ["cluster", "check", f"{path}:mine", "--input", missing])
    assert done.exit_code == 1
    assert "2 of 2 workers cannot read it" in done.output


@pytest.mark.slow
def test_a_worker_without_kmdist_is_one_line(tmp_path: Path) -> None:
    """The worker runs with a PYTHONPATH whose `kmdist` cannot be imported."""
    broken = tmp_path / "broken" / "kmdist"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('not here')\n")
    folder = tmp_path / "dask"
    folder.mkdir()
    processes = DaskProcesses(folder, 0)
    worker = subprocess.Popen(
        [
            *(sys.executable, "-m", "dask", "worker", "--no-nanny", "--no-dashboard"),
            *("--scheduler-file", str(folder / "scheduler.json"), "--nthreads", "1"),
        ],
        cwd=broken.parent,
        env={**os.environ, "PYTHONPATH": str(broken.parent)},
        stderr=subprocess.DEVNULL,
    )
    try:
        spec = str(cluster_file(tmp_path, mine={"address": processes.address}))
        profile = read_profile(spec)
        with pytest.raises(KmdistError) as caught, connect(profile):
            pass
        assert "1 of 1 workers cannot import kmdist" in str(caught.value)
        assert f"there: pip install kmdist=={kmdist.__version__}" in str(caught.value)
        assert "\n" not in str(caught.value)
        done = CliRunner().invoke(cli, ["cluster", "check", spec])
        assert done.exit_code == 1
        assert "lack kmdist" in done.output
    finally:
        worker.kill()
        worker.wait()
        processes.close()


def test_workers_with_kmdist_pass(dask_cluster: DaskProcesses) -> None:
    from distributed import Client

    with Client(dask_cluster.address) as client:
        require_kmdist(client, profile_of(Compute(scheduler=dask_cluster.address)))


@pytest.mark.parametrize(
    ("workers", "mpx", "kind"),
    [
        (1, 1e6, "thread"),
        (2, 15_000, "thread"),
        (4, 17_000, "process"),
        (8, 300, "thread"),
        (8, 500, "process"),
    ],
)
def test_threads_for_small_work_processes_for_large(workers: int, mpx: float, kind: str) -> None:
    compute = Compute(workers=workers)
    assert local_workers(profile_of(compute), compute, mpx) == (workers, kind)


@pytest.mark.parametrize(
    ("nanny", "process", "replaced"),
    [
        ("init", None, False),  # at work on its first worker
        ("running", "starting", False),
        ("running", "running", False),
        ("running", "stopped", True),
        ("running", "failed", True),
        ("failed", None, True),
        ("closed", None, True),
    ],
)
def test_a_worker_that_begins_is_not_replaced(
    nanny: str, process: str | None, replaced: bool
) -> None:
    def state(name: str | None, **more: Any) -> Any:
        return None if name is None else SimpleNamespace(status=SimpleNamespace(name=name), **more)

    closed: list[Any] = []
    cluster = SimpleNamespace(
        workers={0: state(nanny, process=state(process), close="close")},
        loop=SimpleNamespace(add_callback=closed.append),
        scale=lambda n: closed.append(n),
    )
    revive = pools._Reviver(cluster, 1)
    for _ in range(3):
        revive()
    assert closed[:2] == (["close", 1] if replaced else [])


def test_a_client_that_finds_no_scheduler_leaves_nothing_to_the_garbage_collector() -> None:
    """Its event loop ends at once; a collector in another thread could wait for it for ever."""
    before = {thread.ident for thread in threading.enumerate()}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening
        with pytest.raises(OSError, match="Timed out") as failed:
            join(f"tcp://127.0.0.1:{taken.getsockname()[1]}", timeout=1)
    new = [t.name for t in threading.enumerate() if t.ident not in before]
    assert not any("loop" in name for name in new), (new, failed)


def test_jobs_over_tls_have_the_bytes_of_local_runs(
    tmp_path: Path, dask_tls_processes: DaskProcesses
) -> None:
    """Each shipped spec, as it stands but for its output, in blocks that make several tasks.

    Real certificates, scheduler and workers; a client without them is turned away.
    """
    address = dask_tls_processes.address
    assert address.startswith("tls://")
    profile = {"address": address, "min_workers": 2, "security": dask_tls_processes.security}
    file = cluster_file(tmp_path, secure=profile)
    assert {"quantize", "texture"} <= set(JOBS)
    for recipe in JOBS:
        runs = {}
        for place, more in (("local", []), ("tls", ["--cluster", f"{file}:secure"])):
            runs[place] = tmp_path / f"{recipe}-{place}.zarr"
            words = ["run", str(ROOT / f"jobs/{recipe}.yaml"), "-q", *more]
            for pair in (f"output={runs[place]}", "block_mpx=0.3"):
                words += ["--set", pair]
            done = CliRunner().invoke(cli, words)
            assert done.exit_code == 0, done.output
        assert bytes_of(runs["local"]) == bytes_of(runs["tls"]), recipe
        assert kmdist.open_run(runs["tls"]).recipe == recipe
    for plain in (address.replace("tls://", "tcp://"), address):
        with pytest.raises((OSError, ValueError, TypeError)):
            join(plain, timeout=3)
    done = CliRunner().invoke(cli, ["cluster", "check", "--scheduler", address])
    assert done.exit_code == 1
    assert "tls:// needs 'security'" in done.output
