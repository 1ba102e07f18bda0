"""Options that are declared once: typed fields of a class, and what every front end makes of them.

A recipe's options are one frozen class, e.g. `kmdist.recipes.quantize.options.QuantizeOptions`.
Its fields are the keywords of the Python function, the options of the command, the keys of a job
spec and the properties of its JSON Schema; its docstring is the help of the command. A value is
converted and checked when the class is made, whichever front end it comes from.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    Self,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec
from msgspec import Meta, Struct
from msgspec import inspect as inspect_type

from kmdist.errors import KEYWORDS, UsageError
from kmdist.typed_data import converted

T = TypeVar("T")

PositiveInt = Annotated[int, Meta(ge=1)]
NaturalInt = Annotated[int, Meta(ge=0)]
NonNegative = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(gt=0, le=1)]

_WORDS = {"yes": True, "on": True, "no": False, "off": False}
"""Words for true and false besides YAML's."""


def unchanged(value: Any) -> Any:
    """A value that is checked where it is used."""
    return value


def texts(value: Any) -> tuple[str, ...]:
    """One text or a list of them.

    Raises
    ------
    ValueError : neither.
    """
    listed = (value,) if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or not all(isinstance(one, str) for one in listed):
        raise ValueError(f"must be text or a list of texts, got {value!r}")
    return tuple(listed)


def path_or_text(value: Any) -> str | Path:
    """A path; YAML takes some for numbers or days.

    Raises
    ------
    ValueError : no text.
    """
    if isinstance(value, str | Path):
        return value
    if type(value) in (int, float, date):
        return str(value)
    raise ValueError(f"must be a path, got {value!r}")


@dataclass(frozen=True)
class Option:
    """What is said of an option besides its name, type and default.

    Parameters
    ----------
    help : a sentence or two, for the command line, the function's docstring and the schema.
    default : what an option that is not given stands for, where its default is None.
    metavar : stands for the value on the command line.
    short : further name on the command line: ``-k``.
    off : name on the command line of a flag that turns it off: ``--per-image``.
    bare : what it stands for on the command line without a value; None: it needs one.
    name : where the public name is not the field's.
    parse : makes a checked value of what a front end was given (text, a number, a list), or raises
        ValueError with the reason; None: by the type.
    schema : JSON Schema of the value, where it has a `parse`.
    python_only : takes what cannot be written down, in a command or a job spec.
    one_off : means nothing in a job that is repeated every night.
    """

    help: str
    default: str = ""
    metavar: str | None = None
    short: str | None = None
    off: str | None = None
    bare: Any = None
    name: str | None = None
    parse: Callable[[Any], Any] | None = None
    schema: Mapping[str, Any] | None = field(default=None, hash=False)
    python_only: bool = False
    one_off: bool = False


def texts_option(help: str, metavar: str) -> Option:
    """An option that takes one text or several."""
    schema = {"type": ["string", "array"], "items": {"type": "string"}}
    return Option(help, metavar=metavar, parse=texts, schema=schema)


@dataclass(frozen=True)
class Declared:
    """One option of a class of options.

    Parameters
    ----------
    name : the public one. attribute : of the class.
    kind : type with its constraints. hint : type as Python's signature shows it.
    info : the type as data, without None; None where the option has a `parse`.
    """

    name: str
    attribute: str
    kind: Any
    hint: Any
    info: msgspec.inspect.Type | None
    default: Any
    option: Option

    @property
    def required(self) -> bool:
        """Whether it must be given."""
        return self.default is inspect.Parameter.empty

    @property
    def off(self) -> str | None:
        """Public name of the flag that turns it off."""
        return self.option.off and self.option.off.lstrip("-").replace("-", "_")

    def checked(self, value: Any, name: str | None = None) -> Any:
        """The value converted to the option's type.

        Parameters
        ----------
        name : by which it was given.

        Raises
        ------
        UsageError : not a value that is allowed; it carries the option.
        """
        if value is None and self.default is None:
            return None
        if getattr(value, "ndim", None) == 0:  # of NumPy
            value = value.item()
        try:
            if self.option.parse is not None:
                return self.option.parse(value)
            return self._converted(value)
        except ValueError as error:
            raise UsageError(str(error), option=name or self.name) from error

    @property
    def values(self) -> tuple[Any, ...]:
        """Values that are allowed, where they can be listed, as they were declared."""
        for hint in (self.hint, *get_args(self.hint)):
            if get_origin(hint) is Literal:
                return get_args(hint)
        return ()

    def _converted(self, value: Any) -> Any:
        if isinstance(self.info, inspect_type.StrType) and type(value) in (int, float, date):
            value = str(value)  # a path that YAML takes for a number or a day
        if isinstance(self.info, inspect_type.BoolType):
            value = _WORDS.get(str(value).lower(), value)
        elif isinstance(value, bool):
            raise ValueError(self._reason(value))
        try:
            found = converted(value, self.kind, strict=False)
            if isinstance(found, float) and math.isinf(found):
                raise ValueError(self._reason(found))
            return found
        except msgspec.ValidationError as error:
            raise ValueError(self._reason(value)) from error

    def _reason(self, value: Any) -> str:
        """Why a value is not of the type, in words."""
        info = self.info
        if isinstance(info, inspect_type.BoolType):
            return f"must be true or false, got {value!r}"
        if isinstance(value, dict | list):
            return f"must be a single value, got {value!r}"
        if self.values:
            return f"{value!r} is not one of {', '.join(map(str, self.values))}"
        if isinstance(info, inspect_type.IntType | inspect_type.FloatType):
            kind = "integer" if isinstance(info, inspect_type.IntType) else "number"
            kind = "finite number" if value in (math.inf, -math.inf) else kind
            low, word = (info.gt, "above") if info.ge is None else (info.ge, "from")
            limits = "" if low is None else f" {word} {low:g}"
            limits += "" if info.le is None else f" to {info.le:g}"
            return f"{value!r} is not a valid {kind}{limits}"
        return f"must be text, got {value!r}"

    def schema(self) -> dict[str, Any]:
        """JSON Schema of its value in a job spec."""
        kind = dict(self.option.schema or msgspec.json.schema(self.kind))
        if not self.required and self.default not in (None, ()):
            kind["default"] = self.default
        said = f" Default: {self.option.default}." if self.option.default else ""
        return {"description": self.option.help + said, **kind}


