"""Ten everyday tasks beside pngquant, ImageMagick, Pillow and libimagequant.

Each is one line of a shell, run as a process of its own: keystrokes are its characters, seconds the
user and system time of the process and its children. Writes ``docs/side-by-side.rst``.
"""

import argparse
import os
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, features
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from tests.support.folders import DATA

PAGE = Path(__file__).parent.parent / "docs/side-by-side.rst"
PILLOW = "from PIL import Image as I;"
IMAGEQUANT = "import imagequant as q;from PIL import Image as I;"
TOOLS = ("kmdist", "pngquant", "ImageMagick", "Pillow", "libimagequant")


@dataclass(frozen=True)
class Task:
    """A task, and how it is done with each tool that can do it.

    Parameters
    ----------
    lines : by tool; ``python`` runs with Pillow, imagequant and kmdist.
    made : the pictures that are made, by the originals' stems; ``{}`` stands for one.
    """

    name: str
    lines: dict[str, str]
    made: str = "o.png"
    before: str = ""


def _python(code: str) -> str:
    return f'python -c "{code}"'


TASKS = (
    Task(
        "a photograph in 256 colours",
        {
            "kmdist": "kmdist quantize a.png -o o.png -k 256",
            "pngquant": "pngquant 256 --nofs a.png -o o.png",
            "ImageMagick": "convert a.png +dither -colors 256 o.png",
            "Pillow": _python(f"{PILLOW}I.open('a.png').quantize(256).save('o.png')"),
            "libimagequant": _python(
                f"{IMAGEQUANT}q.quantize_pil_image(I.open('a.png').convert('RGBA'),0).save('o.png')"
            ),
        },
    ),
    Task(
        "a photograph in 16 colours",
        {
            "kmdist": "kmdist quantize a.png -o o.png -k 16",
            "pngquant": "pngquant 16 --nofs a.png -o o.png",
            "ImageMagick": "convert a.png +dither -colors 16 o.png",
            "Pillow": _python(f"{PILLOW}I.open('a.png').quantize(16).save('o.png')"),
            "libimagequant": _python(
                f"{IMAGEQUANT}q.quantize_pil_image(I.open('a.png').convert('RGBA'),0,16)"
                ".save('o.png')"
            ),
        },
    ),
    Task(
        "16 colours, dithered",
        {
            "kmdist": "kmdist quantize a.png -o r -k 16; kmdist export r d --dither",
            "pngquant": "pngquant 16 a.png -o o.png",
            "ImageMagick": "convert a.png -colors 16 o.png",
            "Pillow": _python(
                f"{PILLOW}a=I.open('a.png');a.quantize(palette=a.quantize(16)).save('o.png')"
            ),
            "libimagequant": _python(
                f"{IMAGEQUANT}q.quantize_pil_image(I.open('a.png').convert('RGBA'),1,16)"
                ".save('o.png')"
            ),
        },
        made="d/{}.png|o.png",
    ),
    Task(
        "the fewest colours for 30 dB",
        {"kmdist": "kmdist quantize a.png -o o.png --psnr 30"},
    ),
    Task(
        "as small as it looks good",
        {
            "kmdist": "kmdist quantize a.png -o o.png -k auto",
            "pngquant": "pngquant --quality 60-80 a.png -o o.png",
        },
    ),
    Task(
        "the colours of another picture",
        {
            "kmdist": "kmdist quantize a.png -o o.png -k 16 --lock p.png",
            "ImageMagick": "convert a.png +dither -remap p.png o.png",
            "pngquant": "pngquant --map p.png --nofs a.png -o o.png",
            "Pillow": _python(
                f"{PILLOW}I.open('a.png').quantize(palette=I.open('p.png'),dither=0).save('o.png')"
            ),
        },
        before="pngquant 16 --nofs b.png -o p.png",
    ),
    Task(
        "one palette for a folder",
        {
            "kmdist": "kmdist quantize f -o r -k 64 --export d",
            "ImageMagick": "convert f/*.png -append +dither -colors 64 p.png; "
            "mogrify -path d +dither -remap p.png f/*.png",
        },
        made="d/{}.png",
        before="mkdir d",
    ),
    Task(
        "a folder, a palette each",
        {
            "kmdist": "kmdist quantize f -o r -k 64 --per-image --export d",
            "pngquant": "pngquant 64 --nofs --ext -o.png f/*.png",
            "ImageMagick": "mogrify -path d +dither -colors 64 f/*.png",
        },
        made="d/{}.png|f/{}-o.png",
        before="mkdir -p d",
    ),
    Task(
        "with transparency",
        {
            "kmdist": "kmdist quantize t.png -o o.png -k 32 --alpha",
            "pngquant": "pngquant 32 --nofs t.png -o o.png",
            "ImageMagick": "convert t.png +dither -colors 32 o.png",
            "Pillow": _python(f"{PILLOW}I.open('t.png').quantize(32,method=2).save('o.png')"),
            "libimagequant": _python(
                f"{IMAGEQUANT}q.quantize_pil_image(I.open('t.png'),0,32).save('o.png')"
            ),
        },
    ),
    Task(
        "the palette, for GIMP",
        {"kmdist": "kmdist quantize a.png -o r -k 16; kmdist export r d"},
        made="d/{}.png",
    ),
)


