"""What a nightly job is asked for, and when."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from kmdist.errors import UsageError
from kmdist.images import Choice
from kmdist.options import Option, PositiveInt, declared, texts, unchanged
from kmdist.recipes.options import PredictOptions
from kmdist.recipes.registry import recipe_named

Clock = Callable[[], datetime]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d)?")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, None: 1}
_HOUR = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


def system_clock() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


_TEXT = {"type": "string"}


def _folder(value: Any) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError(f"must be a folder, got {value!r}")
    return Path(value).expanduser()


@dataclass(frozen=True)
class Settings:
    """A nightly job.

    Parameters
    ----------
    inputs : folders (or globs, lists) that grow.
    recipe : whose models are fitted; a name of `kmdist.recipes.registry`.
    options : the recipe's, by the names of its function's parameters, where it runs among them.
    command : the command line, to say how to go on.

    Raises
    ------
    UsageError : a value is not as it must be.
    """

    inputs: tuple[str, ...]
    results: Annotated[
        Path, Option("Folder of ledger, models, runs and nights.", parse=_folder, schema=_TEXT)
    ]
    recipe: str = "quantize"
    options: Mapping[str, Any] = field(default_factory=dict)
    refit: Annotated[
        str | int,
        Option(
            "When a new model is fitted: never, weekly, or a number of days.",
            parse=unchanged,
            schema={"anyOf": [{"enum": ["never", "weekly"]}, {"type": "integer", "minimum": 1}]},
        ),
    ] = "never"
    refit_images: Annotated[
        PositiveInt,
        Option("Images that a model is fitted to at most, chosen by their contents' hash."),
    ] = 10_000
    relabel: Annotated[
        bool,
        Option("A new model labels old images anew; their old label maps stay all the same."),
    ] = False
    grace: Annotated[
        float | str,
        Option(
            "Files modified less than this ago wait: seconds, or with s, m, h or d: 10m.",
            parse=unchanged,
            schema={"type": ["number", "string"]},
        ),
    ] = 600
    until: Annotated[
        str | None,
        Option(
            "Stop cleanly at this local hour, HH:MM, and go on the next night.",
            parse=unchanged,
            schema=_TEXT,
        ),
    ] = None
    keep_nights: Annotated[
        PositiveInt | None, Option("Nights whose JSON is kept.", default="all")
    ] = None
    command: Sequence[str] = ()

    def __post_init__(self) -> None:
        _ = recipe_named(self.recipe)
        for place in (*self.inputs, str(self.results)):
            if ":/" in place:  # a Path keeps one slash of a URL
                place = place if "://" in place else place.replace(":/", "://", 1)
                raise UsageError(
                    f"nightly: {place}: a night needs folders (ledger and lock are files, and "
                    "what is new is seen by times and sizes); mount the bucket"
                )
        for one in declared(Settings).values():
            try:
                one.checked(getattr(self, one.attribute))
            except UsageError as error:
                raise UsageError(f"nightly: {error.named(repr(error.option))}") from error
        _ = self.refit_days, self.grace_s, self.deadline(system_clock())

    @property
    def choice(self) -> Choice:
        """Of the files in the folders, which are wanted."""
        include, exclude = (texts(self.options.get(key, ())) for key in ("include", "exclude"))
        return Choice(include, exclude)

    @property
    def labelling_options(self) -> PredictOptions:
        """How new images are labelled: by what labelling has of the options."""
        known = declared(PredictOptions)
        own = {key: value for key, value in self.options.items() if key in known}
        return PredictOptions.of({**own, "resume": True, "overwrite": True})

    @property
    def refit_days(self) -> float | None:
        """Age in days at which a model is replaced; None: never."""
        text = str(self.refit).strip().lower()
        if text in ("never", "weekly"):
            return 7.0 if text == "weekly" else None
        if text.isdecimal() and int(text) >= 1 and not isinstance(self.refit, bool):
            return float(text)
        raise UsageError(
            f"nightly: 'refit' must be never, weekly or a number of days, got {self.refit!r}"
        )

    @property
    def grace_s(self) -> float:
        """Seconds that a file must have been left alone."""
        found = _DURATION.fullmatch(str(self.grace).strip().lower())
        if not found or isinstance(self.grace, bool):
            raise UsageError(
                f"nightly: 'grace' must be seconds, or a number with s, m, h or d, "
                f"got {self.grace!r}"
            )
        return float(found[1]) * _SECONDS[found[2]]

    def deadline(self, start: datetime) -> datetime | None:
        """The next time at which the clock shows `until`, after `start`."""
        if self.until is None:
            return None
        found = _HOUR.fullmatch(str(self.until).strip())
        if not found:
            raise UsageError(
                f"nightly: 'until' must be an hour such as '06:00' (quoted), got {self.until!r}"
            )
        local = start.astimezone()
        due = local.replace(hour=int(found[1]), minute=int(found[2]), second=0, microsecond=0)
        return due if due > local else due + timedelta(days=1)
