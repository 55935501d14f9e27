"""A page of sections as one self-contained HTML file."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from hashlib import sha256
from importlib import resources
from typing import TYPE_CHECKING, Any

from deconvseg._version import __version__
from deconvseg.text import escape_controls

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True)
class Section:
    """A part of a page: its anchor, its heading, its template and the content of that.

    ``anchor`` is unique on the page and part of every anchor within the section. ``template`` is the name of a file in
    ``templates/`` without ``.html.jinja``; it receives the entries of ``content``, and the section as ``section``.
    ``parts`` are anchors within it that the table of contents lists, with their names.
    """

    anchor: str
    title: str
    template: str
    content: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[tuple[str, str], ...] = ()


def section_of_blocks(anchor: str, title: str, **content: Any) -> Section:
    """Return a section of lines, tables, charts and panels, of which there are none unless given as ``content``."""
    empty: dict[str, Any] = {"lead": [], "notes": [], "colours": {}, "tables": [], "figures": [], "panels": []}
    return Section(anchor, title, "blocks", empty | content)


def render_page(*, title: str, subtitle: str, sections: Sequence[Section], gaps: Sequence[str] = ()) -> str:
    """Return the page: heading, missing content (``gaps``, one line each), table of contents, sections.

    The page loads nothing: a content security policy forbids it, and allows only the script of the page.
    """
    from markupsafe import Markup

    environment = _environment()
    parts = [
        (section, Markup(environment.get_template(_file(section.template)).render(section.content, section=section)))
        for section in sections
    ]
    style, script = (_read(name) for name in ("style.css", "script.js"))
    return environment.get_template(_file("page")).render(
        title=title,
        subtitle=subtitle,
        parts=parts,
        gaps=gaps,
        style=Markup(style),
        script=Markup(script),
        script_hash=base64.b64encode(sha256(script.encode()).digest()).decode(),
        version=__version__,
        megabytes=f"{sum(len(markup.encode()) for _, markup in parts) / 1e6:.1f}",
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
    )


def _file(template: str) -> str:
    return f"{template}.html.jinja"


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(
        loader=FunctionLoader(_read),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_show,
    )


def _read(name: str) -> str:
    return resources.files("deconvseg.reporting").joinpath("templates").joinpath(name).read_text(encoding="utf-8")


def _show(value: Any) -> Any:
    """Return a value as a page shows it; in plain text, characters that hide or reorder text become escapes."""
    # The output of a template is already markup.
    return escape_controls(value) if type(value) is str else value
