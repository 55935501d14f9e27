"""Why printed figures differ from exact ones or from each other: one text for each key."""

from collections.abc import Mapping

REASONS: Mapping[str, str] = {
    "deconvolutions": (
        "The authors' profiler does not see the deconvolutions: their code imports the convolution functions before "
        "the profiler replaces them. Filters of 3 and 5, and few and many groups, therefore have the same printed cost."
    ),
    "elementwise": (
        "Their rule adds biases, normalisations, activations, sums and products to the multiply-accumulates."
    ),
    "copied": "The network has 11.13 million parameters; 11.0 is perhaps the figure of Table I.",
    "truncated": "The last digit of the millions of parameters is cut off, not rounded.",
    "registered_twice": (
        "MONAI's DynUNet registers each block twice, and the profiler counts it twice. The true cost in MONAI 1.6.1 is "
        "1708.4 (ISLES'22), 458.9 (BraTS'23) and 434.9 K/voxel (2D)."
    ),
    "repeated_products": (
        "The figure is not reproduced. The profiler does not undo its replacement of Tensor.__matmul__, so products "
        "count once more with every profile in the same process; that this happened here is a conjecture."
    ),
    "unused_weights": (
        "MONAI 1.4 builds 28.3 million cross-attention weights that are never used; later versions do not."
    ),
    "size_of_fives": (
        "The position embedding depends on the image size: the row holds for FIVES (512 × 512), not for GlaS."
    ),
    "mebibytes": "The table's millions of parameters are mebibytes of float32 weights.",
    "misprint": "The weights take 65.85 MiB; the other rows fit 65.85 too, so 65.95 is probably a misprint.",
    "macs": (
        "The table's FLOPs are multiply-accumulates as ptflops counts them: with normalisations, with ReLU, pooling "
        "and linear interpolation counted twice, but one operation for each interpolated element instead of four, and "
        "without the sampling at predicted positions."
    ),
    "offset_layer": (
        "The parameters fit an offset layer with kernel 2; the cost then fits (40.53) only if a transposed convolution "
        "was counted at the resolution of its output, four times its true cost; this is a conjecture."
    ),
    "means_of_distances": (
        "The printed averages of HD95 are not the means of their columns in any of the seven rows; those of Dice are, "
        "within rounding. The authors' code drops a case from the mean of a region where one mask is empty, which "
        "gives each column other cases; that this explains the averages is a conjecture."
    ),
    "exchanged": (
        "The scores of DySample and FADE are those of Table 1 with the datasets exchanged: Table 1 prints 79.29 and "
        "78.80 for ISIC, 76.24 and 75.80 for BUSI. If the headings of Table 6 are exchanged, its gains refer "
        "to the other dataset; if only these baselines are, they compare two datasets."
    ),
    "which_dataset": (
        "The caption names BUSI, the text the ISIC setup. The last row has the means of BUSI in Table 1, so BUSI is "
        "taken."
    ),
    "two_deviations": "The same mean, 78.49, has the deviation 0.69 here and 1.63 in Table 1.",
    "declines": (
        "The text says that performance declines notably beyond a receptive field of 10. That holds for ISIC; on BTCV "
        "the Dice at an infinite one is higher than at 10 for both networks."
    ),
    "tolerance": "The paper does not state the tolerance of the normalised surface Dice (NSD).",
    "deviation": (
        "The text says 'mean and variance'; the figures after ± are taken as standard deviations over the five folds."
    ),
    "voxels": (
        "The paper prints no unit of HD95. The authors' code passes no spacing, so distances are in voxels of the "
        "resampled grid."
    ),
    "unprinted": "The paper prints the sizes of all networks, but not these scores.",
}
