"""Options that every recipe's job has: how it runs, how many clusters, and how they are fitted."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial, wraps
from inspect import Parameter, Signature, formatannotation, getdoc, signature
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from msgspec import Meta

from kmdist.arguments import check_arguments
from kmdist.cluster.profiles import Compute
from kmdist.errors import UsageError
from kmdist.images import Choice
from kmdist.job.progress import Watcher
from kmdist.options import (
    Declared,
    NaturalInt,
    NonNegative,
    Option,
    Options,
    PositiveInt,
    declared,
    texts_option,
)

if TYPE_CHECKING:
    from kmdist.engine.fits import FitOptions

T = TypeVar("T")

K = int | str | Sequence[int] | None
"""Numbers of clusters as users give them: one, several, a range ``2..32``, ``auto``."""

MOST_CHOICES = 1000
"""Numbers of clusters in a range of which one is chosen."""
_WHOLE = re.compile(r"\s*[+-]?\d+\s*")


def k_choices(k: str) -> tuple[int, ...]:
    """Numbers of clusters that ``auto`` or ``A..B`` stands for.

    Raises
    ------
    ValueError : neither of these, or too many numbers.
    """
    if k == "auto":
        return tuple(range(2, 33))
    low, dots, high = k.partition("..")
    if not (dots and low.isdecimal() and high.isdecimal() and 1 <= int(low) < int(high)):
        raise ValueError(f"{k!r}: give a number, several (2,8,25), a range 2..32, or auto")
    if int(high) - int(low) >= MOST_CHOICES:
        raise ValueError(f"{k!r}: a range of up to {MOST_CHOICES:,} numbers can be chosen from")
    return tuple(range(int(low), int(high) + 1))


def k_option(
    what: str, default: int, allowed: str, *, at_most: int | None = None, choices: bool = True
) -> Option:
    """The option ``-k``.

    Parameters
    ----------
    what : clusters, as its help names them.
    allowed : numbers of them, in words.
    choices : whether ``auto`` and ranges choose one.
    """
    number = {"type": "integer", "minimum": 1, **({"maximum": at_most} if at_most else {})}
    return Option(
        what,
        default=str(default),
        metavar="K[,K...]",
        short="-k",
        parse=partial(numbers_of_clusters, allowed=allowed, at_most=at_most, choices=choices),
        schema={"anyOf": [number, {"type": "array", "items": number}, {"type": "string"}]},
    )


def numbers_of_clusters(value: Any, *, allowed: str, at_most: int | None, choices: bool) -> Any:
    """Numbers of clusters, ascending; ``auto`` and ranges as they are.

    Raises
    ------
    ValueError : neither of these; too few or too many clusters.
    """
    if isinstance(value, dict):
        raise ValueError(f"must be a single value, got {value!r}")
    if isinstance(value, str) and (value == "auto" or ".." in value):
        if not choices:
            raise ValueError(f"{value!r}: give a number or several to compare: 10,16,36")
        most = k_choices(value)[-1]
        if at_most is not None and most > at_most:
            raise ValueError(f"{value!r}: {allowed}")
        return value
    listed = value.split(",") if isinstance(value, str) else value
    listed = list(listed) if isinstance(listed, Iterable) else [listed]
    said = ",".join(map(str, listed))
    if not all(_WHOLE.fullmatch(str(one)) for one in listed) or not listed:
        further = ", a range 2..32, or auto" if choices else ""
        raise ValueError(f"{said!r} is not a whole number, a list such as 2,8,25{further}")
    ks = sorted({int(one) for one in listed})
    if ks[0] < 1 or (at_most is not None and ks[-1] > at_most):
        wrong = ks[0] if ks[0] < 1 else ks[-1]
        raise ValueError(f"{wrong}: {allowed}")
    return tuple(ks)


_EVERY_JOB = """
output : the run to write; None: a temporary one, removed when this process ends.
watch : called with progress.
progress : show it on standard error; None: on a terminal and in a notebook.
command : the command line, to say how to resume."""
"""Parameters of every function that runs a job."""


def job_function(options: type[Options]) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Let a function be called with the names of options as keywords, and with those of every job.

    Its signature shows them, and the end of its docstring's ``Parameters`` explains them. It is
    itself called with what it takes by position, `output`, `options`, and how the job is run:
    keywords of `kmdist.job.running.run_job`. Callers that have these take its ``__wrapped__``.
    """
    known, every = declared(options), signature(_how).parameters

    def decorate(function: Callable[..., T]) -> Callable[..., T]:
        parameters, name = (
            signature(function).parameters.values(),
            getattr(function, "__name__", ""),
        )
        own = [one for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
        given = Signature([*own, *every.values()])

        @wraps(function)
        def public(*positional: Any, **keywords: Any) -> T:
            values = {known[n].attribute: keywords.pop(n) for n in known if n in keywords}
            unknown = [n for n in keywords if n not in given.parameters]
            if unknown:
                close = get_close_matches(unknown[0], known, 1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise TypeError(f"{name}() has no keyword {unknown[0]!r}{hint}")
            missing = [
                n for n, one in known.items() if one.required and one.attribute not in values
            ]
            if missing:
                raise TypeError(f"{name}() needs the keyword {missing[0]!r}")
            check_arguments(given, given.bind_partial(*positional, **keywords).arguments)
            how = _how(**{n: keywords.pop(n) for n in every if n in keywords})
            return function(*positional, **keywords, options=options(**values), **how)

        asked = [
            Parameter(one.name, Parameter.KEYWORD_ONLY, default=one.default, annotation=one.hint)
            for one in known.values()
        ]
        shown = Signature([*own, *asked, *every.values()], return_annotation="Run")
        public.__dict__["__signature__"] = shown
        public.__doc__ = _explained(getdoc(function) or "", known)
        return public

    return decorate


def _explained(docstring: str, known: Mapping[str, Declared]) -> str:
    """A NumPy docstring with the options, and what every job has, added to its parameters."""
    lines = []
    for one in known.values():
        said = f" Default: {one.option.default}." if one.option.default else ""
        kind = re.sub(r"(?:\w+\.)+(?=[A-Z])", "", formatannotation(one.hint))
        lines.append(f"{one.name} : {kind}")
        lines += wrap(one.option.help + said, 92, initial_indent="    ", subsequent_indent="    ")
    before, heading, after = docstring.partition("\n\nReturns\n")
    return "\n".join([before + _EVERY_JOB, *lines]) + heading + after


def _how(
    *, watch: Watcher | None = None, progress: bool | None = None, command: Sequence[str] = ()
) -> dict[str, Any]:
    from kmdist.job.reporter import watcher

    return {"watch": watcher(watch, progress), "command": command}


BlockMpx = Annotated[
    float, Meta(ge=0.01, le=1024), Option("Megapixels per unit of distributed work.")
]
KeepPixels = Annotated[
    Literal["auto", "always", "never"],
    Option("Keep decoded pixels between the passes; auto: where they fit in memory."),
]
Method = Literal["k-means++", "k-means||", "random"]

SharedClusters = Annotated[
    bool,
    Option(
        "One set of clusters for the collection, or one an image.",
        off="--per-image",
        one_off=True,
    ),
]

N_INIT = "Restarts."
MAX_ITER = "Iterations at most."
TOL = "Stop when centres move less, relative to the variance; 0: until no label changes."


class JobOptions(Compute, frozen=True, kw_only=True):
    """How any recipe runs.

    `ONE_INPUT`: it takes a single input, not several.
    """

    ONE_INPUT: ClassVar[bool] = False

    seed: Annotated[NaturalInt, Option("Same seed, input and options: the same bytes.")] = 0
    block_mpx: BlockMpx = 16.0
    keep_pixels: KeepPixels = "auto"
    include: Annotated[
        Sequence[str],
        texts_option("Take only files that match, by name, folder or path in INPUT.", "GLOB"),
    ] = ()
    exclude: Annotated[
        Sequence[str], texts_option("Leave out files and folders that match.", "GLOB")
    ] = ()
    max_pixels: Annotated[
        PositiveInt, Option("Refuse larger images that must be decoded whole.")
    ] = 200_000_000
    strict: Annotated[
        bool, Option("Stop at the first image that cannot be used.", one_off=True)
    ] = False
    resume: Annotated[bool, Option("Go on with an interrupted run.", one_off=True)] = False
    overwrite: Annotated[
        bool, Option("Replace an existing run once this is done.", one_off=True)
    ] = False

    def record(self, *names: str) -> dict[str, Any]:
        """Values of some options, as a run records what decides its result."""
        return {name: getattr(self, name) for name in names}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seed >= 1 << 64:
            raise UsageError(f"must be 0 to 2^64 - 1, got {self.seed}", option="seed")

    @property
    def reading(self) -> dict[str, Any]:
        """What a run records of how image files are cut into blocks."""
        return self.record("block_mpx", "max_pixels")

    @property
    def choice(self) -> Choice:
        """Of the files found, which are wanted."""
        return Choice(tuple(self.include), tuple(self.exclude))

    @property
    def ks(self) -> tuple[int, ...]:
        """Numbers of clusters that are fitted; empty where the recipe is not asked for any."""
        return ()

    @property
    def choices(self) -> tuple[int, ...]:
        """Numbers of clusters of which one is chosen; or empty."""
        return ()


class FittingOptions(JobOptions, frozen=True, kw_only=True):
    """How any recipe runs that fits k-means with `kmdist.KMeans`'s options."""

    DEFAULT_K: ClassVar[int]

    k: K = None
    shared: bool = True
    n_init: Annotated[PositiveInt, Option(N_INIT)] = 1
    max_iter: Annotated[PositiveInt, Option(MAX_ITER)] = 300
    tol: Annotated[NonNegative, Option(TOL)] = 1e-4
    fit_only: Annotated[
        bool,
        Option(
            "Fit shared clusters and write no label maps: a model for kmdist.predict.",
            one_off=True,
        ),
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fit_only and not self.shared:
            raise UsageError("fit_only makes clusters to label with later: it needs shared=True")

    @property
    def fitting(self) -> dict[str, Any]:
        """What a run records of how it was fitted, and read."""
        return {**self.record("n_init", "max_iter", "tol", "seed"), **self.reading}

    def fit_options(self, init: Any) -> "FitOptions":
        """How clusters are fitted from such first centres."""
        from kmdist.engine.fits import FitOptions

        return FitOptions(init, self.n_init, self.max_iter, self.tol, self.seed)

    @property
    def choices(self) -> tuple[int, ...]:
        """Numbers of clusters of which one is chosen by label-free scores; or empty."""
        return k_choices(self.k) if isinstance(self.k, str) else ()

    @property
    def ks(self) -> tuple[int, ...]:
        """Numbers of clusters, ascending; one entry of 0 where `choices` decides."""
        if isinstance(self.k, str):
            return (0,)
        return self.k if isinstance(self.k, tuple) else (self.DEFAULT_K,)
