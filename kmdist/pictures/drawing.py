"""Parts that pictures of runs are put together from: text, panels, rows of panels, palettes.

Pixels of label maps appear as they are, and nothing global is changed by drawing. Text is OpenCV's,
whose own font has Latin, Greek, Cyrillic, Arabic, Chinese, Japanese and Korean letters.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from kmdist.images.color import hex_color, to_srgb
from kmdist.pictures.output_files import replacing, written_to

PAPER, INK, FAINT, LINE = (250, 250, 247), (38, 38, 36), (122, 122, 116), (222, 222, 214)
GAP_PX = 16
PAIR_GAP_PX = 2
CAPTION_PX = 17
MAX_LEGEND = 40
"""Colours named one by one; above this number only their squares are drawn."""

_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF", ".webp": "WEBP"}
_WEIGHTS = {False: 400, True: 700}
_GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))
_BLUE = 4.5
"""Hue of label 0 in Oklab, in radians."""


@dataclass(frozen=True)
class Panel:
    """A picture with a line below it, and its own palette if it has one.

    Parameters
    ----------
    palette : (k, 3) uint8 drawn as a bar of shares below the picture; None: no bar.
    counts : (k,) members of each colour.
    """

    picture: Image.Image
    caption: str = ""
    palette: np.ndarray | None = None
    counts: np.ndarray | None = None


def label_colors(k: int) -> np.ndarray:
    """(k, 3) uint8 colours that neighbouring labels tell apart by, the same on every machine.

    Hues a golden angle apart on circles of Oklab (Ottosson, 2020) of three lightnesses.
    """
    number = np.arange(k)
    hue = _BLUE + _GOLDEN_ANGLE * number
    lightness = np.array([0.52, 0.76, 0.87])[number % 3]
    chroma = np.array([0.14, 0.15, 0.10])[number % 3]
    points = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)
    return to_srgb(points, "oklab")


def resized(pixels: np.ndarray, box: tuple[int, int], *, nearest: bool = False) -> Image.Image:
    """A picture as large as fits a box (width, height); small ones are enlarged by whole factors.

    Parameters
    ----------
    pixels : (y, x, 3) or (y, x, 4) uint8; where the latter is transparent a chequer shows.
    nearest : take pixels as they are instead of means, as label maps must be.
    """
    height, width = pixels.shape[:2]
    size = fitted((width, height), box)
    nearest = nearest or size[0] >= width
    how = Image.Resampling.NEAREST if nearest else Image.Resampling.LANCZOS
    picture = Image.fromarray(pixels).resize(size, how, reducing_gap=None if nearest else 3.0)
    return _on_chequer(picture)


def fitted(size: tuple[int, int], box: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a picture in a box; see `resized`."""
    scale = min(box[0] / size[0], box[1] / size[1])
    scale = int(scale) if scale >= 1 else scale
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def placeholder(size: tuple[int, int], text: str) -> Image.Image:
    """A picture that says why there is none."""
    picture = Image.new("RGB", size, LINE)
    lines = _wrapped(text, CAPTION_PX, max(size[0] - 2 * GAP_PX, 40))
    y = size[1] / 2 - 0.7 * CAPTION_PX * (len(lines) - 1)
    for line in lines:
        write(picture, (size[0] / 2, y), line, CAPTION_PX, FAINT, anchor="mm")
        y += 1.4 * CAPTION_PX
    return picture


def write(
    picture: Image.Image,
    at: tuple[float, float],
    text: str,
    size: int,
    color: tuple[int, int, int] = INK,
    *,
    bold: bool = False,
    anchor: str = "la",
) -> None:
    """Draw a line of text into an RGB picture.

    Parameters
    ----------
    at : column and row. size : of the letters in pixels.
    anchor : what lies there: of the line its (l)eft, (m)iddle or (r)ight, and of the letters the
        (a)scenders' top or the (m)iddle.
    """
    width = text_width(text, size, bold=bold)
    left = round(at[0] - {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]] * width)
    baseline = round(at[1] + {"a": 0.93, "m": 0.36}[anchor[1]] * size)
    box = (left, baseline - 2 * size, left + width + 2, baseline + size)
    box = (max(box[0], 0), max(box[1], 0), min(box[2], picture.width), min(box[3], picture.height))
    if box[0] >= box[2] or box[1] >= box[3]:
        return
    part = np.array(picture.crop(box))
    place = (left - box[0], baseline - box[1])
    cv2.putText(part, text, place, color, _font(), size, _WEIGHTS[bold])
    picture.paste(Image.fromarray(part), box[:2])


