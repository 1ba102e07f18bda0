"""Read the YAML files that users write: job specs and cluster files.

They are data: no tags that make objects, no key twice, and no aliases that grow into gigabytes.
"""

from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from kmdist.errors import UsageError
from kmdist.urls import require_on_disk

MAX_BYTES = 256 * 1024
MAX_INT_BITS = 256
MAX_ALIASES = 16
"""Sixteen aliases multiply what they stand for by 400 at most."""


class _Loader(yaml.SafeLoader):
    """Refuses what YAML allows and no spec needs."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._aliases = 0
        self._open: list[str | None] = []

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        anchor = event.anchor
        if isinstance(event, yaml.AliasEvent):
            self._aliases += 1
            if self._aliases > MAX_ALIASES or anchor in self._open:
                reason = (
                    f"alias *{anchor} stands for what contains it"
                    if anchor in self._open
                    else f"more than {MAX_ALIASES} aliases; write the values out"
                )
                raise ComposerError(None, None, reason, event.start_mark)  # type: ignore[arg-type]
            return super().compose_node(parent, index)
        self._open.append(anchor)
        try:
            return super().compose_node(parent, index)
        finally:
            self._open.pop()

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if not isinstance(key.value, str):
                raise ConstructorError(None, None, "a key is no word", key.start_mark)
            if key.value in seen:
                reason = f"key {key.value!r} is given twice"
                raise ConstructorError(None, None, reason, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: Any) -> int:
        value = super().construct_yaml_int(node)
        if value.bit_length() > MAX_INT_BITS:  # Python cannot even print it
            reason = f"a whole number of {value.bit_length():,} bits"
            raise ConstructorError(None, None, reason, node.start_mark)
        return int(value)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def read_mapping(path: str | Path, what: str) -> dict[str, Any]:
    """Read a file that holds a mapping.

    Parameters
    ----------
    what : the file in the words of an error: ``job spec``.

    Raises
    ------
    FileNotFoundError : it is not there.
    UsageError : it is a URL, cannot be read, is larger than `MAX_BYTES`, is no YAML of the kind
        that is read, or no mapping.
    """
    require_on_disk(path, what)
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UsageError(f"{what} {path}: larger than {MAX_BYTES // 1024} kB; not read")
        parsed = parse(content.decode())
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{what} {path}: {reason}") from error
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"{what} {path}: not valid YAML: {error}") from error
    if not isinstance(parsed, dict):
        raise UsageError(f"{what} {path}: must be a mapping of keys, not {_short(parsed)}")
    return {str(key): value for key, value in parsed.items()}


def parse(text: str) -> Any:
    """YAML as data.

    Raises
    ------
    ValueError : it is none of the kind that is read.
    """
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()  # type: ignore[no-untyped-call]
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except (LookupError, AttributeError) as error:  # of tags whose values are not of them
        raise ValueError(f"a value is not what its tag says: {error}") from error
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 60 else f"{said[:60]}…"
