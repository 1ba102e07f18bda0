"""Where a job runs: what its options say, and the profiles of a cluster file, checked plainly."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from kmdist.errors import UsageError
from kmdist.options import Option, Options, PositiveInt, texts_option
from kmdist.urls import require_on_disk

DEFAULT_FILE = "cluster.yaml"
"""Of the working directory, in which a profile is looked for that is named without a file."""

WorkerKind = Literal["auto", "thread", "process"]


def _connected(client: Any) -> Any:
    if not hasattr(client, "scheduler_info"):
        raise ValueError(f"must be a connected distributed.Client, got {client!r}")
    return client


class Compute(Options, frozen=True, kw_only=True):
    """Where a job runs.

    Raises
    ------
    UsageError : a value that is not allowed, or two that contradict each other.
    """

    workers: Annotated[PositiveInt | None, Option("Local workers; default: all cores.")] = None
    worker_kind: Annotated[
        WorkerKind, Option("auto: threads for small work, one process per core for large.")
    ] = "auto"
    cluster: Annotated[
        str | None,
        Option(
            "Run where this cluster file says; PROFILE alone is of ./cluster.yaml.",
            metavar="FILE[:PROFILE]",
        ),
    ] = None
    scheduler: Annotated[str | None, Option("Run on this Dask scheduler.", metavar="URL")] = None
    client: Annotated[
        Any, Option("A connected distributed.Client.", parse=_connected, python_only=True)
    ] = None
    trust: Annotated[
        Sequence[str],
        texts_option("Let the cluster file name its classes.", "MODULE"),
    ] = ()
    insecure: Annotated[bool, Option("Allow a scheduler in the open without TLS.")] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cluster and self.scheduler:
            raise UsageError("--cluster and --scheduler both say where to run: give one of them")

    @property
    def remote(self) -> bool:
        """Whether something other than this machine's default is asked for."""
        return bool(self.client or self.scheduler or self.cluster)


VERSION = 1
"""Version of the file's keys, as dask-ctl's specs count them."""

KINDS: dict[str, tuple[type, ...]] = {
    "version": (int,),
    "module": (str,),
    "class": (str,),
    "args": (list,),
    "kwargs": (dict,),
    "address": (str,),
    "security": (dict,),
    "scale": (int, dict),
    "adapt": (dict,),
    "min_workers": (int,),
    "timeout": (int, float),
    "workers": (int, str),
    "worker_kind": (str,),
}
"""Keys of a profile, and the types of their values."""
_ELSEWHERE = ("address", "module")
_SMALLEST = "  profiles:\n    existing: {address: 'tcp://127.0.0.1:8786'}"
_SCHEMES = ("tcp", "tls", "ws", "wss", "inproc", "ucx")
_ADDRESS = re.compile(r"(?:([a-z]\w*)://)?(\[[^\]]+\]|[^\s:/\[\]]+)(:\d+)?/?")
_UNSET = re.compile(r"\$(\w+|\{\w+\})")


@dataclass(frozen=True)
class Profile:
    """One profile of a cluster file.

    Parameters
    ----------
    name, file : where it was read, for messages; file ``--scheduler`` for an address alone.
    module, class_name, args, kwargs : what starts a cluster, as in dask-ctl's specs.
    address : of a scheduler that runs already.
    security : keywords of `distributed.Security`, or ``temporary: true``.
    scale, adapt : workers to start, fixed or within bounds.
    min_workers : workers to wait for.
    timeout : seconds to wait for the scheduler, and again for the workers.
    workers, worker_kind : of the local profile.
    """

    name: str
    file: str
    version: int = VERSION
    module: str | None = None
    class_name: str | None = None
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    address: str | None = None
    security: Mapping[str, Any] | None = None
    scale: int | Mapping[str, Any] | None = None
    adapt: Mapping[str, Any] | None = None
    min_workers: int = 1
    timeout: float = 60.0
    workers: int | str = "auto"
    worker_kind: str = "auto"

    @property
    def local(self) -> bool:
        """Whether it stands for this machine's default."""
        return not (self.address or self.module)

    @property
    def where(self) -> str:
        """The profile in the words of an error."""
        if self.file == "--scheduler":
            return f"--scheduler {self.address}"
        return f"cluster file {self.file}, profile {self.name!r}"