def text_width(text: str, size: int, *, bold: bool = False) -> int:
    """Pixels that a line of text is wide."""
    return int(cv2.getTextSize((0, 0), text, (0, 0), _font(), size, _WEIGHTS[bold])[2])


def heading(text: str, width: int, *, note: str = "", above: int = 0) -> Image.Image:
    """A line of large text with a fainter one below it, and so many pixels of space above."""
    picture = Image.new("RGB", (width, above + 36 + (26 if note else 0)), PAPER)
    write(picture, (0, above), _elided(text, 26, width, bold=True), 26, bold=True)
    if note:
        write(picture, (0, above + 37), _elided(note, CAPTION_PX, width), CAPTION_PX, FAINT)
    return picture


def palette_bar(
    palette: np.ndarray, counts: np.ndarray | None, width: int, height: int = 44
) -> Image.Image:
    """The palette as one bar, each colour as wide as its share (all equal without counts)."""
    weights = np.ones(len(palette)) if counts is None or not counts.sum() else counts
    edges = np.concatenate([[0], np.cumsum(weights, dtype=np.float64)])
    edges = edges / edges[-1] * width
    # Each column of pixels shows the colour that holds its middle.
    index = np.searchsorted(edges, np.arange(width) + 0.5, side="right") - 1
    row = palette[index.clip(0, len(palette) - 1)]
    return _on_chequer(Image.fromarray(np.repeat(row[None], height, axis=0)))


