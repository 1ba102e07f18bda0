"""Draw the packages of kmdist and which imports which: ``python -m docs.draw_architecture``.

An arrow that a longer way implies is left out. A test fails when the picture shows other packages
or arrows than the code has.
"""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import networkx as nx
from matplotlib.patches import FancyArrowPatch

from tests.support.imports import MAY_IMPORT, arrows

PICTURE = Path(__file__).with_name("architecture.svg")
_BOX, _STEP = (1.8, 0.5), (2.1, 1.05)


def graph() -> "nx.DiGraph[str]":
    """Packages, and of their imports those that no longer way implies."""
    imports = nx.DiGraph(sorted(arrows()))
    return nx.DiGraph(sorted(nx.transitive_reduction(imports).edges))


def drawn(picture: Path) -> set[tuple[str, str]]:
    """The arrows that a picture shows."""
    return set(re.findall(r'<g id="arrow ([\w/]+) ([\w/]+)">', picture.read_text()))


def places() -> dict[str, tuple[float, float]]:
    """The middle of each package's box: above all that it may import, below those that may it."""
    allowed = nx.DiGraph((one, other) for one in MAY_IMPORT for other in MAY_IMPORT[one])
    found: dict[str, tuple[float, float]] = {}
    for number, floor in enumerate(nx.topological_generations(allowed)):
        for i, package in enumerate(sorted(floor)):
            found[package] = ((i - (len(floor) - 1) / 2) * _STEP[0], -number * _STEP[1])
    return found


def draw(picture: Path) -> None:
    """Write the picture as SVG, the same bytes for the same code."""
    imports = graph()
    middle = places()
    width, height = _BOX
    xs, ys = zip(*middle.values(), strict=True)
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "kmdist", "font.size": 11}):
        figure, axes = plt.subplots(figsize=(max(xs) - min(xs) + 2.4, max(ys) - min(ys) + 1.0))
        for one, other in imports.edges:
            (x0, y0), (x1, y1) = middle[one], middle[other]
            axes.add_patch(
                FancyArrowPatch(
                    (x0, y0 - height / 2),
                    (x1, y1 + height / 2),
                    arrowstyle="-|>",
                    mutation_scale=12,
                    color="#7a8794",
                    shrinkA=0,
                    shrinkB=0,
                    gid=f"arrow {one} {other}",
                )
            )
        for package, (x, y) in middle.items():
            corner = (x - width / 2, y - height / 2)
            colors = {"facecolor": "#eef3f8", "edgecolor": "#35506b"}
            axes.add_patch(plt.Rectangle(corner, width, height, zorder=2, **colors))
            axes.text(x, y, package, ha="center", va="center", color="#1c2b39", zorder=3)
        axes.set_aspect("equal")
        axes.axis("off")
        axes.set_xlim(min(xs) - 1.1, max(xs) + 1.1)
        axes.set_ylim(min(ys) - 0.4, max(ys) + 0.4)
        figure.savefig(picture, bbox_inches="tight", metadata={"Date": None, "Creator": None})
        plt.close(figure)


if __name__ == "__main__":
    draw(PICTURE)