class Options(Struct, frozen=True, kw_only=True):
    """Base of every class of options: values are converted and checked when one is made.

    `OMITTED` names fields of a base class that this one does not offer; they keep their defaults.
    """

    OMITTED: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **_: Any) -> None:
        for attribute, hint in inspect.get_annotations(cls).items():
            option = _option_of(hint)
            if option is not None:
                name = option.name or attribute
                is_flag = get_args(hint)[0] is bool
                KEYWORDS[name.replace("_", "-")] = f"{name}={'True' * is_flag}"
                if option.off:
                    KEYWORDS[option.off.removeprefix("--")] = f"{name}=False"

    def __post_init__(self) -> None:
        for one in _fields(type(self)):
            value = getattr(self, one.attribute)
            checked = one.checked(value)
            if checked is not value:
                msgspec.structs.force_setattr(self, one.attribute, checked)

    @classmethod
    def of(cls, given: Mapping[str, Any], *, further: tuple[str, ...] = ()) -> Self:
        """Options from what is written down: the keys of a job spec, a command line.

        Parameters
        ----------
        given : by public names, or by that of the flag which turns an option off.
        further : names that the caller takes besides, to be named where one is misspelt.

        Raises
        ------
        UsageError : an unknown name; the nearest one is named. A value that is not allowed, or
            one that is missing.
        """
        return cls(**checked_values(cls, given, further))


def checked_values(
    options: type, given: Mapping[str, Any], further: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Checked values by attributes of a class of options; parameters and errors of `Options.of`."""
    known = {n: one for n, one in declared(options).items() if not one.option.python_only}
    off = {one.off: one for one in known.values() if one.off}
    values = {}
    for name, value in given.items():
        if name not in known and name not in off:
            raise UsageError(_unknown(name, [*known, *off, *further]))
        if value is not None:
            one = known.get(name) or off[name]
            checked = one.checked(value, name)
            values[one.attribute] = checked if name in known else not checked
    for one in known.values():
        if one.required and one.attribute not in values:
            raise UsageError("is missing", option=one.name)
    return values


def _unknown(name: str, allowed: list[str]) -> str:
    close = get_close_matches(name, allowed, 1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; allowed: {', '.join(sorted(allowed))}"
    return f"unknown key {name!r}{hint}"


@cache
def declared(options: type) -> dict[str, Declared]:
    """The options that a class offers by their public names: its own, then those of its bases.

    Parameters
    ----------
    options : of `Options`, or a dataclass some of whose fields are annotated with an `Option`.
    """
    omitted = getattr(options, "OMITTED", ())
    return {one.name: one for one in _fields(options) if one.attribute not in omitted}


@cache
def _fields(options: type) -> tuple[Declared, ...]:
    hints, plain = get_type_hints(options, include_extras=True), get_type_hints(options)
    defaults = {name: one.default for name, one in inspect.signature(options).parameters.items()}
    own = [name for owner in options.__mro__ for name in inspect.get_annotations(owner)]
    names = [name for name in dict.fromkeys(own) if _option_of(hints[name])]
    return tuple(_declared(name, hints[name], plain[name], defaults[name]) for name in names)


def _option_of(hint: Any) -> Option | None:
    notes = get_args(hint) if get_origin(hint) is Annotated else ()
    return next((note for note in notes if isinstance(note, Option)), None)


def _declared(name: str, hint: Any, plain: Any, default: Any) -> Declared:
    kind, *notes = get_args(hint)
    option = _option_of(hint) or Option("")
    for note in notes:
        kind = Annotated[kind, note] if isinstance(note, Meta) else kind
    data = None if option.parse else _without_none(inspect_type.type_info(kind))
    return Declared(option.name or name, name, kind, plain, data, default, option)


def _without_none(info: inspect_type.Type) -> inspect_type.Type:
    if not isinstance(info, inspect_type.UnionType):
        return info
    (other,) = (one for one in info.types if not isinstance(one, inspect_type.NoneType))
    return other
