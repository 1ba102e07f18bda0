"""Who may write to an output: begin, resume, overwrite, or be told why not."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kmdist import __version__
from kmdist.errors import KmdistError, UsageError
from kmdist.store.claims import partial
from kmdist.store.claims.durability import SyncClock, forget_unsynced, write_durably
from kmdist.store.format.contents import COMPLETE, SCHEMA, read_attributes
from kmdist.store.format.layout import dump_json
from kmdist.store.targets import STATE, LocalTarget, Target


@dataclass
class Claim:
    """The right to write to an output.

    Attributes
    ----------
    run : identity of this run and its resumptions, random.
    resumed : an interrupted run is being continued.
    complete : the run that was asked for is there already; there is nothing to write.
    replaces : identity of the run at the output that may be replaced; None: nothing may be.
    """

    output: Path
    lock: partial.Lock | None
    run: str = ""
    resumed: bool = False
    complete: bool = False
    replaces: Mapping[str, Any] | None = None

    _clock: SyncClock = field(default_factory=SyncClock, repr=False)

    def target(self) -> Target:
        """Where the run is written."""
        return LocalTarget(partial.partial_path(self.output), partial.guard(self.run))

    def tick(self) -> None:
        """Called as work is finished: now and then what was written is brought to the disk."""
        self._clock.tick(partial.partial_path(self.output))

    def tidy(self) -> None:
        """Remove what killed workers had not finished writing."""
        LocalTarget(partial.partial_path(self.output)).remove_halves()

    def require_free(self) -> None:
        """Nothing to do where a run is published by a rename; see `UrlClaim`."""

    def publish(self) -> None:
        """Make the run visible whose root has been written; the old one, if any, goes then.

        Raises
        ------
        KmdistError : something else is there meanwhile, or it cannot be written.
        """
        try:
            partial.publish(self.output, self.replaces)
        except OSError as error:
            raise KmdistError(f"cannot publish {self.output}: {error}") from error

    def discard(self) -> None:
        """Remove what has been written of the run, checkpoints and all."""
        partial.remove(partial.partial_path(self.output))

    def release(self) -> None:
        """Let another process take over."""
        if self.lock is not None:
            self.lock.release()


def claim_output(
    output: Path, request: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> Claim:
    """Claim an output as `RunWriter.create` describes.

    Raises
    ------
    UsageError, KmdistError : as there.
    """
    try:
        os.makedirs(output.parent, exist_ok=True)
    except OSError as error:
        raise KmdistError(f"cannot make the folder {output.parent}: {error.strerror}") from error
    try:
        there = read_attributes(output) or {}
        partial.sweep(output, complete=there.get("state") == COMPLETE)
        if partial.partial_path(output).is_dir():
            claim = _claim_partial(output, request, resume=resume, overwrite=overwrite)
            if claim is not None:
                return claim
        if resume and _same_run(there, request):
            return Claim(output, None, complete=True)
        check_output(output, overwrite=overwrite)
        run = os.urandom(8).hex()
        replaces = partial.identity(output)
        made = {**request, "versions": versions_asked(), "replaces": replaces, "run": run}
        return Claim(output, partial.create(output, made), run, replaces=replaces)
    except FileExistsError as error:
        raise KmdistError(f"another process has just begun to write {output}") from error
    except OSError as error:
        raise KmdistError(f"cannot write {output}: {error.strerror or error}") from error


def _claim_partial(
    output: Path, request: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> Claim | None:
    """Take over an interrupted run; None where it was removed, or can be left for a fresh one."""
    folder = partial.partial_path(output)
    try:
        lock = partial.take_lock(folder)
    except FileNotFoundError:
        return None
    if lock is None:
        raise KmdistError(
            f"{output} is being written by {partial.describe_owner(folder)}. Wait for it, choose "
            f"another output, or end that process (if it is gone for certain, remove {folder})"
        )
    try:
        before = partial.read_record(folder, "request")
        changes = differences(before, {**request, "versions": versions_asked()})
        if resume and not changes:
            if overwrite:
                check_output(output, overwrite=True)
                before["replaces"] = partial.identity(output)
                write_durably(folder / STATE / "request.json", dump_json(before))
            forget_unsynced(folder, partial.read_record(folder, "owner"))
            run = str(before.get("run"))
            partial.write_owner(folder, run)
            return Claim(output, lock, run, resumed=True, replaces=before.get("replaces"))
        if overwrite:
            partial.remove(folder)
            lock.release()
            return None
        raise _in_the_way(output, changes, resume=resume)
    except BaseException:
        lock.release()
        raise


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What was asked differently, in words; empty if nothing was."""
    if not before:
        return ["its record cannot be read"]
    found = []
    for key in ("recipe", "fingerprint"):
        if before.get(key) != now.get(key):
            label = "input" if key == "fingerprint" else key
            found.append(f"{label}: was {before.get(key)!r}, now {now.get(key)!r}")
    for group in ("parameters", "versions"):
        then, today = before.get(group) or {}, now.get(group) or {}
        for key in sorted({*then, *today}):
            if then.get(key) != today.get(key):
                label = key if group == "parameters" else f"version of {key}"
                found.append(f"{label}: was {then.get(key)!r}, now {today.get(key)!r}")
    return found


def _in_the_way(output: Path, changes: list[str], *, resume: bool) -> UsageError:
    if resume:
        return UsageError(
            f"the interrupted run of {output} was asked differently, and cannot be resumed "
            f"({'; '.join(changes)}). Ask as then, or use --overwrite to discard it and begin anew"
        )
    return UsageError(
        f"an interrupted run of {output} is kept in {partial.partial_path(output)}. Continue it "
        "with --resume, or discard it with --overwrite"
    )


def _same_run(there: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    if there.get("state") != COMPLETE:
        return False
    # Another version's result is still the result; only half of one must not be mixed.
    return not differences({**there, "versions": {}}, {**request, "versions": {}})


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse an output that a new run may not take.

    Raises
    ------
    UsageError : something is there that is no run, or a run and `overwrite` is not given.
    """
    if not output.exists() and not output.is_symlink():
        return
    empty = output.is_dir() and not any(output.iterdir())
    if not empty and read_attributes(output) is None:
        raise UsageError(
            f"output {output} exists and is no run of kmdist: --overwrite would not replace it. "
            "Choose another, or move it away"
        )
    if not overwrite:
        raise UsageError(
            f"output {output} exists. Choose another, or use --overwrite to replace it"
        )


def versions_asked() -> dict[str, Any]:
    """Versions that must be equal for a run to be resumed."""
    return {"kmdist": __version__, "schema": SCHEMA}
