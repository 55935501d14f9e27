"""Boxes, arrows and text on an SVG card: what ``draw.py`` draws with.

A colour always means the same thing: blue learned convolutions, orange the nonnegative deconvolution,
green upsampling, violet sampling positions, grey what has no parameters.
"""

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

Point = tuple[float, float]

FONT = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
INK, SOFT = "#1f2933", "#5b6773"
COLOURS = {  # kind: (fill, stroke)
    "conv": ("#e1ecff", "#3767c8"),
    "ndc": ("#ffe9d2", "#cf6412"),
    "up": ("#def3e3", "#2c8a4a"),
    "sample": ("#f0e6fc", "#7544bd"),
    "plain": ("#f1f3f5", "#848f9b"),
}


class Box(NamedTuple):
    """A drawn box: its centre and its size; the four properties are where arrows meet it."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> Point:
        """The middle of the left edge."""
        return self.x - self.width / 2, self.y

    @property
    def right(self) -> Point:
        """The middle of the right edge."""
        return self.x + self.width / 2, self.y

    @property
    def top(self) -> Point:
        """The middle of the upper edge."""
        return self.x, self.y - self.height / 2

    @property
    def bottom(self) -> Point:
        """The middle of the lower edge."""
        return self.x, self.y + self.height / 2


class Drawing:
    """An SVG on a white card, so that it reads the same on a light and on a dark page."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img" font-family="{FONT}">\n<title>{escape(title)}</title>'
        )
        self._parts: list[str] = []
        self.card(width / 2, height / 2, width - 2, height - 2, "#ffffff", "#d5dbe1", radius=14)

    def card(self, x: float, y: float, width: float, height: float, fill: str, stroke: str, radius: float = 7) -> Box:
        """A rounded rectangle around a centre."""
        self._parts.append(
            f'<rect x="{x - width / 2:g}" y="{y - height / 2:g}" width="{width:g}" height="{height:g}" '
            f'rx="{radius:g}" fill="{fill}" stroke="{stroke}" stroke-width="1.5"/>'
        )
        return Box(x, y, width, height)

    def box(self, kind: str, x: float, y: float, width: float, height: float, *lines: str) -> Box:
        """A coloured box; its first line is the operation, the others say with what."""
        box = self.card(x, y, width, height, *COLOURS[kind])
        for index, line in enumerate(lines):
            baseline = y + 5 + 18 * (index - (len(lines) - 1) / 2)
            self.text(x, baseline, line, colour=SOFT if index else INK, size=13 if index else 14)
        return box

    def text(
        self,
        x: float,
        y: float,
        line: str,
        *,
        size: float = 14,
        anchor: str = "middle",
        colour: str = INK,
        bold: bool = False,
    ) -> None:
        """One line of text on a baseline; ``anchor`` is start, middle or end."""
        weight = ' font-weight="bold"' if bold else ""
        self._parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" text-anchor="{anchor}" '
            f'fill="{colour}"{weight}>{escape(line)}</text>'
        )

    def operator(self, x: float, y: float, symbol: str) -> Box:
        """A circle that joins its arrows: + adds, × multiplies, ÷ divides, a letter is written."""
        outline = f'r="13" fill="#ffffff" stroke="{INK}" stroke-width="1.5"'
        self._parts.append(f'<circle cx="{x:g}" cy="{y:g}" {outline}/>')
        strokes = {
            "+": "M -6 0 H 6 M 0 -6 V 6",
            "×": "M -5 -5 L 5 5 M -5 5 L 5 -5",
            "÷": "M -6 0 H 6 M 0 -5 V -4.6 M 0 5 V 4.6",
        }
        if symbol in strokes:
            self._parts.append(
                f'<path transform="translate({x:g} {y:g})" d="{strokes[symbol]}" stroke="{INK}" '
                'stroke-width="1.8" stroke-linecap="round"/>'
            )
        else:
            self.text(x, y + 5, symbol, bold=True)
        return Box(x, y, 26, 26)

    def arrow(self, *points: Point, colour: str = INK, dashed: bool = False) -> None:
        """An arrow through the points, which differ from one to the next along one axis alone."""
        (x0, y0), (x1, y1) = points[-2:]
        dx, dy = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)
        base_x, base_y = x1 - 9 * dx, y1 - 9 * dy
        path = " ".join(f"{x:g},{y:g}" for x, y in (*points[:-1], (base_x, base_y)))
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6" '
            f'stroke-linejoin="round"{dashes}/>'
        )
        corners = (
            (x1, y1),
            (base_x - 4.5 * dy, base_y + 4.5 * dx),
            (base_x + 4.5 * dy, base_y - 4.5 * dx),
        )
        tip = " ".join(f"{x:g},{y:g}" for x, y in corners)
        self._parts.append(f'<polygon points="{tip}" fill="{colour}"/>')

    def chain(self, *boxes: Box) -> None:
        """Arrows from each box down to the next."""
        for upper, lower in pairwise(boxes):
            self.arrow(upper.bottom, lower.top)

    def key(self, x: float, y: float, kind: str, meaning: str) -> None:
        """One line of a legend: a colour, and what it means."""
        self.card(x, y, 26, 18, *COLOURS[kind], radius=5)
        self.text(x + 24, y + 5, meaning, anchor="start")

    def save(self, name: str) -> None:
        """Write the file beside this script."""
        svg = "\n".join([self._head, *self._parts, "</svg>\n"])
        Path(__file__).with_name(name).write_text(svg, encoding="utf-8")
