"""From a profile to a connected client: start or join a cluster, wait for workers, refuse risks."""

import importlib
import ipaddress
import platform
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from kmdist import __version__
from kmdist.cluster.profiles import Profile
from kmdist.errors import KmdistError, UsageError

TRUSTED_CLASSES: Mapping[str, tuple[str, ...]] = {
    "dask.distributed": ("LocalCluster", "SSHCluster"),
    "distributed": ("LocalCluster", "SSHCluster"),
    "dask_jobqueue": (
        "HTCondorCluster", "LSFCluster", "MoabCluster", "OARCluster", "PBSCluster", "SGECluster",
        "SLURMCluster",
    ),
    "dask_kubernetes": ("HelmCluster", "KubeCluster"),
}  # fmt: skip
"""Classes that a cluster file may name without ``--trust``, by package."""

_CODE = re.compile(
    r"preload|class|_cls$|worker_module|^python$|prologue|shebang|command|plugin|extension|env"
)
"""Keywords, at any depth, that name code or a program to run: these need ``--trust`` as well."""

_EXTRAS = {
    "asyncssh": "asyncssh",
    "dask_jobqueue": "dask-jobqueue",
    "dask_kubernetes": "dask-kubernetes",
    "cryptography": "cryptography",
}
REFUSED_S = 5.0
"""Seconds in which a machine refuses a connection, if it is there."""
_ENCRYPTED = ("tls", "wss", "inproc")


@contextmanager
def connect(
    profile: Profile, *, trust: Sequence[str] = (), insecure: bool = False, check: bool = True
) -> Iterator[Any]:
    """Join or start the cluster of a profile; what was started is stopped at the end.

    Parameters
    ----------
    trust : modules of which every class and keyword is allowed, besides `TRUSTED_CLASSES`.
    insecure : accept a scheduler that others can reach without TLS.
    check : fail if a worker lacks kmdist; `kmdist cluster check` wants to see them all instead.

    Raises
    ------
    UsageError : the profile cannot be used as it stands.
    KmdistError : no scheduler answers, too few workers come in time, or they lack kmdist.
    """
    security = _security(profile)
    if profile.address:
        _refuse_open(profile, profile.address, insecure)
    cluster = None if profile.address else _start(profile, trust, security, insecure)
    try:
        try:
            if profile.address:
                _require_listening(profile.address)
            client = join(profile.address or cluster, security=security, timeout=profile.timeout)
        except (OSError, ValueError, TypeError, TimeoutError) as error:
            raise KmdistError(_no_answer(profile, error)) from error
        with client:
            await_workers(client, profile)
            if check:
                require_kmdist(client, profile)
            yield client
    finally:
        if cluster is not None:
            cluster.close()


def join(scheduler: Any, *, security: Any = None, timeout: float) -> Any:
    """Connect a client to a scheduler, an address or a cluster of Dask's.

    A client that finds no scheduler is closed here. Left to the garbage collector, it would be
    closed by whichever thread happens to collect it, and that one waits for itself for ever if
    it holds the lock of Dask's event loops, which closing takes.

    Raises
    ------
    OSError, ValueError, TypeError, TimeoutError : there is no answer, or not over this protocol.
    """
    from distributed import Client

    class ClosedOnFailure(Client):
        def start(self, **kwargs: Any) -> None:
            try:
                super().start(**kwargs)
            except BaseException:
                self.close()
                self._loop_runner.stop()  # which closing leaves alone after some failures
                raise

    # Not the default client: losing its scheduler would leave Dask pointing at it.
    return ClosedOnFailure(scheduler, security=security, timeout=timeout, set_as_default=False)


def _require_listening(address: str) -> None:
    """Fail at once where nothing listens; a client would ask again until its time is up.

    Raises
    ------
    ConnectionRefusedError : by the machine of the address.
    """
    scheme, _, rest = address.rpartition("://")
    host, _, port = rest.partition("/")[0].rpartition(":")
    if scheme in ("", "tcp", "tls", "ws", "wss") and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=REFUSED_S).close()
        except ConnectionRefusedError:
            raise
        except OSError:
            return  # no answer yet, which the client waits for


