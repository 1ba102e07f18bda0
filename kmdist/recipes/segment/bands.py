"""Scenes of several files, a channel each: found by folder, and held against one another."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from glob import has_magic
from pathlib import Path

from kmdist.errors import ImageError, UsageError
from kmdist.images import Found, ImageSource
from kmdist.recipes.segment.geo import place_of


@dataclass(frozen=True)
class Scene(Found):
    """Files of one folder that are bands of one scene; `path` is that of the first.

    Parameters
    ----------
    bands : paths. missing : bands that were listed and are not there.
    """

    bands: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def scenes(found: Sequence[Found], patterns: Sequence[str]) -> list[Found]:
    """The files of each folder as bands, in the order of the patterns, then of numbers in names.

    Raises
    ------
    UsageError : no file matches.
    """
    folders: dict[str, list[Found]] = {}
    for one in found:
        folders.setdefault(one.name.rpartition("/")[0], []).append(one)
    gathered: list[Found] = []
    for folder, files in sorted(folders.items()):
        by_name = {Path(one.path).name: one.path for one in files}
        taken: list[str] = []
        missing = []
        for pattern in patterns:
            matching = [name for name in by_name if fnmatchcase(name, pattern)]
            if not matching and not has_magic(pattern):
                missing.append(pattern)
            taken += [name for name in sorted(matching, key=_numbers) if name not in taken]
        if taken:
            paths = tuple(by_name[name] for name in taken)
            name = folder or Path(paths[0]).parent.name
            gathered.append(Scene(name, paths[0], paths, tuple(missing)))
    if not gathered:
        raise UsageError(f"bands {', '.join(patterns)}: no file of {len(found)} has such a name")
    return gathered


def gather_by(patterns: Sequence[str]) -> partial[list[Found]]:
    """`scenes` of some patterns; with none, files as they are."""
    return partial(scenes, patterns=patterns) if patterns else partial(list)


def _numbers(name: str) -> list[tuple[int, str]]:
    """B2 before B10."""
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"(\d+)", name)]


def require_alike(bands: Sequence[ImageSource], missing: Sequence[str]) -> None:
    """Refuse bands that do not lie on one another, pixel on pixel.

    Raises
    ------
    ImageError : bands.
    """
    if missing:
        raise ImageError("bands", f"no file {', '.join(missing)} beside {bands[0].name}")
    first = bands[0]
    place = [tag[3] for tag in place_of(first.path)]
    for band in bands:
        if band.channels != 1:
            raise ImageError("bands", f"{band.name} has {band.channels} channels; a band has one")
        if (band.width, band.height) != (first.width, first.height):
            raise ImageError(
                "bands",
                f"{band.name} is {band.width:,} × {band.height:,} px, {first.name} {first.width:,} "
                f"× {first.height:,}: bring them to one grid (gdalwarp)",
            )
        if [tag[3] for tag in place_of(band.path)] != place:
            raise ImageError(
                "bands",
                f"{band.name} has another place on earth, or another reference system, than "
                f"{first.name}: bring them to one grid (gdalwarp)",
            )
