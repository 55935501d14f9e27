"""The page of sizes and costs, and its picture."""

from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path

from deconvseg.catalog import PUBLISHED_TABLES
from deconvseg.errors import InputError
from deconvseg.reporting.complexity.measuring import MeasuredTable
from deconvseg.reporting.complexity.table import cells, reasons_of, text_of_reason, true_cost
from deconvseg.reporting.tradeoff import TradeOff, draw_tradeoff
from deconvseg.runs import describe_environment
from deconvseg.system import atomic_write, write_text

# The networks of Deconver's Fig. 3.
_DRAWN, _DATASET = PUBLISHED_TABLES[0], "ISLES'22"

_INTRODUCTION = """# Sizes and costs

Every figure is next to the published one. *Same rule* counts operations as the paper's tool seems to have done (for
Deconver, a rule that was fitted to its rows). *True* counts all multiply-accumulates: convolutions,
products, deconvolutions, interpolation and sampling. K/voxel are thousands of operations, two for each
multiply-accumulate; G are billions of multiply-accumulates for one image. *Memory* is computed, not measured: the
peak of the activations of one image in float32, called layer by layer; the native kernels of a CPU take less. An empty
cell means that the value is not known. [How it is counted](../explanation/complexity.md) explains the rules.
"""


def write_complexity_page(
    tables: Sequence[MeasuredTable], path: str | PathLike[str], *, device: str | None = None
) -> list[Path]:
    """Write a Markdown page with these tables and the reasons why figures differ; return the files that were written.

    If networks of Deconver's Fig. 3 are among them, the figure is written next to the page, as a PNG of the same name.
    ``device`` is the device on which they were timed. Raises :class:`~deconvseg.errors.InputError` if the page cannot
    be written, or if its name does not end in ``.md``.
    """
    page = Path(path)
    check_page(page)
    picture, written = page.with_suffix(".png"), [page]
    networks = trade_offs(tables)
    if networks:
        timed = device or "" if any(network.seconds for network in networks) else ""
        with atomic_write(picture) as file:
            draw_tradeoff(networks, timed).savefig(file, dpi=150, facecolor="white", format="png")
        written.append(picture)
    write_text(page, "\n".join(_lines(tables, picture.name, device)))
    return written


def check_page(path: Path) -> None:
    """Refuse a page whose name does not end in ``.md``; the picture next to it has the same stem."""
    if path.suffix != ".md":
        raise InputError(f"{path}: the page is Markdown; give a name that ends in .md, such as complexity.md")


def trade_offs(tables: Sequence[MeasuredTable]) -> list[TradeOff]:
    """The networks of Deconver's Fig. 3 with their measurements."""
    return [
        TradeOff(
            row.name,
            row.published.scores[_DATASET][0],
            row.published.published_cost,
            true_cost(table, row.complexity) if row.complexity else None,
            row.seconds,
        )
        for table in tables
        if table.published is _DRAWN and table.same_size
        for row in table.rows
        if row.published
    ]


def _lines(tables: Sequence[MeasuredTable], picture: str, device: str | None) -> Iterator[str]:
    reasons, facts = reasons_of(tables), describe_environment()
    yield _INTRODUCTION
    for table in tables:
        yield f"## {table.title}, {' × '.join(map(str, table.size))}\n"
        headings, rows = cells(table, reasons)
        yield _markdown_row(headings)
        yield _markdown_row(["---"] * len(headings))
        yield from map(_markdown_row, rows)
        yield ""
    networks = trade_offs(tables)
    if networks:
        against = "cost and time" if any(network.seconds for network in networks) else "cost"
        yield f"## Dice against {against}\n\n![Published Dice on {_DATASET} against {against}]({picture})\n"
        yield "After Deconver's Fig. 3. Open points are published costs, filled ones true costs.\n"
    if reasons:
        yield "## Notes\n"
        yield from (f"{number}. {text_of_reason(reason)}" for number, reason in enumerate(reasons, start=1))
        yield ""
    yield f"## Made by\n\n```sh\n{facts['command']}\n```\n"
    versions = f"deconvseg {facts['deconvseg']}, PyTorch {facts['packages']['torch']}"
    yield versions + (f"; {timing(device)}" if device else "") + ".\n"


def timing(device: str) -> str:
    """How, and on which machine, the seconds were measured."""
    machine = describe_environment()["machine"]
    on = (
        machine["accelerator"] if device.startswith("cuda") else f"{machine['processor']}, {machine['threads']} threads"
    )
    return f"seconds: medians of three forward passes of one image in float32 on {on}"


def _markdown_row(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"