def await_workers(client: Any, profile: Profile) -> None:
    """Wait for the profile's `min_workers`.

    Raises
    ------
    KmdistError : fewer came in time.
    """
    try:
        if profile.min_workers:
            client.wait_for_workers(profile.min_workers, timeout=profile.timeout)
    except TimeoutError as error:
        have = len(client.scheduler_info(n_workers=-1)["workers"])
        more = "Start more (`dask worker ADDRESS`)" if profile.address else "Look at their logs"
        raise KmdistError(
            f"{profile.where}: {have} of {profile.min_workers} workers came in "
            f"{profile.timeout:g} s. {more}, or raise 'timeout' or lower 'min_workers'."
        ) from error


def require_kmdist(client: Any, profile: Profile) -> None:
    """Refuse workers that cannot import this version of kmdist, in one line.

    Raises
    ------
    KmdistError : some workers have none or another one, or another Python.
    """
    found = worker_versions(client, ["kmdist"])
    others: dict[tuple[str, str], list[str]] = {}
    for address, versions in found.items():
        python, version = str(versions["python"]), str(versions.get("kmdist"))
        if _minor(python) != _minor(platform.python_version()):
            others.setdefault(("Python", python), []).append(address)
        elif version != __version__:
            others.setdefault(("kmdist", version), []).append(address)
    for (package, version), addresses in others.items():
        what = f"cannot import {package}" if version == "None" else f"have {package} {version}"
        wanted = __version__ if package == "kmdist" else platform.python_version()
        remedy = f"pip install kmdist=={wanted}" if package == "kmdist" else f"use Python {wanted}"
        raise KmdistError(
            f"{profile.where}: {len(addresses)} of {len(found)} workers {what} "
            f"(such as {addresses[0]}); there: {remedy}"
        )


def worker_versions(client: Any, packages: Sequence[str]) -> dict[str, dict[str, str | None]]:
    """Versions by worker: of ``python``, and of `packages` (import names), None where missing.

    Python's comes through Dask's own request, since a function does not travel to another
    Python. The function that imports the others travels by value, being local to this one: one
    of kmdist's could not be unpickled where kmdist is missing.
    """

    def import_all(names: Sequence[str]) -> dict[str, str | None]:
        from importlib import import_module

        found: dict[str, str | None] = {}
        for name in names:
            try:
                found[name] = str(getattr(import_module(name), "__version__", "unknown"))
            except ImportError:
                found[name] = None
        return found

    pythons = {
        address: str(versions["packages"]["python"]).partition(".final")[0]
        for address, versions in client.get_versions()["workers"].items()
        if isinstance(versions, Mapping)
    }
    mine = _minor(platform.python_version())
    alike = [address for address, version in pythons.items() if _minor(version) == mine]
    answers = client.run(import_all, list(packages), workers=alike, on_error="ignore")
    return {a: {"python": version, **(answers.get(a) or {})} for a, version in pythons.items()}


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _security(profile: Profile) -> Any:
    if not profile.security:
        return None
    from distributed import Security

    keys = dict(profile.security)
    try:
        if keys.pop("temporary", False):
            return Security.temporary(**keys)
        return Security(**keys)
    except TypeError as error:
        allowed = ", ".join(("temporary", *Security.__slots__))
        raise UsageError(f"{profile.where}: security: {error}; allowed: {allowed}") from error
    except ImportError as error:
        raise UsageError(f"{profile.where}: security: {_missing(error)}") from error


def _start(profile: Profile, trust: Sequence[str], security: Any, insecure: bool) -> Any:
    """Call the class that a profile names."""
    factory = _factory(profile, trust)
    kwargs = dict(profile.kwargs)
    if not insecure:
        _refuse_open_dashboards(profile, kwargs)
    if security is not None:
        kwargs["security"] = security
    host = kwargs.get("host")
    if host and security is None:
        _refuse_open(profile, f"{kwargs.get('protocol') or 'tcp'}://{host}".lower(), insecure)
    try:
        cluster = factory(*profile.args, **kwargs)
    except ImportError as error:
        raise UsageError(f"{profile.where}: {_missing(error)}") from error
    except Exception as error:  # each kind of cluster fails to start in its own ways
        raise KmdistError(
            f"{profile.where}: {profile.class_name} did not start: {type(error).__name__}: {error}"
        ) from error
    try:
        _refuse_open(profile, str(cluster.scheduler_address), insecure)
        if profile.adapt is not None:
            cluster.adapt(**profile.adapt)
        elif isinstance(profile.scale, Mapping):
            cluster.scale(**profile.scale)
        elif profile.scale is not None:
            cluster.scale(profile.scale)
    except TypeError as error:
        cluster.close()
        raise UsageError(f"{profile.where}: scale or adapt: {error}") from error
    except BaseException:
        cluster.close()
        raise
    return cluster


