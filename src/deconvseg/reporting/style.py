"""Shared by all pictures: colours, axes, files and data URIs."""

import base64
import warnings
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deconvseg.errors import InputError
from deconvseg.system import atomic_write
from deconvseg.text import escape_controls

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1b1f24", "#667079", "#d5dae0"
SERIES = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#0891b2", "#65a30d", "#dc2626")

# Deconver (arXiv 2504.00302), Fig. 4: true positives blue, false positives green, false negatives red. The green is
# lighter and the red darker, so that they differ in brightness for readers who cannot tell their hues apart.
TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE, WRONG_CLASS = "#2563eb", "#4ade80", "#dc2626", "#f0abfc"
_PICTURES = (".png", ".pdf", ".svg")
# The colours of lines and letters of a chart on a dark screen.
_ON_DARK = {INK: "#e7ebf0", MUTED: "#9aa5b1", GRID: "#2b333c"}


def rgb(colour: str) -> npt.NDArray[np.float32]:
    """Return red, green and blue in 0…1 of a colour written as #rrggbb."""
    return (np.frombuffer(bytes.fromhex(colour[1:]), np.uint8) / 255).astype(np.float32)


def plain(name: str, limit: int = 40) -> str:
    """Return a name as text for matplotlib: not read as a formula, and not left out of a legend.

    Longer names are cut, and characters that cannot be drawn become escapes.
    """
    text = escape_controls(name)
    text = text if len(text) <= limit else f"{text[: limit - 1]}…"
    # Matplotlib reads text between dollar signs as a formula, and drops legend entries that begin with an underscore.
    text = text.replace("$", r"\$")
    return f" {text}" if not text or text.startswith("_") else text


def save_figure(figure: "Figure", target: Any, **options: Any) -> None:
    """Write a figure to a file or a buffer; a character that the font lacks is drawn as a box."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure.savefig(target, **options)


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of that size in inches, without using global state of matplotlib."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def check_picture(path: str | PathLike[str]) -> str:
    """Return the format of a picture by the ending of its name; :class:`InputError` for another one."""
    kind = Path(path).suffix.lower()
    if kind not in _PICTURES:
        raise InputError(f"{path}: the figure is a picture; give a name that ends in .png, .pdf or .svg")
    return kind[1:]


def write_picture(figure: "Figure", path: str | PathLike[str], dpi: int = 200) -> Path:
    """Write a figure to a file (.png, .pdf or .svg), whose folder is created, and return its path."""
    target, kind = Path(path), check_picture(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as file:
        save_figure(figure, file, dpi=dpi, facecolor="white", format=kind)
    return target


def style_axes(axes: Any, title: str, xlabel: str, ylabel: str = "") -> None:
    """Give axes a title on the left, light grid lines and no box."""
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK)
    axes.set_xlabel(xlabel, fontsize=9, color=MUTED)
    axes.set_ylabel(ylabel, fontsize=9, color=MUTED)
    axes.tick_params(labelsize=8.5, colors=MUTED, length=0)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)


def add_legend(axes: Any, **options: Any) -> None:
    """Add a frameless legend."""
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, **options)


def figure_uri(figure: "Figure") -> str:
    """Return a figure as an SVG with a transparent background, in a data URI.

    Lines and letters are light on a dark screen; the colours of classes do not change.
    """
    buffer = BytesIO()
    save_figure(figure, buffer, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    return _uri(_follow_scheme(buffer.getvalue().decode()).encode(), "image/svg+xml")


def _follow_scheme(svg: str) -> str:
    """Make the lines and letters of an SVG follow the light or dark colour scheme of the screen."""
    names = {ink: f"--ink{place}" for place, ink in enumerate(_ON_DARK)}
    for ink, name in names.items():
        svg = svg.replace(f": {ink}", f": var({name})")
    light = "".join(f"{name}:{ink};" for ink, name in names.items())
    dark = "".join(f"{names[ink]}:{colour};" for ink, colour in _ON_DARK.items())
    rules = f"svg{{{light}}}@media screen and (prefers-color-scheme:dark){{svg{{{dark}}}}}"
    return svg.replace("<defs>", f'<defs><style type="text/css">{rules}</style></defs><defs>', 1)


def pixels_uri(pixels: npt.NDArray[np.uint8]) -> str:
    """Return an RGB array (H, W, 3) as a JPEG with full colour resolution in a data URI."""
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="jpeg", quality=88, subsampling=0, optimize=True)
    return _uri(buffer.getvalue(), "image/jpeg")


def file_uri(path: Path) -> str:
    """Return a PNG file in a data URI."""
    return _uri(path.read_bytes(), "image/png")


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
