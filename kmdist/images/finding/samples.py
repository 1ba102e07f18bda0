"""Bundled pictures, for trying things out without a network."""

from importlib.util import find_spec
from pathlib import Path

from kmdist.errors import UsageError

PREFIX = "sample:"

_PHOTOS: dict[str, tuple[str, ...]] = {
    "skimage": ("data/astronaut.png", "data/chelsea.png", "data/coffee.png", "data/rocket.jpg"),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}
_TEXTURES: dict[str, tuple[str, ...]] = {
    "skimage": ("data/brick.png", "data/grass.png", "data/gravel.png")
}
SAMPLES: dict[str, dict[str, tuple[str, ...]]] = {"photos": _PHOTOS, "textures": _TEXTURES}


def is_sample(text: str) -> bool:
    """Whether an input names bundled pictures."""
    return text.startswith(PREFIX)


def sample_files(text: str) -> list[Path]:
    """Files of ``sample:photos`` (scikit-image's and scikit-learn's) or ``sample:textures``.

    Raises
    ------
    UsageError : no such sample, or its package is not installed.
    """
    name = text.removeprefix(PREFIX)
    if name not in SAMPLES:
        known = ", ".join(PREFIX + key for key in SAMPLES)
        raise UsageError(f"{text}: no such sample; there are {known}")
    files = []
    for package, paths in SAMPLES[name].items():
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise UsageError(f"{text}: needs {package}, which is not installed")
        folder = Path(spec.origin).parent
        files += [folder / path for path in paths if (folder / path).is_file()]
    if not files:
        raise UsageError(f"{text}: the installed packages carry none of its pictures")
    return files
