"""Counting rules of the papers' tools, as weights of the tallies."""

from collections.abc import Mapping
from dataclasses import dataclass

from deconvseg.models.complexity.counting import Tally
from deconvseg.models.complexity.measure import Complexity


@dataclass(frozen=True)
class Weights:
    """Factors of the numbers in a tally of one kind of operation."""

    macs: int = 0
    elementwise: int = 0
    elements: int = 0
    biased: int = 0

    def of(self, tally: Tally) -> int:
        """Return the weighted sum of a tally."""
        return (
            self.macs * tally.macs
            + self.elementwise * tally.elementwise
            + self.elements * tally.elements
            + self.biased * tally.biased
        )


@dataclass(frozen=True)
class CountingRule:
    """A counting rule: weights for each kind of operation that is counted; other kinds are ignored."""

    description: str
    weights: Mapping[str, Weights]

    def count(self, complexity: Complexity) -> int:
        """Return the number of operations of a forward pass by this rule."""
        return sum(self.weights[name].of(tally) for name, tally in complexity.operators.items() if name in self.weights)


_EACH, _TWICE = Weights(elements=1), Weights(elements=2)

# DeepSpeed's profiler, in the version that reproduces Deconver's tables. It counts functions called by modules; it
# counts relu, instance_norm and group_norm twice, because it patches them under two names. Deconver imports its
# convolution functions before they are patched, so only the two sums and the product per source entry of an update are
# counted. The profiler counts the bias of a transposed convolution at a quarter of its resolution; this small number is
# neglected here.
_OF_DEEPSPEED: Mapping[str, Weights] = {
    "convolution": Weights(macs=2, biased=1),
    "transposed_convolution": Weights(macs=2),
    "matrix_product": Weights(macs=2),
    "attention": Weights(macs=2),
    "ndc_update": Weights(elements=3),
    "instance_norm": Weights(elements=8, biased=2),
    "group_norm": Weights(elements=8, biased=2),
    "layer_norm": Weights(elements=4, biased=1),
    "batch_norm": Weights(elements=1, biased=1),
    "relu": _TWICE,
    **dict.fromkeys(("gelu", "leaky_relu", "elu", "prelu", "silu", "softmax", "add", "mul"), _EACH),
    **dict.fromkeys(("linear_interpolation", "nearest_interpolation"), _EACH),
    "pooling": Weights(elementwise=1),
}

# ptflops 0.7.5, engine "pytorch": multiply-accumulates of modules and of some functions. A module that calls a counted
# function (ReLU, pooling, and Upsample, which the paper's U-Net has) counts twice. Sampling and sums by + are not
# counted.
_OF_PTFLOPS: Mapping[str, Weights] = {
    "convolution": Weights(macs=1, biased=1),
    "transposed_convolution": Weights(macs=1, biased=1),
    "batch_norm": Weights(elements=1, biased=1),
    "relu": _TWICE,
    "pooling": Weights(elementwise=2),
    "linear_interpolation": _TWICE,
    **dict.fromkeys(("softmax", "nearest_interpolation"), _EACH),
}

RULES: Mapping[str, CountingRule] = {
    "deepspeed": CountingRule("as DeepSpeed's profiler counts for Deconver's tables", _OF_DEEPSPEED),
    "ptflops": CountingRule("as ptflops 0.7.5 counts (engine pytorch)", _OF_PTFLOPS),
}
