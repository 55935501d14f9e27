"""Text of the cards of published datasets."""

import textwrap

from deconvseg.catalog import Card

_WIDTH = 100


def describe_card(card: Card) -> str:
    """Return a card as lines of text, a heading and its content side by side."""
    checksums = [f"{name}: {digest}" for name, digest in card.checksums.items()]
    entries = {
        "name": [f"{card.name} (--preset, --like)"],
        "source": [card.source],
        "licence": [card.licence],
        "access": [card.access],
        "cite": [card.citation],
        "cases": [count_cases(card)],
        "files": card.tree,
        "checksums": checksums or ["none published"],
        "remarks": card.remarks,
    }
    lines = [card.title, ""]
    for heading, texts in entries.items():
        for number, text in enumerate(texts):
            start = f"{heading if number == 0 else '':10} "
            # Names of files and addresses stay whole, so that they can be copied.
            lines += textwrap.wrap(
                text,
                _WIDTH,
                initial_indent=start,
                subsequent_indent=" " * len(start),
                break_long_words=False,
                break_on_hyphens=False,
            )
    return "\n".join(lines)


def count_cases(card: Card) -> str:
    """Return the published numbers of cases, such as ``250 training, 150 test (without masks)``."""
    return ", ".join(
        f"{count:,} {part}" + ("" if part in card.masks else " (without masks)") for part, count in card.counts.items()
    )