def prepare(folder: Path, pictures: Sequence[Path]) -> None:
    """The files that the tasks name."""
    (folder / "f").mkdir()
    for name, path in zip("abcdef", pictures, strict=False):
        Image.open(path).convert("RGB").save(folder / f"f/{name}.png")
    for name in "ab":
        shutil.copy(folder / f"f/{name}.png", folder)
    rgba = Image.open(folder / "a.png").convert("RGBA")
    y, x = np.indices(rgba.size[::-1])
    distance = np.hypot(y - rgba.height / 2, x - rgba.width / 2)
    alpha = (255 * (rgba.height / 2 - distance) / 60).clip(0, 255).astype(np.uint8)
    rgba.putalpha(Image.fromarray(alpha))
    rgba.save(folder / "t.png")


def measured(task: Task, tool: str, pictures: Sequence[Path], path: str) -> list[str]:
    """Cells of the table: keystrokes, seconds, bytes, PSNR, SSIM."""
    line = task.lines[tool]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, pictures)
        environment = os.environ | {"PATH": path}

        def shell(command: str) -> float:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(
                command, shell=True, cwd=folder, env=environment, check=True, capture_output=True
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

        if task.before:
            shell(task.before)
        seconds = shell(line)
        sizes, psnrs, ssims = [], [], []
        for number, original in enumerate(_originals(task, line, folder)):
            made = _made(task, folder, original.stem, number)
            one, other = (_shown(picture) for picture in (original, made))
            sizes.append(made.stat().st_size)
            psnrs.append(peak_signal_noise_ratio(one, other))
            ssims.append(structural_similarity(one, other, channel_axis=2))
    figures = [str(len(line)), f"{seconds:.2f}", f"{sum(sizes):,}"]
    return [*figures, f"{np.mean(psnrs):.2f}", f"{np.mean(ssims):.4f}"]


def _originals(task: Task, line: str, folder: Path) -> list[Path]:
    if " f " in line or "f/*" in line:
        return sorted((folder / "f").glob("?.png"))
    return [folder / ("t.png" if "t.png" in line else "a.png")]


def _made(task: Task, folder: Path, stem: str, number: int) -> Path:
    names = [*task.made.format(*[stem] * task.made.count("{}")).split("|"), f"d/{number}.png"]
    return next(folder / name for name in names if (folder / name).exists())


def _shown(path: Path) -> np.ndarray:
    """As it looks over white."""
    picture = Image.open(path).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return np.asarray(Image.alpha_composite(white, picture).convert("RGB"))


def versions(path: str) -> str:
    """Of what is compared, with what is not there."""
    from importlib.metadata import version

    found = [f"kmdist {version('kmdist')}", f"Pillow {version('Pillow')}"]
    for tool, command in (("pngquant", "pngquant --version"), ("ImageMagick", "convert --version")):
        where = shutil.which(command.split()[0], path=path)
        said = ""
        if where:
            said = subprocess.run(
                shlex.split(command),
                capture_output=True,
                text=True,
                env=os.environ | {"PATH": path},
                check=False,
            ).stdout
        words = said.replace("Version: ImageMagick", "").split()
        found.append(f"{tool} {words[0]}" if words else f"no {tool}")
    found.append(
        f"libimagequant {version('libimagequant')} (PyPI imagequant {version('imagequant')})"
    )
    return ", ".join(found)


HEAD = """\
Side by side
============

Ten everyday tasks, with the tools that people have for them. Written by ``python -m benchmarks
everyday``: {versions}.
{pictures}

Keystrokes are the characters of the line; seconds are processor time of a process from its start to
its end; bytes are of the PNGs; PSNR (dB) and SSIM are means over the pictures, over white.

Where kmdist is worse
---------------------

* **Seconds.** One small picture is no work: a process of kmdist starts an interpreter, NumPy and
  numba, and takes {slower} the time of the fastest for 256 colours. It is for collections.
* **Dithering** needs two commands.
* **Transparency.** pngquant and libimagequant come nearer, by .3 dB, in more bytes.
* **Quality by eye.** ``pngquant --quality`` aims at a perceptual score; ``--psnr`` and ``-k auto``
  at squared errors.
* **Nothing but pictures.** All others write one file and leave no run behind; so does
  ``kmdist quantize a.png -o o.png``, and nothing else of kmdist.

A tool that is not in a table has no way to do the task in one line.

"""


def page(pictures: Sequence[Path], path: str) -> str:
    """The page, measured."""
    blocks, fastest, own = [], np.inf, np.nan
    for task in TASKS:
        rows = [".. list-table::", "   :header-rows: 1", ""]
        head = ["with", "keystrokes", "seconds", "bytes", "PSNR", "SSIM"]
        table, commands = [head], []
        for tool in [tool for tool in TOOLS if tool in task.lines]:
            try:
                cells = measured(task, tool, pictures, path)
            except subprocess.CalledProcessError as error:
                cells = [str(len(task.lines[tool])), f"fails ({error.returncode})", "", "", ""]
            if task is TASKS[0] and "fails" not in cells[1]:
                fastest = min(fastest, float(cells[1]))
                own = float(cells[1]) if tool == "kmdist" else own
            table.append([tool, *cells])
            commands.append(f"   {task.lines[tool]}")
            print(task.name, table[-1], flush=True)
        for cells in table:
            rows += [
                f"   {'* -' if i == 0 else '  -'} {cell}".rstrip() for i, cell in enumerate(cells)
            ]
        title = f"{task.name[0].upper()}{task.name[1:]}"
        code = [".. code-block:: bash", "", *commands]
        blocks.append("\n".join([title, "-" * len(title), "", *rows, "", *code, ""]))
    named = ", ".join(picture.stem for picture in pictures)
    told = f"Pictures: {named}, a is {pictures[0].stem}."
    head = HEAD.format(versions=versions(path), pictures=told, slower=f"{own / fastest:.0f} times")
    return head + "\n".join(blocks)


def main(argv: list[str]) -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks everyday", description=__doc__)
    parser.add_argument("--path", default="", help="folders with pngquant and convert: A:B")
    arguments = parser.parse_args(argv)
    path = ":".join([arguments.path, str(Path(sys.executable).parent), os.environ["PATH"]])
    pictures = sorted((DATA / "kodak").glob("*.png"))[:6]
    PAGE.write_text(page(pictures, path.lstrip(":")), encoding="utf-8")
    print(f"written to {PAGE}; Pillow's libimagequant: {features.check('libimagequant')}")
