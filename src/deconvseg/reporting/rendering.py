"""A page of sections as one HTML file that needs no other."""

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
    """A part of a page: its anchor, its heading, and what its template is filled with.

    ``anchor`` is unique on the page and part of every anchor within the section. ``template`` is the name of a file in
    ``templates/`` without ``.html.jinja``; it sees the entries of ``content``, and the section as ``section``.
    ``parts`` are anchors within it that the table of contents lists, with their names.
    """

    anchor: str
    title: str
    template: str
    content: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[tuple[str, str], ...] = ()


def render_page(*, title: str, subtitle: str, sections: Sequence[Section], gaps: Sequence[str] = ()) -> str:
    """Return the page: heading, what is missing (``gaps``, one line each), a table of contents, the sections.

    Nothing is fetched: a content security policy forbids it, and allows the page's own script alone.
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
    """Return what a page shows of a value: of a text from outside, characters that hide or reorder it as escapes."""
    # What a template itself has put together is markup already.
    return escape_controls(value) if type(value) is str else value
