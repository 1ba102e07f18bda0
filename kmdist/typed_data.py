"""Plain data made what its type says: options, records, results of blocks, nights."""

from threading import RLock
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_ONE_AT_A_TIME = RLock()
"""msgspec learns a type at its first use, and crashes where another thread uses it meanwhile."""


def converted(plain: Any, kind: type[T], **how: Any) -> T:
    """Data of a type, by `msgspec.convert`, whose keywords it takes; any thread may ask.

    Raises
    ------
    msgspec.ValidationError : it is not of this type.
    """
    with _ONE_AT_A_TIME:
        return msgspec.convert(plain, kind, **how)
