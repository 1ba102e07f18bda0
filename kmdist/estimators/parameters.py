"""Checks of the parameters of estimators, and seeds from what scikit-learn takes."""

from typing import Any

import numpy as np


def require_int(name: str, value: Any) -> None:
    """Raise ValueError unless the value is an int of at least 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name}={value!r} must be an int of at least 1")


def require_one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise ValueError unless the value is one of those allowed."""
    if value not in allowed:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(map(repr, allowed))}")


def seed_of(random_state: Any) -> int:
    """A seed from what scikit-learn takes as `random_state`."""
    if isinstance(random_state, (int, np.integer)) and not isinstance(random_state, bool):
        if random_state < 0:
            raise ValueError(f"random_state={random_state} must not be negative")
        return int(random_state)
    from sklearn.utils import check_random_state

    return int(check_random_state(random_state).randint(2**31 - 1))