def profile_of(compute: Compute) -> Profile:
    """The profile that a job's options stand for.

    Raises
    ------
    UsageError : as for `read_profile`.
    """
    if compute.scheduler:
        _check_address(compute.scheduler)
        return Profile("scheduler", "--scheduler", address=compute.scheduler, timeout=30)
    if compute.cluster:
        return read_profile(compute.cluster)
    return Profile("local", "")


def _check_address(address: str) -> None:
    """Refuse what cannot be a scheduler's address, with what it may have been meant to be.

    Raises
    ------
    UsageError : it is none.
    """
    scheme, separator, _ = address.partition("://")
    found = _ADDRESS.fullmatch(address)
    has_port = found is not None and (found[3] is not None or scheme in ("ws", "wss"))
    if scheme == "inproc" or (found and has_port and found[1] in (None, *_SCHEMES)):
        return
    hint = ""
    if separator and scheme not in _SCHEMES:
        close = get_close_matches(scheme, _SCHEMES, 1, cutoff=0.5)
        hint = f"; did you mean {close[0]}://?" if close else ""
    elif get_close_matches(address.lower(), ("threads", "processes", "distributed", "local"), 1):
        hint = "; for this machine leave it out, or choose with --worker-kind thread or process"
    elif address.endswith((".yaml", ".yml")) or ".yaml:" in address:
        hint = f"; a cluster file is given with --cluster {address}"
    raise UsageError(
        f"--scheduler {address!r} is no address of a running Dask scheduler: must be HOST:PORT, or "
        f"one of {', '.join(f'{one}://' for one in _SCHEMES)} before it, such as "
        f"tcp://127.0.0.1:8786{hint}"
    )


def read_profile(spec: str) -> Profile:
    """Read one profile of a cluster file.

    Parameters
    ----------
    spec : ``FILE`` or ``FILE:PROFILE``; without a name, the file's ``default``. A name alone is a
        profile of the working directory's ``cluster.yaml``.

    Raises
    ------
    UsageError : the file, the profile or a key is not there or not allowed.
    """
    from dask.config import expand_environment_variables

    path, name = _split_spec(spec)
    content = _read(path)
    profiles = content["profiles"]
    name = str(name or content.get("default", "local"))
    if name not in profiles:
        raise UsageError(
            f"cluster file {path}: no profile {name!r}; it has {', '.join(map(str, profiles))}"
        )
    return _checked_profile(path, name, expand_environment_variables(profiles[name] or {}))


def _split_spec(spec: str) -> tuple[str, str | None]:
    require_on_disk(spec, "cluster file")
    if Path(spec).exists():
        return spec, None
    if ":" not in spec:
        is_name = not spec.endswith((".yaml", ".yml")) and Path(DEFAULT_FILE).exists()
        return (DEFAULT_FILE, spec) if is_name else (spec, None)
    path, _, name = spec.rpartition(":")
    return path, name


def _read(path: str) -> dict[str, Any]:
    from kmdist.yaml_files import read_mapping  # every command imports this module: light

    try:
        content = read_mapping(path, "cluster file")
    except FileNotFoundError as error:
        raise UsageError(
            f"cluster file {path}: not there; looked for {Path(path).absolute()}. It is given as "
            "FILE or FILE:PROFILE. One that joins a scheduler has two lines:\n"
            f"{_SMALLEST}\n"
            "The cluster.yaml of kmdist's sources explains every key and kind of cluster"
        ) from error
    if not isinstance(content.get("profiles"), dict):
        raise UsageError(f"cluster file {path}: must have a mapping 'profiles' of named profiles")
    unknown = set(content) - {"default", "profiles"}
    if unknown:
        raise UsageError(
            f"cluster file {path}: unknown key {min(unknown)!r}; allowed: default, profiles"
        )
    return content


