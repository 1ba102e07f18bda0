"""A SLURM of one node for tests: munge, controller and node as processes in a folder."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")


def missing_programs() -> list[str]:
    """What is not installed here; the daemons need root besides."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


@contextmanager
def one_node(folder: Path) -> Iterator[dict[str, str]]:
    """The environment in which the commands of a running SLURM find it."""
    folder.chmod(0o755)
    key, socket_ = folder / "munge.key", folder / "munge.socket"
    key.write_bytes(os.urandom(64))
    key.chmod(0o600)
    conf = folder / "slurm.conf"
    conf.write_text(_configuration(folder, socket_))
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    environment["PATH"] += ":/usr/sbin"
    files = {name: str(folder / f"munged.{name}") for name in ("pid", "log", "seed")}
    munge = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={socket_}"]
    munge += [f"--{name}-file={path}" for name, path in files.items()]
    with ExitStack() as stack:
        for command in (munge, ["slurmctld", "-D"], ["slurmd", "-D"]):
            log = stack.enter_context((folder / f"{command[0]}.out").open("w"))
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            stack.callback(_end, process)
            if command is munge:
                _wait_for(socket_.exists, process, folder)
        _wait_for(lambda: _is_idle(environment), process, folder)
        yield environment


def _configuration(folder: Path, munge_socket: Path) -> str:
    host = socket.gethostname().partition(".")[0]
    memory_mb = psutil.virtual_memory().total // 2**21
    settings = {
        "ClusterName": "test",
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "SlurmctldPort": _free_port(),
        "SlurmdPort": _free_port(),
        "SlurmUser": "root",
        "SlurmdUser": "root",
        "AuthInfo": f"socket={munge_socket}",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "JobAcctGatherType": "jobacct_gather/none",
        "MailProg": "/bin/true",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_CPU",
        "SlurmdParameters": "config_overrides",
        "ReturnToService": 2,
        "StateSaveLocation": folder / "state",
        "SlurmdSpoolDir": folder / "spool",
        "SlurmctldPidFile": folder / "slurmctld.pid",
        "SlurmdPidFile": folder / "slurmd.pid",
        "SlurmctldLogFile": folder / "slurmctld.log",
        "SlurmdLogFile": folder / "slurmd.log",
        "NodeName": f"{host} NodeAddr=127.0.0.1 CPUs=2 RealMemory={memory_mb}",
        "PartitionName": f"normal Nodes={host} Default=YES MaxTime=INFINITE State=UP",
    }
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _is_idle(environment: dict[str, str]) -> bool:
    command = ["sinfo", "--noheader", "--format=%T"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout.strip() == "idle"


def _wait_for(ready: Callable[[], bool], process: subprocess.Popen[bytes], folder: Path) -> None:
    while not ready():
        if process.poll() is not None:
            logs = [path.read_text()[-2000:] for path in folder.glob("*.out")]
            raise RuntimeError("\n".join([f"{process.args!r} ended", *logs]))
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()
