"""Published sizes and costs of Deconver (arXiv 2504.00302, Tables I-V), beside the exact ones."""

from typing import Any, NamedTuple


class Complexity(NamedTuple):
    """One row: what the paper prints, and what the network has.

    ``published_parameters`` is in millions and ``published_kflops`` in thousands of operations per voxel, both
    as printed; ``parameters`` is the exact count and ``kflops`` twice the multiply-adds per voxel, the
    deconvolutions included (the published figure leaves them out).
    """

    preset: str
    overrides: dict[str, Any]
    published_parameters: float
    published_kflops: float
    parameters: int
    kflops: float


DECONVER_COMPLEXITY: tuple[Complexity, ...] = (
    Complexity("isles22", {"kernel_size": 3}, 10.5, 607.0, 10_476_545, 707.40),
    Complexity("isles22", {"kernel_size": 5}, 11.0, 607.0, 11_028_481, 1104.89),
    Complexity("brats23", {"kernel_size": 3}, 10.6, 167.5, 10_553_859, 218.04),
    Complexity("brats23", {"kernel_size": 5}, 11.0, 167.5, 11_130_883, 418.25),
    Complexity("glas", {"kernel_size": 3}, 20.6, 422.8, 20_635_041, 442.89),
    Complexity("glas", {"kernel_size": 5}, 20.8, 422.8, 20_794_785, 490.70),
    Complexity("fives", {"kernel_size": 3}, 20.6, 422.8, 20_635_041, 442.89),
    Complexity("fives", {"kernel_size": 5}, 20.8, 422.8, 20_794_785, 490.70),
    Complexity("isles22", {"kernel_size": 3, "ratio": 1}, 7.8, 425.8, 7_753_217, 447.09),
    Complexity("isles22", {"kernel_size": 3, "ratio": 2}, 8.7, 486.2, 8_660_993, 533.86),
    Complexity("isles22", {"kernel_size": 3, "groups": 1}, 57.21, 607.4, 57_215_489, 10219.39),
    Complexity("isles22", {"kernel_size": 3, "groups": 8}, 16.18, 607.1, 16_185_857, 1800.58),
)
