"""Cards of datasets: complete, of known presets, and printable."""

import pytest

from deconvseg.catalog import CARDS, PRESETS


@pytest.mark.parametrize("name", CARDS)
def test_a_card_is_complete_and_belongs_to_a_preset(name):
    card = CARDS[name]
    assert card.name == name
    assert name in PRESETS
    assert card.source.startswith("https://")
    assert all((card.title, card.licence, card.access, card.citation, card.tree))
    assert set(card.masks) <= set(card.counts)
    assert all(count > 0 for count in card.counts.values())