def _checked_profile(path: str, name: str, keys: Any) -> Profile:
    where = f"cluster file {path}, profile {name!r}"
    if not isinstance(keys, dict):
        raise UsageError(f"{where}: must be a mapping of keys, not {type(keys).__name__}")
    checked: dict[str, Any] = {}
    for key, value in keys.items():
        if key not in KINDS:
            close = get_close_matches(str(key), KINDS, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise UsageError(f"{where}: unknown key {key!r}; {hint}allowed: {', '.join(KINDS)}")
        if value is not None:
            checked[key] = _checked_value(where, key, value)
    _check_together(where, checked)
    if "security" in checked:
        checked["security"] = _located(where, path, checked["security"])
    checked["args"] = tuple(checked.get("args", ()))
    renamed = {("class_name" if key == "class" else key): value for key, value in checked.items()}
    return Profile(name=name, file=path, **renamed)


def _checked_value(where: str, key: str, value: Any) -> Any:
    """A value of the kind its key wants; numbers may come from environment variables."""
    if key in ("address", "min_workers", "timeout", "scale", "workers"):
        unset = _UNSET.search(value) if isinstance(value, str) else None
        if unset:
            raise UsageError(f"{where}: {key}: the environment variable {unset[0]} is not set")
        if isinstance(value, str) and key != "address" and value.strip().isdecimal():
            value = int(value)
    kinds = KINDS[key]
    if not isinstance(value, kinds) or isinstance(value, bool):
        words = {int: "a whole number", float: "a number", str: "text", list: "a list"}
        wanted = " or ".join(words.get(kind, "a mapping") for kind in kinds)
        raise UsageError(f"{where}: {key!r} must be {wanted}, got {value!r}")
    lowest = {"min_workers": 0, "timeout": 0.001, "scale": 0, "workers": 1}.get(key)
    if lowest is not None and isinstance(value, int | float) and value < lowest:
        raise UsageError(f"{where}: {key!r} must be at least {lowest:g}, got {value!r}")
    return value


def _check_together(where: str, keys: Mapping[str, Any]) -> None:
    if keys.get("version", VERSION) != VERSION:
        raise UsageError(f"{where}: version {keys['version']!r}; this kmdist reads {VERSION}")
    if keys.get("address") and keys.get("module"):
        raise UsageError(f"{where}: 'address' joins a cluster and 'module' starts one: keep one")
    if bool(keys.get("module")) != bool(keys.get("class")):
        raise UsageError(f"{where}: 'module' and 'class' go together")
    if "scale" in keys and "adapt" in keys:
        raise UsageError(f"{where}: 'scale' fixes the workers and 'adapt' varies them: keep one")
    for key in ("args", "kwargs", "scale", "adapt"):
        if key in keys and not keys.get("module"):
            raise UsageError(f"{where}: {key!r} is for a cluster that 'module' and 'class' start")
    for key in ("workers", "worker_kind"):
        if key in keys and any(keys.get(other) for other in _ELSEWHERE):
            raise UsageError(f"{where}: {key!r} is for this machine alone")
    if keys.get("worker_kind", "auto") not in get_args(WorkerKind):
        raise UsageError(f"{where}: 'worker_kind' must be {', '.join(get_args(WorkerKind))}")
    if isinstance(keys.get("workers"), str) and keys["workers"] != "auto":
        raise UsageError(f"{where}: 'workers' must be a number or auto, got {keys['workers']!r}")


def _located(where: str, path: str, security: Mapping[str, Any]) -> dict[str, Any]:
    """PEM files relative to the cluster file, and there."""
    located = dict(security)
    for key, value in security.items():
        if not (str(key).endswith(("_file", "_cert", "_key")) and isinstance(value, str)):
            continue
        if "-----BEGIN" in value:
            raise UsageError(f"{where}: security: {key}: name a file, do not paste what is in it")
        file = Path(path).parent / Path(value).expanduser()
        try:
            with open(file, "rb"):
                located[key] = str(file)
        except OSError as error:
            raise UsageError(f"{where}: security: {key}: {file}: {error.strerror}") from error
    return located
