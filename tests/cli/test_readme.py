"""The README from top to bottom, and its sections in reverse order, as somebody types it.

In a checkout, an environment that has what kmdist needs, and a HOME that is fresh but for compiled
kernels and fonts; the commands of `Develop` are those of `.ci/run`.
"""

import gzip
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from itertools import groupby
from pathlib import Path

import numpy as np
import platformdirs
import pytest
import tifffile
import zarr
from click.testing import CliRunner
from PIL import Image
from sklearn.datasets import load_digits

from kmdist.cli import cli
from tests.support.folders import ROOT

pytestmark = pytest.mark.slow

SECTION = re.compile(r"^## ([^\n]+)$|^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PYTHON3 = """#!{python}
import subprocess, sys
from pathlib import Path
if sys.argv[1:3] != ["-m", "venv"]:
    raise SystemExit(subprocess.call([sys.executable, *sys.argv[1:]]))
subprocess.run([sys.executable, "-m", "venv", "--without-pip", *sys.argv[3:]], check=True)
bin = Path(sys.argv[3], "bin")
(site,) = Path(sys.argv[3]).glob("lib/python*/site-packages")
(site / "needed.pth").write_text({purelib!r})
install = "{python} -m pip --python " + str(bin.resolve() / "python")
offline = "--no-deps --no-build-isolation --no-index"
(bin / "pip").write_text(f'#!/bin/sh\\nexec {{install}} "$@" {{offline}}\\n')
(bin / "pip").chmod(0o755)
"""
"""The python3 of a machine whose index has nothing: environments get what is needed from here."""
UNTIL_INTERRUPTED = """\
{command} > watch.log 2>&1 & watching=$!
until [ -s watch.log ]; do sleep .1; kill -0 $watching || {{ cat watch.log; exit 1; }}; done
kill -TERM $watching; wait $watching || true  # bash lets background jobs ignore SIGINT
"""


def sections() -> dict[str, list[str]]:
    """Blocks of code by section, as bash runs them."""
    found: dict[str, list[str]] = {}
    for title, language, code in SECTION.findall((ROOT / "README.md").read_text("utf-8")):
        if title:
            blocks = found.setdefault(title, [])
        elif language == "python":
            blocks.append(f"python - <<'END'\n{code}END\n")
        else:
            blocks.append(re.sub(r"^(.*) --watch.*$", _watched, code, flags=re.MULTILINE))
    return {title: blocks for title, blocks in found.items() if blocks}


def _watched(line: re.Match[str]) -> str:
    return UNTIL_INTERRUPTED.format(command=line[0].partition("#")[0])


def _photograph(seed: int) -> np.ndarray:
    y, x = np.indices((130, 260))
    wave = np.stack([np.sin((seed + c + 2) * x / 40 + y / 25) for c in range(3)], axis=2)
    return (127 + 90 * wave + np.random.default_rng(seed).normal(0, 8, wave.shape)).clip(0, 255)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def _idx(path: Path, values: np.ndarray) -> None:
    header = [0, 0, 8, values.ndim, *b"".join(n.to_bytes(4, "big") for n in values.shape)]
    with gzip.open(path, "wb") as file:
        file.write(bytes(header) + values.astype(np.uint8).tobytes())


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout, with the files beside it that the README speaks of."""
    folder = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__", "*.zarr")
    for name in ("kmdist", "jobs"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE", "cluster.yaml"):
        shutil.copy(ROOT / name, folder)
    job = folder / "jobs/nightly.yaml"
    text = re.sub(r"^input: \S+", "input: photos/", job.read_text("utf-8"), flags=re.MULTILINE)
    job.write_text(re.sub(r"^grace: \S+", "grace: 0s", text, flags=re.MULTILINE), "utf-8")

    for seed, name in enumerate(("photo.jpg", "IMG_0042.jpg", "2024/IMG_0043.jpg")):
        _save(folder / f"photos/{name}", _photograph(seed))
    (folder / "photos/2024/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    shutil.copy(folder / "photos/photo.jpg", folder)
    _save(folder / "new.jpg", _photograph(7))
    _save(folder / "new-photos/new.jpg", _photograph(8))
    _save(folder / "masks/photo.png", np.indices((130, 260))[1] < 130)
    (folder / "brand.gpl").write_text("GIMP Palette\n#\n255 0 128 pink\n")

    tifffile.imwrite(folder / "slide.tif", _photograph(9).astype(np.uint8), tile=(64, 64))
    _scenes(folder)
    _digits(folder)
    return folder


def _scenes(folder: Path) -> None:
    import rasterio

    bands = np.moveaxis(_photograph(10), 2, 0).astype(np.uint16)
    place = {"crs": "EPSG:32633", "transform": rasterio.transform.from_origin(5e5, 5e6, 30, 30)}
    size = {"height": bands.shape[1], "width": bands.shape[2], "dtype": "uint16"}
    with rasterio.open(folder / "scene.tif", "w", "GTiff", count=3, **size, **place) as file:
        file.write(bands)
    for number, band in enumerate(bands):
        (folder / "scenes/first").mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / f"scenes/first/B{number}.tif", band)
    group = zarr.create_group(folder / "cells.ome.zarr")
    group.create_array("0", data=bands)
    axes = [{"name": "c", "type": "channel"}, *({"name": n, "type": "space"} for n in "yx")]
    scale = {"type": "scale", "scale": [1.0, 1.0, 1.0]}
    levels = [{"path": "0", "coordinateTransformations": [scale]}]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"axes": axes, "datasets": levels}],
        "omero": {"channels": [{"label": name} for name in ("DAPI", "Cy3", "Cy5")]},
    }


