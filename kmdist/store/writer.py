"""Write a run from many workers at once, resumably, and make it visible in one step.

What a run needs to go on after it was killed are states of the fit, and which blocks are done. A
state is an npz (never a pickle) that replaces the last of its name at once. The manifest of a
pass is a log with one line of JSON per finished block, so that finishing a block costs one small
append; a line that was torn by a kill or a power cut does not parse and counts as not done.
"""

import io
import json
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kmdist.errors import KmdistError
from kmdist.store.claims.claims import Claim, claim_output
from kmdist.store.format.contents import CONSOLIDATE_IMAGES, RunContents, write_root
from kmdist.store.format.layout import dump_json, plain
from kmdist.store.format.names import clash_ranks, image_key
from kmdist.store.targets import STATE, Target, local_path
from kmdist.urls import is_url


class RunWriter(RunContents):
    """One run in the making.

    The driver creates it, sends it to the workers (it pickles; the lock stays with the driver),
    and publishes it, or ends it (`kmdist.job.job.right_ending`). Workers write arrays and labels;
    checkpoints are the driver's.

    Attributes
    ----------
    output : the folder to be published.
    resumed : whether work of an interrupted run was found and is being continued.
    already_complete : whether `resume` found the very run published; nothing can be written then.
    """

    def __init__(
        self,
        output: str,
        claim: Claim,
        request: Mapping[str, Any],
        ranks: Mapping[str, int],
        images: int,
    ) -> None:
        super().__init__(claim.target(), ranks, images)
        self.output = output
        self.resumed = claim.resumed
        self.already_complete = claim.complete
        self._claim: Claim | None = claim
        self._request = dict(request)
        self._command: list[str] = []

    @classmethod
    def create(
        cls,
        output: str | os.PathLike[str],
        *,
        recipe: str,
        parameters: Mapping[str, Any],
        fingerprint: str,
        images: Iterable[str] = (),
        resume: bool = False,
        overwrite: bool = False,
        command: Sequence[str] = (),
    ) -> Self:
        """Claim an output, and begin or continue its run.

        Parameters
        ----------
        recipe, parameters, fingerprint : what decides the result, and nothing else (no number of
            workers): they must be equal for a run to be resumed.
        images : names of all images that will get labels, each once; needed to keep apart names
            that differ in case alone.
        resume : continue an interrupted run of the same request, if there is one; else begin.
        overwrite : a run that is there may be replaced, once the new one is complete; what is
            left of an interrupted one is discarded unless it can be resumed.
        command : the command line, to print how to resume.

        Raises
        ------
        UsageError : the output exists, or an interrupted run is in the way, and neither option
            was given; the interrupted run was asked differently; the output is no run of kmdist.
        KmdistError : another process works on it; the folder cannot be written.
        """
        request = plain({"recipe": recipe, "parameters": parameters, "fingerprint": fingerprint})
        names = list(images)
        ranks = clash_ranks(names)
        claim: Claim
        if is_url(output):
            from kmdist.store.claims.url_claims import claim_url

            claim = claim_url(os.fspath(output), request, resume=resume, overwrite=overwrite)
        else:
            path = local_path(output)
            claim = claim_output(path, request, resume=resume, overwrite=overwrite)
        writer = cls(str(claim.output), claim, request, ranks, len(names))
        writer._command = list(command)
        return writer

    @property
    def resume_command(self) -> str:
        """The command that continues this run after an interruption; nightly needs no flag."""
        if self._command[1:2] == ["nightly"]:
            return shlex.join(self._command)
        words = self._command or ["kmdist", str(self._request["recipe"]), "INPUT...", "-o"]
        words = words if self._command else [*words, self.output]
        return shlex.join(words if "--resume" in words else [*words, "--resume"])

    def save_state(self, name: str, arrays: Mapping[str, ArrayLike]) -> None:
        """Keep arrays for a resume, in place of those saved under this name before, at once.

        It is not forced to the disk, which would stop the worker for as long as a block takes while
        others write: a power cut may lose it, and `load_state` notices.

        Raises
        ------
        ValueError : an array holds Python objects, which only a pickle could store.
        """
        given = {key: np.asarray(array) for key, array in arrays.items()}
        for key, array in given.items():
            if array.dtype.hasobject:
                raise ValueError(f"state {name!r}: {key!r} holds Python objects; give plain arrays")
        buffer = io.BytesIO()
        # Entries by number: npz names become file names in a zip, and NumPy reserves some.
        names = np.array([key.encode() for key in given], dtype="S")
        numbered: dict[str, Any] = {f"a{i}": array for i, array in enumerate(given.values())}
        np.savez(buffer, names=names, **numbered)
        self._open_target().put(f"{STATE}/{image_key(name)}.npz", buffer.getbuffer())

    def load_state(self, name: str) -> dict[str, NDArray[Any]] | None:
        """Arrays saved under this name; None if none were, or what is there is damaged.

        Damage (an empty file after a power cut) shows by the checksums that each array carries.
        """
        data = self._open_target().get(f"{STATE}/{image_key(name)}.npz")
        if data is None:
            return None
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as stored:
                names = [key.decode() for key in stored["names"].tolist()]
                return {key: stored[f"a{i}"] for i, key in enumerate(names)}
        except (ValueError, KeyError, OSError, EOFError, BadZipFile):
            return None

    def mark_done(self, pass_name: str, index: int, result: Any = None) -> None:
        """Add a finished block to the manifest of a pass, after all its writes returned.

        The driver's alone.

        Parameters
        ----------
        result : what to keep with it, small and JSON.
        """
        line = dump_json([int(index), result]) + b"\n"
        self._open_target().append(_manifest(pass_name), line)
        if self._claim is not None:
            self._claim.tick()

    def done(self, pass_name: str) -> dict[int, Any]:
        """Finished blocks of a pass, with the result kept with each (the last, if marked twice)."""
        finished: dict[int, Any] = {}
        for line in (self._open_target().get(_manifest(pass_name)) or b"").split(b"\n"):
            try:
                index, result = json.loads(line)
            except (ValueError, TypeError):
                continue
            finished[index] = result
        return finished

    def publish(
        self,
        attributes: Mapping[str, Any],
        runs: Mapping[int, Mapping[str, Any]] | None = None,
    ) -> None:
        """Complete the run and make it visible; the old one, if any, goes then.

        Parameters
        ----------
        attributes : ``k``, ``inertia``, ``seed``, ``stop_reason``, ``timings``, ``rejected``,
            ``unclustered`` …; recipe, parameters, fingerprint, versions and state are added.
        runs : for several k, the attributes that differ, by k; ``kN/`` becomes a run of its own.

        Raises
        ------
        KmdistError : the output has appeared meanwhile, or cannot be written.
        """
        claim = self._driver_claim()
        target = self._open_target()
        maps = self._images * max(len(runs or {}), 1)
        claim.tick()
        # Walking 20,000 images takes 2 s: only where one expects to find something, or is going to
        # walk anyway. Half-written files are litter, but no reader minds them.
        claim.prepare(walk=self.resumed or maps <= CONSOLIDATE_IMAGES)
        write_root(target, {**attributes, **self._request}, runs or {}, images=self._images)
        claim.publish()
        self.release()

    def discard(self) -> None:
        """Remove the partial run, checkpoints and all."""
        self._driver_claim().discard()
        self.release()

    def release(self) -> None:
        """Stop working on the run, and keep what there is for a resume."""
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    def __getstate__(self) -> dict[str, Any]:
        # A task carries what writes: the request and command line may name every file of a job.
        return {**self.__dict__, "_claim": None, "_request": {}, "_command": []}

    def _open_target(self) -> Target:
        if self.already_complete:
            raise KmdistError(f"{self.output} is complete already; nothing can be added to it")
        return self._target

    def _driver_claim(self) -> Claim:
        self._open_target()
        if self._claim is None:
            raise KmdistError(
                f"{self.output}: only the process that created the writer can publish or discard "
                "the run, and once"
            )
        return self._claim


def _manifest(pass_name: str) -> str:
    return f"{STATE}/{image_key(pass_name)}.done.jsonl"
