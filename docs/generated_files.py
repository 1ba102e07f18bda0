"""Write what is made from the options of the recipes: type stubs, and JSON Schemas for editors.

python -m docs.generated_files
"""

import inspect
import json
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import kmdist
from kmdist.cluster.profiles import KINDS
from kmdist.job.recipe import Inputs
from kmdist.nightly.settings import Settings
from kmdist.options import Declared, declared
from kmdist.recipes.registry import recipe_named

ROOT = Path(__file__).parent.parent
RECIPES = ("quantize", "texture", "segment", "digits")
HEADER = '''"""What kmdist offers, with types; written by docs/generated_files.py."""

import collections.abc
import pathlib
import typing

import kmdist.job.progress
import kmdist.recipes.quantize.options
import kmdist.recipes.segment.options
from kmdist.job.recipe import Inputs
'''
_JSON = {int: "integer", float: "number", str: "string", list: "array", dict: "object"}
PATHS = {
    "description": "A folder, a glob, files, a text file that lists files; or a list of these.",
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
}
OUTPUT = {"description": "The run to write.", "type": "string"}


def generated_files() -> dict[Path, str]:
    """Every generated file, and what is in it."""
    schemas = {name: job_schema(name) for name in RECIPES}
    schemas |= {"nightly": nightly_schema(), "cluster": cluster_schema()}
    found = {
        ROOT / "jobs" / "schemas" / f"{name}.json": json.dumps(schema, indent=1) + "\n"
        for name, schema in schemas.items()
    }
    return {**found, ROOT / "kmdist" / "__init__.pyi": stub()}


def stub() -> str:
    """Types of the public names: functions with every option as a keyword."""
    functions = []
    imports = [f"from kmdist import {name} as {name}" for name in kmdist.SUBMODULES]
    for module, names in kmdist.PLACES.items():
        for name in names:
            if "__signature__" in vars(getattr(kmdist, name)):
                functions.append(function_stub(name, getattr(kmdist, name)))
            else:
                imports.append(f"from kmdist.{module} import {name} as {name}")
    return "\n".join([HEADER + "\n".join(imports), "", "__version__: str", "", *functions])


def function_stub(name: str, function: Callable[..., Any]) -> str:
    """One function."""
    lines = [f"def {name}("]
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and "    *," not in lines:
            lines.append("    *,")
        default = "" if parameter.default is inspect.Parameter.empty else " = ..."
        lines.append(f"    {parameter.name}: {annotation(parameter.annotation)}{default},")
    return "\n".join([*lines, ") -> Run: ...", ""])


def annotation(hint: Any) -> str:
    """A type as source."""
    if hint is Inputs:
        return "Inputs"
    if isinstance(hint, str):
        return hint
    if isinstance(hint, type) and not isinstance(hint, types.GenericAlias):
        module = "" if hint.__module__ == "builtins" else f"{hint.__module__}."
        return f"{module}{hint.__qualname__}"
    return repr(hint).replace("kmdist.store.reader.Run", "Run")


def job_schema(recipe: str) -> dict[str, Any]:
    """Of the job specs of a recipe."""
    options = recipe_named(recipe).options
    keys = {"recipe": {"const": recipe}, "input": PATHS, "output": OUTPUT, **written(options)}
    return schema(f"kmdist run: {recipe}", keys, ["recipe", "input", "output"])


def nightly_schema() -> dict[str, Any]:
    """Of nightly job specs, whatever the recipe."""
    keys: dict[str, Any] = {"recipe": {"enum": list(RECIPES)}, "input": PATHS, **written(Settings)}
    for name in RECIPES:
        for key, one in declared(recipe_named(name).options).items():
            if not one.option.one_off and not one.option.python_only:
                keys.setdefault(key, {"anyOf": []}).setdefault("anyOf", []).append(one.schema())
    for key in keys:
        keys[key] = alternatives(keys[key])
    return schema("kmdist nightly", keys, ["input", "results"])


def alternatives(found: dict[str, Any]) -> dict[str, Any]:
    """The schema of a key that several recipes have: once where they agree."""
    listed = found.get("anyOf", [])
    if set(found) != {"anyOf"} or any(one != listed[0] for one in listed):
        return found
    return dict(listed[0])


def cluster_schema() -> dict[str, Any]:
    """Of cluster.yaml."""
    keys = {key: {"type": sorted({_JSON[kind] for kind in kinds})} for key, kinds in KINDS.items()}
    for key in ("min_workers", "timeout", "scale", "workers"):  # also from the environment
        keys[key]["type"] = sorted({*keys[key]["type"], "string"})
    profile = schema("A profile", keys, [])
    profiles = {"type": "object", "additionalProperties": {"anyOf": [profile, {"type": "null"}]}}
    default = {"description": "The profile that is taken where none is named.", "type": "string"}
    return schema("kmdist cluster file", {"default": default, "profiles": profiles}, ["profiles"])


def written(options: type) -> dict[str, Any]:
    """Schemas of the options that can be written down."""
    found = declared(options)
    keys = {name: one.schema() for name, one in found.items() if not one.option.python_only}
    return {**keys, **{one.off: _off(one) for one in found.values() if one.off}}


def _off(one: Declared) -> dict[str, Any]:
    return {"description": f"The opposite of {one.name}.", "type": "boolean"}


def schema(title: str, keys: Mapping[str, Any], required: list[str]) -> dict[str, Any]:
    """Of a mapping with these keys and no others."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "type": "object",
        "properties": keys,
        "required": required,
        "additionalProperties": False,
    }


if __name__ == "__main__":
    for path, text in generated_files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
