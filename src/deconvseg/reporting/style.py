"""What all pictures share: colours, axes, and their forms as files and data URIs."""

import base64
import warnings
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deconvseg.text import escape_controls

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1b1f24", "#667079", "#d5dae0"
SERIES = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#0891b2", "#65a30d", "#dc2626")

# Deconver (arXiv 2504.00302), Fig. 4: true positives blue, false positives green, false negatives red. The green is
# lighter and the red darker than there, so that they differ in brightness where they do not in hue.
TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE, WRONG_CLASS = "#2563eb", "#4ade80", "#dc2626", "#f0abfc"
# What lines and letters of a chart become on a dark screen.
_ON_DARK = {INK: "#e7ebf0", MUTED: "#9aa5b1", GRID: "#2b333c"}


def rgb(colour: str) -> npt.NDArray[np.float32]:
    """Return red, green and blue in 0…1 of a colour written as #rrggbb."""
    return (np.frombuffer(bytes.fromhex(colour[1:]), np.uint8) / 255).astype(np.float32)


def plain(name: str, limit: int = 40) -> str:
    """Return a name as matplotlib is to draw it: no part of it is a formula, and no legend leaves it out.

    Longer ones are cut, and characters that cannot be drawn are shown as escapes.
    """
    text = escape_controls(name)
    text = text if len(text) <= limit else f"{text[: limit - 1]}…"
    # Two dollar signs enclose a formula, and a legend leaves out what begins with an underscore.
    text = text.replace("$", r"\$")
    return f" {text}" if not text or text.startswith("_") else text


def save_figure(figure: "Figure", target: Any, **options: Any) -> None:
    """Write a figure to a file or a buffer; a character that the font lacks is drawn as a box."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure.savefig(target, **options)


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of that size in inches; no global state of matplotlib is involved."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


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
    """Return a figure as a scalable picture with a transparent ground, in a data URI.

    Its lines and letters are light where the reader's screen is dark; the colours of classes stay as they are.
    """
    buffer = BytesIO()
    save_figure(figure, buffer, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    return _uri(_follow_scheme(buffer.getvalue().decode()).encode(), "image/svg+xml")


def _follow_scheme(svg: str) -> str:
    """Let the inks of an SVG follow the reader's choice of a light or a dark screen."""
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


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
