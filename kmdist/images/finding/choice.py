"""Which of the files that are found are wanted."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

_SYSTEM_NAMES = frozenset({
    "#recycle", "#snapshot", "$recycle.bin", "@eadir", "@recycle", "@tmp", "__macosx", "lost+found",
    "recycler", "system volume information",
    "desktop.ini", "ehthumbs.db", "icon\r", "thumbs.db",
})  # fmt: skip
"""What systems and network storage put among pictures: thumbnails, deleted files, settings."""


def is_system(name: str) -> bool:
    """Whether a file or folder is a system's own, by its name."""
    return name.lower() in _SYSTEM_NAMES


@dataclass(frozen=True)
class Choice:
    """Files to take and to leave, by globs.

    A glob without a slash is held against every part of a name, so that it chooses folders too;
    one with a slash against the whole name within its input folder. ``*`` crosses no folder, ``**``
    does. Upper and lower case differ.

    Parameters
    ----------
    include : at least one must match; empty: all do.
    exclude : none may match.
    suffixes : of what counts as an image besides those that are.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    suffixes: frozenset[str] = frozenset()

    def takes(self, name: str) -> bool:
        """Whether a file is wanted, by its name within its input folder."""
        included = not self.include or any(_matches(name, one) for one in self.include)
        return included and not self.excludes(name)

    def excludes(self, name: str) -> bool:
        """Whether a file, or a folder with all in it, is left out."""
        return any(_matches(name, one) for one in self.exclude)

    def __str__(self) -> str:
        options = [("--include", self.include), ("--exclude", self.exclude)]
        return " ".join(f"{option} {glob}" for option, globs in options for glob in globs)


EVERYTHING = Choice()


def _matches(name: str, glob: str) -> bool:
    parts = name.split("/")
    glob = glob.removeprefix("./").rstrip("/")
    if "/" not in glob:
        return any(fnmatchcase(part, glob) for part in parts)
    wanted = glob.lstrip("/").split("/")
    # A folder that matches stands for all in it.
    return any(_matches_parts(parts[:n], wanted) for n in range(1, len(parts) + 1))


def _matches_parts(parts: list[str], globs: list[str]) -> bool:
    if not globs:
        return not parts
    if globs[0] == "**":
        return any(_matches_parts(parts[n:], globs[1:]) for n in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], globs[0]) and _matches_parts(parts[1:], globs[1:])
