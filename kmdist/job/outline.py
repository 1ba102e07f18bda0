"""What a dry run says that depends on the recipe."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kmdist.job.memory import Projection


def n_fits(options: Mapping[str, Any]) -> int:
    """Label maps an image, by the options of a recipe's command."""
    k = options.get("k")
    return len(k) if isinstance(k, tuple | list) else 1


@dataclass(frozen=True)
class Outline:
    """What depends on the recipe; see `kmdist.job.plan.Plan`.

    Parameters
    ----------
    further_bytes : results beside label maps.
    """

    passes: int | None = None
    tasks: int | None = None
    memory: Projection | None = None
    checkpoint_bytes: int = 0
    further_bytes: int = 0
