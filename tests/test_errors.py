"""Errors name options as Python has them too; the commands show the command line's alone."""

import inspect
import pickle

import click
import pytest
from click.testing import CliRunner

import kmdist
from kmdist.cli import cli
from kmdist.errors import (
    KEYWORDS,
    ImageError,
    KmdistError,
    UsageError,
    in_python,
    on_command_line,
)
from kmdist.recipes.digits.recipe import digits
from kmdist.recipes.predict import predict
from kmdist.recipes.texture.recipe import texture

RECIPES = {
    "quantize": kmdist.quantize,
    "texture": texture,
    "digits": digits,
    "segment": kmdist.segment,
    "predict": predict,
}


@pytest.mark.parametrize("name", RECIPES)
def test_every_option_that_python_has_is_known(name: str) -> None:
    keywords = inspect.signature(RECIPES[name]).parameters
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    for option in command.params:
        if not isinstance(option, click.Option) or option.name not in keywords:
            continue
        for long in (one[2:] for one in (*option.opts, *option.secondary_opts) if one[:2] == "--"):
            if long in ("output", "k"):
                continue
            off = f"--{long}" in option.secondary_opts
            value = str(not off) if option.is_flag else ""
            assert KEYWORDS[long] == f"{option.name}={value}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("use --overwrite to replace it", "use overwrite=True/--overwrite to replace it"),
        ("--block-mpx 0: must be", "block_mpx=/--block-mpx 0: must be"),
        ("without --per-image.", "without shared=False/--per-image."),
        ("give --set a=b, -k 3 or --no-such", "give --set a=b, -k 3 or --no-such"),
        ("overwrite=True/--overwrite", "overwrite=True/--overwrite"),
        ("--resume --overwrite", "resume=True/--resume overwrite=True/--overwrite"),
        ("--tests and --test-labels", "--tests and test_labels=/--test-labels"),
    ],
)
def test_options_are_said_in_both_ways(text: str, said: str) -> None:
    for error in (KmdistError(text), UsageError(text), ImageError("code", text)):
        assert str(error) == said
        assert str(pickle.loads(pickle.dumps(error))) == said
        assert str(KmdistError(f"{error}")) == said
    assert in_python(said) == said
    if text != said:
        assert on_command_line(said) == text


def test_each_front_end_says_its_own(tmp_path, photographs) -> None:
    output = tmp_path / "run.zarr"
    kmdist.quantize(photographs, output, k=2)
    with pytest.raises(UsageError, match="use overwrite=True/--overwrite to replace"):
        kmdist.quantize(photographs, output, k=2)
    done = CliRunner().invoke(cli, ["quantize", str(photographs), "-o", str(output), "-k", "2"])
    assert done.exit_code == 2
    assert "use --overwrite to replace" in done.output
    assert "overwrite=True" not in done.output
