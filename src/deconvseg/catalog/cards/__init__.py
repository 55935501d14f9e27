"""Cards of the papers' datasets, by the names of their presets and layouts."""

from collections.abc import Mapping

from deconvseg.catalog.cards.card import Card
from deconvseg.catalog.cards.pictures import PICTURES
from deconvseg.catalog.cards.volumes import VOLUMES

CARDS: Mapping[str, Card] = {card.name: card for card in (*VOLUMES, *PICTURES)}

__all__ = ["CARDS", "Card"]
