"""Curves as SVG: places computed here, drawn by the template with the page's own colours."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kmdist.job.exhibits import Curves

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 12, 40


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

    inside = [tick for tick in found if low <= tick <= high]
    texts: list[str] = []
    for digits in range(4, 16):
        texts = [f"{tick:.{digits}g}".replace("e+0", "e").replace("e+", "e") for tick in inside]
        if len(set(texts)) == len(texts):
            break
    return [(place(tick), text) for tick, text in zip(inside, texts, strict=True)], place
