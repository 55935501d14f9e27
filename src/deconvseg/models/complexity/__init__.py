"""Complexity of networks: parameters, operations and memory, and the papers' counting rules."""

from deconvseg.models.complexity.counting import Tally
from deconvseg.models.complexity.latency import measure_seconds
from deconvseg.models.complexity.measure import Complexity, complexity
from deconvseg.models.complexity.rules import RULES, CountingRule

__all__ = ["RULES", "Complexity", "CountingRule", "Tally", "complexity", "measure_seconds"]