def legend(
    palette: np.ndarray,
    counts: np.ndarray | None,
    width: int,
    marks: np.ndarray | None = None,
) -> Image.Image:
    """Every colour with its number, code and share; of many colours the squares alone.

    Parameters
    ----------
    marks : (k, 3) uint8 colour of each cluster in a label map, drawn beside its own.
    """
    if len(palette) > MAX_LEGEND:
        return _squares(palette, width)
    cell, row = 230, 34
    columns = max(1, min(width // cell, len(palette)))
    rows = -(-len(palette) // columns)
    picture = Image.new("RGB", (width, rows * row), PAPER)
    draw = ImageDraw.Draw(picture)
    shares = None if counts is None or not counts.sum() else counts / counts.sum()
    for number, color in enumerate(palette):
        # Down the columns, so that ranks are read as a list.
        x, y = number // rows * cell, number % rows * row
        draw.rectangle((x, y, x + 33, y + 25), tuple(color.tolist()), LINE)
        if marks is not None:
            draw.rectangle((x + 36, y, x + 43, y + 25), tuple(marks[number].tolist()))
        share = "" if shares is None else f"{shares[number]:.1%}"
        write(picture, (x + 52, y + 13), f"{number}", 15, bold=True, anchor="lm")
        write(picture, (x + 78, y + 13), hex_color(color), 15, FAINT, anchor="lm")
        write(picture, (x + 208, y + 13), share, 15, anchor="rm")
    return picture


def panel_row(panels: Sequence[Panel]) -> Image.Image:
    """Panels beside each other, their tops and captions aligned."""
    height = max(panel.picture.height for panel in panels)
    return beside([_with_caption(panel, height) for panel in panels], GAP_PX)


def justified(
    sizes: Sequence[tuple[int, int]], width: int, row_height: int, n_across: int = 1
) -> list[tuple[list[int], int]]:
    """Break pictures into rows that fill a width, the last as nearly as can be.

    Parameters
    ----------
    sizes : (width, height) of each picture.
    row_height : wished for; rows are up to a quarter lower, or higher by what fills the last.
    n_across : times that each picture is repeated side by side.

    Returns
    -------
    list of (positions of the pictures in the row, height of the row in pixels).
    """
    aspects = [bounded_aspect(size) * n_across for size in sizes]
    spare = PAIR_GAP_PX * (n_across - 1)
    wished = range(round(0.75 * row_height), round(1.3 * row_height), 4)
    layouts = [_rows(aspects, width, height, spare) for height in wished]

    def unused(position: int) -> tuple[float, int]:
        rows = layouts[position]
        filled = sum(aspects[i] * rows[-1][1] for i in rows[-1][0]) / width
        return round(-min(filled, 0.95), 2), abs(wished[position] - row_height)

    return layouts[min(range(len(layouts)), key=unused)]


def bounded_aspect(size: tuple[int, int]) -> float:
    """Width over height, no further from 1 than a thumbnail can show."""
    return min(max(size[0] / size[1], 0.2), 8.0)


def _rows(
    aspects: Sequence[float], width: int, row_height: int, spare: int
) -> list[tuple[list[int], int]]:
    rows: list[tuple[list[int], int]] = []
    row: list[int] = []
    for position in range(len(aspects)):
        row.append(position)
        free = width - GAP_PX * (len(row) - 1) - spare * len(row)
        height = free / sum(aspects[i] for i in row)
        if height <= row_height or position == len(aspects) - 1:
            rows.append((row, max(int(min(height, row_height)), 24)))
            row = []
    return rows


def beside(pictures: Sequence[Image.Image], gap: int = PAIR_GAP_PX) -> Image.Image:
    """Pictures in a row, their tops aligned."""
    width = sum(one.width for one in pictures) + gap * (len(pictures) - 1)
    joined = Image.new("RGB", (width, max(one.height for one in pictures)), PAPER)
    x = 0
    for one in pictures:
        joined.paste(one, (x, 0))
        x += one.width + gap
    return joined


def stacked(parts: Sequence[Image.Image]) -> Image.Image:
    """Parts below each other, on paper with a margin."""
    margin = 2 * GAP_PX
    width = max(part.width for part in parts) + 2 * margin
    height = sum(part.height for part in parts) + GAP_PX * (len(parts) - 1) + 2 * margin
    sheet = Image.new("RGB", (width, height), PAPER)
    y = margin
    for part in parts:
        sheet.paste(part, (margin, y))
        y += part.height + GAP_PX
    return sheet


def save(picture: Image.Image, place: str | Path) -> None:
    """Write a picture in the format its name asks for, whole or not at all."""
    with written_to(place) as path, replacing(path) as file:
        picture.save(file, _FORMATS.get(path.suffix.lower(), "PNG"), quality=92)


def _with_caption(panel: Panel, height: int) -> Image.Image:
    bar = 10 if panel.palette is not None else 0
    text = CAPTION_PX + 8 if panel.caption else 0
    drawn = Image.new("RGB", (panel.picture.width, height + bar + text), PAPER)
    drawn.paste(panel.picture, (0, 0))
    y = panel.picture.height
    if panel.palette is not None:
        drawn.paste(palette_bar(panel.palette, panel.counts, drawn.width, bar - 2), (0, y + 2))
    caption = _elided(panel.caption, CAPTION_PX - 1, drawn.width)
    write(drawn, (0, y + bar + 4), caption, CAPTION_PX - 1)
    return drawn


def _squares(palette: np.ndarray, width: int) -> Image.Image:
    columns = 32 if len(palette) <= 512 else 64
    side = max(width // columns, 4)
    rows = -(-len(palette) // columns)
    picture = Image.new("RGB", (columns * side, rows * side), PAPER)
    draw = ImageDraw.Draw(picture)
    for number, color in enumerate(palette):
        x, y = number % columns * side, number // columns * side
        draw.rectangle((x, y, x + side - 2, y + side - 2), tuple(color.tolist()))
    return picture


def _on_chequer(picture: Image.Image) -> Image.Image:
    """A picture that has no alpha: what was transparent shows a chequer."""
    if picture.mode != "RGBA":
        return picture
    below = _chequer(picture.size)
    below.paste(picture, mask=picture.getchannel("A"))
    return below


def _chequer(size: tuple[int, int]) -> Image.Image:
    y, x = np.ogrid[: size[1], : size[0]]
    light = ((x // 8 + y // 8) % 2).astype(np.uint8)
    return Image.fromarray(np.repeat((208 + 28 * light)[..., None], 3, axis=2))


def _elided(text: str, size: int, width: int, *, bold: bool = False) -> str:
    """Text that fits, with an ellipsis in its middle if it must."""
    text = "".join(char if char.isprintable() else "\ufffd" for char in text)
    short, keep = text, len(text)
    while keep > 2 and text_width(short, size, bold=bold) > width:
        keep -= 1
        short = f"{text[: keep // 2]}…{text[-(keep // 2) :]}"
    return short


def _wrapped(text: str, size: int, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(_elided(word, size, width))
    return lines


@cache
def _font() -> cv2.FontFace:
    """OpenCV's sans serif, which takes letters it lacks from its Unicode font."""
    return cv2.FontFace("sans")
