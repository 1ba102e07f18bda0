"""Write a run from many workers at once, resumably, and make it visible in one step."""

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from kmdist.errors import ImageError, KmdistError, UsageError
from kmdist.store import checkpoints, labels, partial
from kmdist.store.chunks import write_region
from kmdist.store.claims import Claim, claim_output
from kmdist.store.durability import SyncClock
from kmdist.store.labels import LabelMap, label_map
from kmdist.store.layout import ArraySpec, array_metadata, array_spec, group_metadata, plain
from kmdist.store.names import clash_ranks, image_key
from kmdist.store.root import CONSOLIDATE_IMAGES, write_root
from kmdist.store.targets import STATE, LocalTarget, Target, is_url, local_path


class RunWriter:
    """One run in the making.

    The driver creates it, sends it to the workers (it pickles; the lock stays with the driver),
    and publishes it. Workers write arrays and labels; checkpoints are the driver's. As a context
    manager it keeps the resumable part of an interrupted run, and removes that of a run ended by
    a usage error or by a bad image (which only ``--strict`` lets through).

    Attributes
    ----------
    output : the folder to be published.
    resumed : whether work of an interrupted run was found and is being continued.
    already_complete : whether `resume` found the very run published; nothing can be written then.
    """

    def __init__(
        self, output: str, target: Target, claim: Claim, request: Mapping[str, Any]
    ) -> None:
        self.output = output
        self.resumed = claim.resumed
        self.already_complete = claim.complete
        self._target = target
        self._claim: Claim | None = claim
        self._request = dict(request)
        self._ranks: dict[str, int] = {}
        self._images = 0
        self._command: list[str] = []
        self._clock = SyncClock()

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
        target: Target
        if is_url(output):
            from kmdist.store.object_store import FsspecTarget, claim_url

            claim = claim_url(os.fspath(output), request, resume=resume, overwrite=overwrite)
            target = FsspecTarget(os.fspath(output))
        else:
            path = local_path(output)
            claim = claim_output(path, request, resume=resume, overwrite=overwrite)
            target = LocalTarget(partial.partial_path(path), partial.guard(claim.run))
        writer = cls(str(claim.output), target, claim, request)
        writer._ranks = ranks
        writer._images = len(names)
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

    def write_labels(
        self,
        image: str,
        labels_yx: ArrayLike,
        *,
        k: int,
        unclustered: NDArray[np.bool_] | None = None,
        marked: bool | None = None,
        palette: ArrayLike | None = None,
        source: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        prefix: str = "",
    ) -> int | None:
        """Write the label map of a whole image, its pyramid and metadata.

        Parameters
        ----------
        image : its name, as given to `create`.
        labels_yx : (y, x) integers 0 … k − 1; no copy is made of the type `label_dtype` names.
        unclustered : (y, x) True where the pixel is not clustered; the label there is ignored.
        marked : whether the type has room for the marker; None: where `unclustered` has a True.
        palette : (k, 3) uint8 sRGB, to draw the labels.
        source : true path of the image, if it differs from the name.
        attributes : more for the image's group.
        prefix : ``kN`` where the run holds several k.

        Returns
        -------
        int or None : the marker of unclustered pixels in this map, if it has one.

        Raises
        ------
        ValueError : labels out of range, or shapes differ.
        KmdistError : the disk is full, or the run is gone.
        """
        values = np.asarray(labels_yx)
        if marked is None:
            marked = unclustered is not None and bool(unclustered.any())
        described = label_map(image, self.image_group(image, prefix), values.shape, k, marked)
        labels.write_image(self._open_target(), described, values, unclustered)
        self._write_label_metadata(described, palette, source, attributes)
        return described.unclustered

    def open_labels(
        self,
        image: str,
        shape: tuple[int, int],
        *,
        k: int,
        marked: bool,
        palette: ArrayLike | None = None,
        source: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        prefix: str = "",
    ) -> LabelMap:
        """Begin a label map that is written by window; parameters as for `write_labels`."""
        described = label_map(image, self.image_group(image, prefix), shape, k, marked)
        self._write_label_metadata(described, palette, source, attributes)
        return described

    def write_label_window(
        self,
        label_map: LabelMap,
        y0: int,
        x0: int,
        labels_yx: ArrayLike,
        unclustered: NDArray[np.bool_] | None = None,
    ) -> None:
        """Write labels at (y0, x0): whole chunks, or whole shards, or up to the image's edge.

        Raises
        ------
        ValueError : the window is not aligned, or labels are out of range.
        """
        labels.write_window(self._open_target(), label_map, 0, (y0, x0), labels_yx, unclustered)

    def write_pyramid_window(
        self, label_map: LabelMap, level: int, window: tuple[int, int, int, int]
    ) -> None:
        """Make a window (of ``label_map.windows(level)``) from the complete level below."""
        labels.write_pyramid_window(self._open_target(), label_map, level, window)

    def write_array(
        self,
        key: str,
        array: ArrayLike,
        dimension_names: Sequence[str],
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a small array whole, in one chunk: centroids, palette, counts, history."""
        values = np.asarray(array)
        _check_dimensions(key, dimension_names)
        spec = array_spec(key, values.shape, values.dtype, dimension_names=dimension_names)
        self._open_target().put(f"{key}/zarr.json", array_metadata(spec, attributes))
        write_region(self._open_target(), spec, (0,) * values.ndim, values)

    def create_array(
        self,
        key: str,
        shape: Sequence[int],
        dtype: DTypeLike,
        *,
        chunks: Sequence[int],
        shards: Sequence[int] | None = None,
        dimension_names: Sequence[str],
        fill_value: float = 0,
        attributes: Mapping[str, Any] | None = None,
    ) -> ArraySpec:
        """Begin an array that is written by region; the result pickles, for the workers."""
        _check_dimensions(key, dimension_names)
        spec = array_spec(
            key,
            shape,
            dtype,
            chunks=chunks,
            shards=shards,
            dimension_names=dimension_names,
            fill_value=fill_value,
        )
        self._open_target().put(f"{key}/zarr.json", array_metadata(spec, attributes))
        return spec

    def write_region(self, spec: ArraySpec, origin: Sequence[int], values: ArrayLike) -> None:
        """Write whole chunks (whole shards) of an array from `create_array`.

        Raises
        ------
        ValueError : the region is not aligned: two writers of one chunk would lose data.
        """
        write_region(self._open_target(), spec, origin, np.asarray(values))

    def write_group(self, key: str, attributes: Mapping[str, Any] | None = None) -> None:
        """Write the metadata of a group of one's own; those of images come with their labels."""
        self._open_target().put(f"{key}/zarr.json", group_metadata(attributes))

    def image_group(self, image: str, prefix: str = "") -> str:
        """Key of an image's group, ``images/NAME``, for arrays that belong to the image."""
        if not self._images:
            raise ValueError(
                f"{image}: create the writer with images=[all names], so that names which differ "
                "in case alone do not become one folder"
            )
        key = f"images/{image_key(image, self._ranks.get(image, 0))}"
        return f"{prefix}/{key}" if prefix else key

    def remove_labels(self, image: str, prefix: str = "") -> None:
        """Remove what was written of an image that turned out to be unreadable in the middle."""
        self._open_target().delete(self.image_group(image, prefix))

    def save_state(self, name: str, arrays: Mapping[str, ArrayLike]) -> None:
        """Keep arrays for a resume, in place of those saved under this name before."""
        checkpoints.save_state(self._open_target(), name, arrays)

    def load_state(self, name: str) -> dict[str, NDArray[Any]] | None:
        """Arrays saved under this name, None if none were."""
        return checkpoints.load_state(self._open_target(), name)

    def mark_done(self, pass_name: str, indices: int | Sequence[int], results: Any = None) -> None:
        """Record finished blocks of a pass, with a small JSON result each; the driver's alone."""
        checkpoints.mark_done(self._open_target(), pass_name, indices, results)
        if isinstance(self._target, LocalTarget):
            self._clock.tick(partial.partial_path(Path(self.output)))

    def done(self, pass_name: str) -> dict[int, Any]:
        """Finished blocks of a pass, with their results."""
        return checkpoints.done(self._open_target(), pass_name)

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
        worth_walking = self.resumed or maps <= CONSOLIDATE_IMAGES
        if isinstance(target, LocalTarget) and worth_walking:
            # Walking 20,000 images takes 2 s: only where one expects to find something, or is
            # going to walk anyway. Half-written files are litter, but no reader minds them.
            target.remove_halves()
        write_root(target, {**attributes, **self._request}, runs or {}, images=self._images)
        if not isinstance(target, LocalTarget):
            target.delete(STATE)  # the root's metadata, the last object, has made it a run
            self.release()
            return
        try:
            partial.publish(claim.output, replace=claim.replace)
        except OSError as error:
            raise KmdistError(f"cannot publish {self.output}: {error}") from error
        self.release()

    def discard(self) -> None:
        """Remove the partial run, checkpoints and all."""
        claim = self._driver_claim()
        if isinstance(self._target, LocalTarget):
            partial.remove(partial.partial_path(claim.output))
        else:
            for name in self._target.children():
                self._target.delete(name)
        self.release()

    def release(self) -> None:
        """Stop working on the run, and keep what there is for a resume."""
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._claim is None:
            return
        if isinstance(error, UsageError | ImageError) and not self.already_complete:
            self.discard()
        self.release()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_claim": None}

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

    def _write_label_metadata(
        self,
        described: LabelMap,
        palette: ArrayLike | None,
        source: str | None,
        attributes: Mapping[str, Any] | None,
    ) -> None:
        own = {"source": source or described.image, **(attributes or {})}
        labels.write_metadata(self._open_target(), described, palette, own)


def _check_dimensions(key: str, dimension_names: Sequence[str]) -> None:
    """Refuse sizes of y and x above a pyramid, whose levels have other ones."""
    if "images" in key.split("/") and {"y", "x"} & set(dimension_names):
        raise ValueError(
            f"array {key!r}: dimensions {tuple(dimension_names)} above the label pyramid, whose "
            "levels have y and x of other sizes, keep xarray.open_datatree from opening the run; "
            "give them other names"
        )
