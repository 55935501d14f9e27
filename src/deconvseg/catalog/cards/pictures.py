"""Cards of the 2D datasets."""

from deconvseg.catalog.cards.card import Card

PICTURES: tuple[Card, ...] = ()
