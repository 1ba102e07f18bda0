"""Errors a user can meet: each says what was wrong, what was received and what to do."""


class KmdistError(Exception):
    """A failure to report in plain words, without a traceback.

    Attributes
    ----------
    exit_code : of the command that ends with it.
    """

    exit_code = 1


class UsageError(KmdistError, ValueError):
    """A mistake in what was asked for."""

    exit_code = 2


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

    def __str__(self) -> str:
        return self.reason
