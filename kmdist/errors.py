"""Errors a user can meet: each says what was wrong, what was received and what to do.

Messages name options as the command line does (``--overwrite``). `str` of an error, which is what
Python shows, says them as Python does too; the commands show `on_command_line`.
"""

import re
from typing import Self

KEYWORDS: dict[str, str] = {}
"""Options of the command line as Python writes them: ``overwrite`` is ``overwrite=True``, and
``block-mpx`` is ``block_mpx=``. Each class of `kmdist.options.Options` adds its own."""

_OPTION = re.compile(r"(?<![\w/-])--([a-z]+(?:-[a-z]+)*)(?![\w-])")
_BOTH = re.compile(r"[a-z_]+=(?:True|False)?/(--[a-z]+(?:-[a-z]+)*)")


def in_python(text: str) -> str:
    """A message with each option as Python and as the command line has it.

    ``--overwrite`` becomes ``overwrite=True/--overwrite``, and ``--block-mpx 3`` becomes
    ``block_mpx=/--block-mpx 3``.
    """

    def both(found: re.Match[str]) -> str:
        keyword = KEYWORDS.get(found[1])
        return f"{keyword}/{found[0]}" if keyword else found[0]

    return _OPTION.sub(both, text)


def on_command_line(text: str) -> str:
    """A message with options as the command line has them alone."""
    return _BOTH.sub(r"\1", text)


def quantity(n: int, noun: str) -> str:
    """A number and what it counts: ``1 image``, ``1,200 images``."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def shown(text: object) -> str:
    """Text as a terminal can show it: names of others hold control characters and broken UTF-8."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in str(text)
    )


def shown_lines(text: object) -> str:
    """As `shown`, of a message with lines of its own."""
    return "\n".join(map(shown, str(text).split("\n")))


class KmdistError(Exception):
    """A failure to report in plain words, without a traceback.

    Attributes
    ----------
    exit_code : of the command that ends with it.
    """

    exit_code = 1

    def __str__(self) -> str:
        return in_python(super().__str__())


class UsageError(KmdistError, ValueError):
    """A mistake in what was asked for.

    Parameters
    ----------
    reason : what is wrong, what was received and what is allowed.
    option : the public name of the option that is wrong, where it is one; front ends say it as
        their users write it.
    """

    exit_code = 2

    def __init__(self, reason: str, option: str | None = None) -> None:
        super().__init__(reason, option)
        self.reason = reason
        self.option = option

    def named(self, option: str) -> str:
        """The error with its option as a front end writes it."""
        return f"{option}{' ' if self.reason.startswith(('must', 'is ')) else ': '}{self.reason}"

    def __str__(self) -> str:
        return in_python(self.reason if self.option is None else self.named(self.option))


class ImageError(KmdistError):
    """One image that cannot be used.

    Parameters
    ----------
    code : a stable word for the kind of fault, e.g. ``truncated``; see `kmdist.images`.
    reason : the fault in a sentence, with what was found and what is allowed.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    @classmethod
    def corrupt(cls, kind: str, error: object) -> Self:
        """Of a file of some kind that a library cannot read, for what its error says."""
        said = " ".join(str(error).split())[:200] or type(error).__name__
        return cls("corrupt", f"corrupt {kind}: {said}")

    def __str__(self) -> str:
        return in_python(self.reason)
