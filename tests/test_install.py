"""Installations over each other, from one checkout, in the orders that people have them."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.folders import ROOT

pytestmark = pytest.mark.slow

COMPILE = """
import numpy as np
from kmdist.engine.kernels.frame import moments
print(moments(np.ones((4, 3), np.float32), None).mean.tolist())
"""


class Machine:
    """A checkout, and a virtual environment that has what kmdist needs and not kmdist."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "checkout"
        self.checkout.mkdir()
        for name in ("pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, self.checkout)
        caches = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "kmdist", self.checkout / "kmdist", ignore=caches)
        self.outside = folder / "outside"
        self.outside.mkdir()
        venv = folder / "venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
        self.python = venv / "bin/python"
        (self.site,) = venv.glob("lib/python*/site-packages")
        (self.site / "needed.pth").write_text(sysconfig.get_path("purelib"))
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(folder / "home")}
        (folder / "home").mkdir()

    def _run(self, words: list[str | Path], cwd: Path) -> str:
        done = subprocess.run(
            words, cwd=cwd, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def pip(self, *arguments: str) -> None:
        pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", self.python, "-q"]
        self._run([*pip, *arguments], self.checkout)

    def install(self, *what: str) -> None:
        self.pip("install", "--no-deps", "--no-build-isolation", "--no-index", *what)

    def version(self) -> str:
        """What the command says, outside the checkout."""
        return self._run([self.python.parent / "kmdist", "--version"], self.outside)

    def package(self) -> Path:
        """Where kmdist is imported from, outside the checkout, once a kernel has been compiled."""
        said = self._run([self.python, "-c", COMPILE], self.outside)
        assert said == "[1.0, 1.0, 1.0]"
        found = "import kmdist; print(kmdist.__path__[0])"
        return Path(self._run([self.python, "-c", found], self.outside))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_plain_editable_and_plain_again(machine: Machine) -> None:
    """The README's commands in its own order, and back."""
    installed, checkout = machine.site / "kmdist", machine.checkout / "kmdist"
    (machine.checkout / "kmdist-demo").mkdir()
    (machine.checkout / "kmdist-demo/photos.png").write_text("what the demo leaves")
    for what, package in (((".",), installed), (("-e", "."), checkout), ((".",), installed)):
        machine.install(*what)
        assert machine.package() == package
        assert machine.version().startswith("kmdist")
    names = {path.name.partition("-")[0] for path in machine.site.iterdir()}
    assert names - {"__pycache__"} == {"kmdist", "needed.pth"}
    machine.pip("uninstall", "-y", "kmdist")
    assert not installed.exists()
    assert not list(machine.checkout.rglob("*.nbi"))


def test_what_earlier_versions_left_hides_nothing(machine: Machine) -> None:
    """numba kept kernels beside the sources once, and pip leaves what it did not install."""
    left = machine.site / "kmdist/engine/kernels/__pycache__"
    left.mkdir(parents=True)
    (left / "moments._moments-31.py311.nbi").write_bytes(b"of an earlier version")
    machine.install("-e", ".")
    assert machine.package() == machine.checkout / "kmdist"
    machine.install(".")
    assert machine.package() == machine.site / "kmdist"


def test_an_upgrade_leaves_nothing_of_what_was_before(machine: Machine) -> None:
    extra = machine.checkout / "kmdist/engine/gone.py"
    extra.write_text("present = True\n")
    machine.install(".")
    assert (machine.site / "kmdist/engine/gone.py").exists()
    machine.package()
    extra.unlink()
    init = machine.checkout / "kmdist/__init__.py"
    init.write_text(init.read_text().replace('__version__ = "', '__version__ = "9.'))
    project = machine.checkout / "pyproject.toml"
    project.write_text(project.read_text().replace('\nversion = "', '\nversion = "9.'))
    machine.install(".")
    assert not (machine.site / "kmdist/engine/gone.py").exists()
    assert machine.package() == machine.site / "kmdist"
    assert " 9." in machine.version()
