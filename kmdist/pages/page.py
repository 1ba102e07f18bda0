"""Pages from templates: every text escaped, nothing loaded, scripts and styles by their hashes.

Curves are SVG: their places are computed here, and drawn with the page's own colours.
"""

import base64
import hashlib
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from kmdist import __version__
from kmdist.images.color import hex_color
from kmdist.job.exhibits import Curves

_FOLDER = files("kmdist.pages")


def render(
    template: str, scripts: tuple[str, ...] = (), *, connect: str = "'none'", **context: Any
) -> str:
    """A page.

    Parameters
    ----------
    template : in ``templates/``. scripts : in ``static/``, put into the page in this order.
    connect : where its scripts may fetch from. context : what the template shows.
    """
    code = {name: static_text(name) for name in scripts}
    style = static_text("report.css")
    page = _environment().get_template(template)
    policy = content_policy(code.values(), style, connect)
    return page.render(code=code, style=style, policy=policy, version=__version__, **context)


def fragment(template: str, **context: Any) -> str:
    """Part of somebody else's page."""
    return _environment().get_template(template).render(**context)


def content_policy(scripts: Iterable[str], style: str, connect: str) -> str:
    """A content security policy (W3C, level 3) of a page that runs these scripts and no others."""
    allowed = " ".join(_hash(text) for text in scripts) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; "
        f"img-src 'self' data: blob:; connect-src {connect}; base-uri 'none'; form-action 'none'"
    )


def static_text(name: str) -> str:
    """A file of ``static/``."""
    return (_FOLDER / "static" / name).read_text("utf-8")


def data_url(kind: str, content: bytes) -> str:
    """Bytes within a page."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def picture_url(pixels: np.ndarray) -> str:
    """(y, x), (y, x, 3) or (y, x, 4) uint8 as a PNG within a page."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return data_url("image/png", file.getvalue())


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("kmdist.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    helpers: Mapping[str, Any] = {
        "line_chart": line_chart,
        "picture_url": picture_url,
        "hex_color": hex_color,
    }
    environment.globals.update(helpers)
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}
    return environment


WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 96, 16, 12, 40


@dataclass(frozen=True)
class Line:
    """One curve: its name, its SVG path, its points, and how it is told apart."""

    name: str
    path: str
    points: list[tuple[float, float, str]]
    style: int


@dataclass(frozen=True)
class Chart:
    """Places of everything in a box of `WIDTH` × `HEIGHT`; ticks are (place, text)."""

    lines: list[Line]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    mark: float | None
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def line_chart(curves: Curves) -> Chart:
    """Lay curves out; values that are not finite are left out."""
    x = np.asarray(curves.x, np.float64)
    values = {name: np.asarray(line, np.float64) for name, line in curves.lines.items()}
    known = np.concatenate([line[np.isfinite(line)] for line in values.values()])
    x_ticks, to_x = _axis(x, LEFT, WIDTH - RIGHT, whole=True)
    known = np.append(known, 0.0) if curves.from_zero else known
    y_ticks, to_y = _axis(known, HEIGHT - BOTTOM, TOP)
    lines = []
    for style, (name, line) in enumerate(values.items()):
        pairs = [(a, b) for a, b in zip(x, line, strict=True) if np.isfinite(b)]
        points = [(to_x(a), to_y(b), f"{curves.x_label} {a:g}: {b:.6g}") for a, b in pairs]
        path = "M" + " L".join(f"{px:.1f},{py:.1f}" for px, py, _ in points)
        lines.append(Line(name, path, points, style % 6))
    mark = None if curves.mark is None else to_x(curves.mark)
    return Chart(lines, x_ticks, y_ticks, mark)


def _axis(
    values: np.ndarray, start: float, stop: float, *, whole: bool = False
) -> tuple[list[tuple[float, str]], Callable[[float], float]]:
    """Ticks of an axis, and what places a value on it."""
    from matplotlib.ticker import MaxNLocator

    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    found = MaxNLocator(5, integer=whole).tick_values(low, high)
    if not whole:
        low, high = float(found[0]), float(found[-1])

    def place(value: float) -> float:
        return round(start + (value - low) / (high - low) * (stop - start), 1)

    inside = [tick for tick in found if low <= tick <= high and (not whole or tick % 1 == 0)]
    texts: list[str] = []
    for digits in range(4, 16):
        texts = [f"{tick:.{digits}g}".replace("e+0", "e").replace("e+", "e") for tick in inside]
        if len(set(texts)) == len(texts):
            break
    return [(place(tick), text) for tick, text in zip(inside, texts, strict=True)], place
