"""Write the tour: commands and what they print, run one after the other, and their pictures.

python -m docs.tour
"""

import shlex
import tempfile
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner
from PIL import Image

from kmdist.cli import cli

DOCS = Path(__file__).parent
PICTURE_PX = 1200
HEAD = """\
The tour, in a minute
=====================

From nothing to a palette, a cut-out, a map of textures and groups of digits, on pictures that
kmdist brings along. What stands below a command is what it prints, without the progress that a
terminal shows meanwhile. This page is written by ``python -m docs.tour``; a test runs it again.
"""


@dataclass(frozen=True)
class Stop:
    """A stop of the tour.

    Parameters
    ----------
    picture : file that its commands write, to be shown.
    exact : prints the same on every machine; elsewhere last digits depend on the processor.
    """

    title: str
    text: str
    commands: tuple[str, ...]
    picture: str
    exact: bool = True


STOPS = (
    Stop(
        "A palette",
        "Eight colours for six photographs together, and how near they come to them:",
        (
            "kmdist quantize sample:photos -o photos.zarr -k 8",
            "kmdist view photos.zarr -o palette.png",
        ),
        "palette.png",
    ),
    Stop(
        "A cut-out",
        "A flower in two of three colours: the largest region, its holes filled, its edge soft.",
        (
            "kmdist quantize sample:photos --include flower.jpg -o flower.zarr -k 3",
            "kmdist extract flower.zarr flower.jpg --clusters 1,2 --min-region 900 --largest "
            "--feather 2 -o cutout.png",
        ),
        "cutout.png",
    ),
    Stop(
        "A map of textures",
        "Each photograph by itself, in colours that tell its textures apart:",
        (
            "kmdist texture sample:photos -o textures.zarr -k 4",
            "kmdist view textures.zarr -o textures.png",
        ),
        "textures.png",
        exact=False,
    ),
    Stop(
        "Groups of digits",
        "1,797 handwritten digits in ten groups. Their classes are known, and score what was found "
        "without them:",
        (
            "kmdist digits sample:digits -o digits.zarr",
            "kmdist view digits.zarr -o digits.png --what confusion",
        ),
        "digits.png",
        exact=False,
    ),
)


def printed(stop: Stop) -> list[str]:
    """What each command of a stop prints, run in this folder.

    Raises
    ------
    RuntimeError : one fails.
    """
    texts = []
    for command in stop.commands:
        done = CliRunner().invoke(cli, shlex.split(command)[1:])
        if done.exit_code:
            raise RuntimeError(f"{command}: {done.output}")
        texts.append("\n".join(line.rstrip() for line in done.stdout.splitlines()))
    return texts


def section(stop: Stop, texts: list[str]) -> str:
    """A stop as it stands on the page."""
    lines = [stop.title, "-" * len(stop.title), "", stop.text, "", ".. code-block:: console", ""]
    for command, text in zip(stop.commands, texts, strict=True):
        lines += [f"   $ {command}", *(f"   {line}".rstrip() for line in text.splitlines())]
    return "\n".join([*lines, "", f".. image:: tour-{Path(stop.picture).stem}.webp", ""])


def main() -> None:
    """Run the tour and write the page."""
    sections = []
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        for stop in STOPS:
            sections.append(section(stop, printed(stop)))
            picture = Image.open(stop.picture)
            picture.thumbnail((PICTURE_PX, PICTURE_PX))
            place = DOCS / f"tour-{Path(stop.picture).stem}.webp"
            picture.save(place, quality=80, method=6)
    (DOCS / "tour.rst").write_text("\n".join([HEAD, *sections]), encoding="utf-8")


if __name__ == "__main__":
    main()