def _factory(profile: Profile, trust: Sequence[str]) -> Any:
    module, name = str(profile.module), str(profile.class_name)
    if not any(_is_in(module, package) for package in trust):
        _require_harmless(profile, module, name, trust_hint=f"--trust {module}")
    try:
        factory = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise UsageError(f"{profile.where}: {_missing(error)}") from error
    except AttributeError as error:
        raise UsageError(f"{profile.where}: {module} has no class {name!r}") from error
    if name.startswith("_") or not callable(factory):
        raise UsageError(f"{profile.where}: {module}.{name} is no class that starts a cluster")
    return factory


def _is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _require_harmless(profile: Profile, module: str, name: str, trust_hint: str) -> None:
    """Refuse a class that is not on the list, and keywords through which it would run any code.

    Raises
    ------
    UsageError : what is refused, and how to allow it.
    """
    allowed = [
        one for p, classes in TRUSTED_CLASSES.items() if _is_in(module, p) for one in classes
    ]
    if name not in allowed:
        listed = ", ".join(
            dict.fromkeys(one for group in TRUSTED_CLASSES.values() for one in group)
        )
        raise UsageError(
            f"{profile.where}: {module}.{name} is not among the classes a cluster file may name "
            f"({listed}, of {', '.join(TRUSTED_CLASSES)}); add {trust_hint} if you trust it"
        )
    given = {"args": profile.args, "kwargs": profile.kwargs}
    found = next((word for word in _words_of(given) if _CODE.search(word)), None)
    if found is not None:
        raise UsageError(
            f"{profile.where}: {found!r} names code that {name} would run; add {trust_hint} if you "
            "trust this file with it"
        )


def _words_of(value: Any) -> Iterator[str]:
    """Keys at any depth, and options among the words of lists."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key).lower().replace("-", "_")
            yield from _words_of(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _words_of(inner)
    elif isinstance(value, str) and "--preload" in value:
        yield value


def _refuse_open_dashboards(profile: Profile, kwargs: Mapping[str, Any]) -> None:
    """Refuse dashboards that other machines can reach: they show data, and need consent too."""
    for key, value in kwargs.items():
        if isinstance(value, Mapping):
            _refuse_open_dashboards(profile, value)
        elif str(key).endswith("dashboard_address") and isinstance(value, str):
            host = value.rpartition("://")[2].rpartition(":")[0].strip("[]")
            if not is_loopback(host):  # no host at all stands for every interface
                raise UsageError(
                    f"{profile.where}: {key}: the dashboard at {value} can be reached by other "
                    "machines and has no TLS: bind it to 127.0.0.1, or accept the risk with "
                    "--insecure"
                )


def _missing(error: ImportError) -> str:
    """What to install. Dask words its own refusals ("Dask's SSHCluster requires …") well enough."""
    package = next((p for m, p in _EXTRAS.items() if m in f"{error.name} {error}"), error.name)
    remedy = f"; install it: pip install {package}" if package else ""
    return f"{' '.join(str(error).split())}{remedy}"


def _refuse_open(profile: Profile, address: str, insecure: bool) -> None:
    """Refuse a scheduler that others can reach without TLS: it runs whatever they send."""
    scheme, _, rest = address.rpartition("://")
    if insecure or scheme in _ENCRYPTED or is_loopback(_host(rest)):
        return
    raise UsageError(
        f"{profile.where}: the scheduler at {address} can be reached by other machines and has no "
        "TLS: whoever reaches it can run code as you. Give it certificates ('security', and an "
        "address that begins with tls://), or accept the risk with --insecure"
    )


def _host(rest: str) -> str:
    if rest.startswith("["):
        return rest[1:].partition("]")[0]
    return rest.rpartition(":")[0] or rest


def is_loopback(host: str) -> bool:
    """Whether all addresses of a host are this machine's own; an unknown host is not."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
        return bool(found) and all(
            ipaddress.ip_address(str(one).partition("%")[0]).is_loopback for one in found
        )
    except (OSError, ValueError):
        return False


def _no_answer(profile: Profile, error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    if profile.security is None and str(profile.address).startswith("tls"):
        reason += "; tls:// needs 'security' with the certificates"
    refused = isinstance(error, ConnectionRefusedError)
    when = "" if refused else f" within {profile.timeout:g} s"
    return (
        f"{profile.where}: no Dask scheduler answers at {profile.address}{when} ({reason}). Start "
        "one with `dask scheduler`, or correct the address or the certificates."
    )
