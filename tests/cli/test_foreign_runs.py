"""Runs that are damaged, or made to do harm: every command says so in one line."""

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from kmdist.cli import cli
from tests.support.kept_runs import KEPT, unpack
from tests.support.mutants import damaged, mutants

pytestmark = pytest.mark.slow

STRIDE = int(os.environ.get("KMDIST_MUTANT_STRIDE", "397"))
"""Of about 25,000 mutants, each so many-eth is tried; 1: all, for hours."""


@pytest.mark.parametrize("name", KEPT)
def test_no_damage_makes_a_command_fail_otherwise_than_in_a_line(name: str, tmp_path: Path) -> None:
    run, new = unpack(name, tmp_path), tmp_path / "new"
    new.mkdir()
    assert cv2.imwrite(str(new / "new.png"), np.zeros((28, 28, 3), np.uint8))
    commands = {
        "info": ["-v"],
        "info --json": [],
        "view": ["-o", str(tmp_path / "picture.png")],
        "export": [str(tmp_path / "out"), "--workers", "1", "--overwrite"],
        "predict": [str(new), "-o", str(tmp_path / "p.zarr"), "--workers", "1", "--overwrite"],
    }
    faults = []
    tried = 0
    for what, change in list(mutants(run))[hash_of(name) % STRIDE :: STRIDE]:
        at = str(damaged(run, change, tmp_path / "mutant.zarr"))
        for command, further in commands.items():
            first, *flags = command.split()
            done = CliRunner().invoke(cli, [first, at, *flags, *further])
            tried += 1
            if done.exception is not None and not isinstance(done.exception, SystemExit):
                faults.append((what, command, repr(done.exception)))
            if "\x1b" in done.output or done.exit_code not in (0, 1, 2, 3):
                faults.append((what, command, done.output))
            assert not list(tmp_path.glob(".p.zarr*")), (what, command)
        for text in (tmp_path / "out").rglob("*.csv"):
            assert "\x1b" not in text.read_text()
    assert tried
    assert faults == []


def hash_of(name: str) -> int:
    """A number of a name, the same in every process."""
    return sum(name.encode())


def test_the_table_and_the_terminal_show_escapes_as_text(tmp_path: Path) -> None:
    name = "a\x1b[31m\nb.png"
    assert cv2.imwrite(str(tmp_path / "plain.png"), np.zeros((8, 8, 3), np.uint8))
    os.rename(tmp_path / "plain.png", tmp_path / name)
    run = tmp_path / "r.zarr"
    words = ["quantize", str(tmp_path / name), "-o", str(run), "-k", "2", "--workers", "1"]
    for words_ in (
        words,
        ["info", "-v", str(run)],
        ["export", str(run), str(tmp_path / "out")],
    ):
        done = CliRunner().invoke(cli, words_)
        assert done.exit_code == 0, done.output
        assert "\x1b" not in done.output
        assert not any(line.startswith("b.png") for line in done.output.splitlines())
    table = (tmp_path / "out" / "table.csv").read_text()
    assert "a\\x1b[31m\\nb.png" in table
    assert "\x1b" not in table
    assert len(table.splitlines()) == 2
    shutil.rmtree(run)


def test_arrays_of_a_model_that_do_not_fit_together(tmp_path: Path) -> None:
    run = unpack("digits", tmp_path)
    metadata = run / "labelling" / "centroids" / "zarr.json"
    metadata.write_text(metadata.read_text().replace("[3,784]", "[4,785]"))
    new = tmp_path / "new"
    new.mkdir()
    assert cv2.imwrite(str(new / "a.png"), np.zeros((28, 28), np.uint8))
    words = ["predict", str(run), str(new), "-o", str(tmp_path / "p.zarr"), "--workers", "1"]
    done = CliRunner().invoke(cli, words)
    assert isinstance(done.exception, SystemExit)
    assert "is damaged" in done.output
