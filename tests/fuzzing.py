"""Coverage-guided fuzzing of what reads foreign bytes, by hand: an hour for each target.

    pip install atheris
    python -m tests.fuzzing decoders|runs|specs FOLDER -len_control=0 -max_total_time=3600

FOLDER keeps the corpus, which begins with small files of every kind; the rest is given to libFuzzer
(https://llvm.org/docs/LibFuzzer.html). What is found is written as ``crash-…``, and becomes a test.
The first byte of an input chooses a file's suffix, a run's file or the kind of a spec.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import atheris
from click.testing import CliRunner

WATCHED = ["kmdist", "tifffile", "PIL", "zarr", "yaml"]
"""Packages whose branches guide the search, once nothing has imported them before."""

with atheris.instrument_imports(include=WATCHED):
    from kmdist.cli import cli
    from kmdist.cli.specs import checked, inputs_of, read_spec, recipe_of
    from kmdist.cluster.profiles import read_profile
    from kmdist.errors import KmdistError
    from kmdist.images import Found
    from kmdist.recipes.registry import recipe_named
    from tests.support.damage import outcome
    from tests.support.folders import ROOT
    from tests.support.kept_runs import KEPT, unpack
    from tests.support.small_files import small_files

Target = tuple[Callable[[bytes], None], Iterator[bytes]]


def decoders(folder: Path) -> Target:
    """Files of every suffix through the decoders."""
    files = small_files()
    suffixes = sorted({Path(name).suffix for name in files})

    def one(data: bytes) -> None:
        if data:
            path = folder / f"x{suffixes[data[0] % len(suffixes)]}"
            path.write_bytes(data[1:])
            outcome(Found(path.name, str(path)))

    return one, (
        bytes([suffixes.index(Path(name).suffix)]) + content for name, content in files.items()
    )


def runs(folder: Path) -> Target:
    """Metadata and chunks of runs through ``kmdist info``."""
    files = [
        path for name in KEPT for path in sorted(unpack(name, folder).rglob("*")) if path.is_file()
    ][:256]
    whole = [path.read_bytes() for path in files]

    def one(data: bytes) -> None:
        if not data:
            return
        at = data[0] % len(files)
        run = next(parent for parent in files[at].parents if parent.suffix == ".zarr")
        files[at].write_bytes(data[1:])
        done = CliRunner().invoke(cli, ["info", "-v", str(run)])
        files[at].write_bytes(whole[at])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert "\x1b" not in done.output

    return one, (bytes([at]) + content for at, content in enumerate(whole))


def specs(folder: Path) -> Target:
    """Job specs of every recipe, and cluster files."""
    path = folder / "spec.yaml"

    def one(data: bytes) -> None:
        path.write_bytes(data[1:])
        try:
            if data[:1] < b"\x80":
                read_profile(str(path))
                return
            keys = read_spec(str(path))
            recipe = recipe_of(str(path), keys)
            inputs_of(str(path), keys)
            checked(str(path), recipe_named(recipe).options, keys)
        except KmdistError:
            pass

    shipped = [b"\x00" + (ROOT / "cluster.yaml").read_bytes()]
    shipped += [b"\x80" + spec.read_bytes() for spec in (ROOT / "jobs").glob("*.yaml")]
    return one, iter(shipped)


TARGETS = {"decoders": decoders, "runs": runs, "specs": specs}


def main() -> None:
    """Fill the corpus and go on until libFuzzer's limits."""
    name, corpus, *limits = sys.argv[1:]
    Path(corpus).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        target, seeds = TARGETS[name](Path(scratch))
        for number, seed in enumerate(seeds):
            Path(corpus, f"seed-{number}").write_bytes(seed)
        atheris.Setup([sys.argv[0], corpus, *limits], target)
        atheris.Fuzz()


if __name__ == "__main__":
    with atheris.instrument_imports(include=WATCHED):  # what is imported when it is needed
        main()
