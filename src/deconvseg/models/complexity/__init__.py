"""Sizes and costs: what a network has, what it takes, and how the papers count."""

from deconvseg.models.complexity.counting import Tally
from deconvseg.models.complexity.latency import measure_seconds
from deconvseg.models.complexity.measure import Complexity, complexity
from deconvseg.models.complexity.rules import RULES, CountingRule

__all__ = ["RULES", "Complexity", "CountingRule", "Tally", "complexity", "measure_seconds"]