def _digits(folder: Path) -> None:
    images, classes = load_digits(return_X_y=True)
    images = np.kron((images * 255 / 16).reshape(-1, 8, 8), np.ones((2, 2)))
    images = np.pad(images, ((0, 0), (2, 2), (2, 2)))  # 20 × 20
    _idx(folder / "train-images-idx3-ubyte.gz", images[:600])
    _idx(folder / "train-labels-idx1-ubyte.gz", classes[:600])
    _idx(folder / "t10k-images-idx3-ubyte.gz", images[600:700])
    _idx(folder / "t10k-labels-idx1-ubyte.gz", classes[600:700])
    rows = [np.hstack(images[classes == digit][:30]) for digit in range(10)]
    _save(folder / "digits.png", np.vstack(rows))
    _save(folder / "new.png", images[800])
    for number in range(120):
        _save(folder / f"scans/{classes[number]}/{number}.png", images[number])


def test_every_block_is_found() -> None:
    titles = list(sections())
    assert titles[:2] == ["Try it", "Quantize your photographs"]
    assert titles[-1] == "Develop"
    code = (ROOT / "README.md").read_text("utf-8").count("\n```bash\n")
    assert sum(len(blocks) for blocks in sections().values()) == code + 1


def _is_plain(line: str) -> bool:
    """Whether a line is a command of kmdist that needs no shell."""
    return line.startswith("kmdist ") and not {">", "&"} & set(shlex.split(line, comments=True))


def test_the_readme_runs(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the top, as typed; then, once it is installed, from the end: sections need no others.

    Of the latter plain commands run in this process, which has imported what each would import.
    """
    by_title = sections()
    (install,) = by_title.pop("Try it")
    by_title.pop("Develop")
    tools, home, second = (checkout.parent / name for name in ("tools", "home", "again"))
    shutil.copytree(checkout, second)
    (second / ".venv").symlink_to(checkout / ".venv")
    home.mkdir()
    tools.mkdir()
    python3 = PYTHON3.format(python=sys.executable, purelib=sysconfig.get_path("purelib"))
    (tools / "python3").write_text(python3)
    (tools / "python3").chmod(0o755)
    environment = {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "XDG_CACHE_HOME": str(platformdirs.user_cache_path()),
    }

    def typed(folder: Path, code: str) -> None:
        done = subprocess.run(
            ["bash", "-c", f"set -euo pipefail\n{code}"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:]
        assert "Traceback" not in done.stdout

    activate = "\n. .venv/bin/activate\n"
    told = [f"echo '## {title}'\n" + "\n".join(blocks) for title, blocks in by_title.items()]
    typed(checkout, install + activate + "\n".join(told))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(second)
    for block in (block for blocks in list(by_title.values())[::-1] for block in blocks):
        written = filter(str.strip, block.splitlines(keepends=True))
        for plain, lines in groupby(written, _is_plain):
            if not plain:
                typed(second, activate + "".join(lines))
                continue
            for line in lines:
                done = CliRunner().invoke(cli, shlex.split(line, comments=True)[1:])
                assert done.exit_code == 0, line + done.output[-6000:]
                assert "Traceback" not in done.output
    assert all(path.name.startswith(".") for path in home.iterdir())  # caches and settings
