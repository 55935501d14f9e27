"""Draws the documentation's figures: ``python docs/figures/draw.py`` rewrites the SVG files beside it.

Needs Python alone. The papers are Deconver (arXiv 2504.00302) and DTC (arXiv 2601.17939); the figures
follow their equations and the readings of ``docs/explanation/operators.md``.
"""

from canvas import COLOURS, SOFT, Box, Drawing


def network() -> None:
    """Deconver, Figure 1, with the widths of the preset isles22."""
    widths, sizes, step = (64, 128, 256, 512), (64, 32, 16, 8), 196
    d = Drawing(1000, 580, "Deconver: the network, with the widths of the preset isles22")
    rows = [158 + 122 * level for level in range(4)]
    left, bottom = 104, 300

    def block(x: float, level: int) -> Box:
        return d.box("ndc", x, rows[level], 126, 50, "Deconver block", f"{widths[level]} × {sizes[level]}³")

    d.text(left, 36, "image  2 × 64³", bold=True)
    stem = d.box("conv", left, 82, 126, 44, "stem: conv 3³", "2 → 64")
    encoder = [block(left, level) for level in range(3)]
    deepest = block(bottom, 3)
    d.arrow((left, 44), stem.top)
    d.arrow(stem.bottom, encoder[0].top)
    for level in range(3):
        channels = f"{widths[level]} → {widths[level + 1]}"
        down = d.box("conv", left, rows[level] + 61, 126, 42, "conv 2³, stride 2", channels)
        d.arrow(encoder[level].bottom, down.top)
        d.arrow(down.bottom, *([encoder[level + 1].top] if level < 2 else [(left, rows[3]), deepest.left]))
    lower = deepest
    for level in (2, 1, 0):
        x = bottom + step * (2 - level)
        channels = f"{widths[level + 1]} → {widths[level]}"
        up = d.box("up", x, rows[level] + 61, 172, 42, "transposed conv", f"2³, stride 2: {channels}")
        join = d.operator(x, rows[level], "C")
        narrowed = f"{2 * widths[level]} → {widths[level]}"
        fusion = d.box("conv", x + 75, rows[level], 84, 50, "fusion 1³", narrowed)
        d.arrow(lower.top, up.bottom)
        d.arrow(up.top, join.bottom)
        d.arrow(encoder[level].right, join.left)
        d.text((encoder[level].right[0] + join.left[0]) / 2, rows[level] - 9, "skip", size=13, colour=SOFT)
        d.arrow(join.right, fusion.left)
        lower = block(x + step, level)
        d.arrow(fusion.right, lower.left)
    head = d.box("conv", lower.x, 82, 126, 44, "head: conv 1³", "64 → 1")
    d.arrow(lower.top, head.bottom)
    d.arrow(head.top, (head.x, 44))
    d.text(head.x, 36, "logits  1 × 64³", bold=True)
    d.key(720, 448, "ndc", "Deconver block (Figure 2)")
    d.key(720, 476, "conv", "learned convolution")
    d.key(720, 504, "up", "upsampling")
    d.operator(720, 538, "C")
    d.text(744, 543, "concatenates channels", anchor="start")
    d.save("network.svg")


def deconver_block(d: Drawing, x: float) -> None:
    """Panel a: two residual branches, each behind an instance normalisation."""
    panel(d, x, 250, "(a)  Deconver block", "Eq. 4, 5")
    d.text(x, 108, "X  (B, C, *S)", bold=True)
    norm = d.box("plain", x, 157, 130, 32, "InstanceNorm")
    mixer = d.box("ndc", x, 213, 130, 36, "Deconv Mixer")
    first = d.operator(x, 265, "+")
    second_norm = d.box("plain", x, 334, 130, 32, "InstanceNorm")
    d.card(x + 17, 443, 186, 160, "#f3f6fa", "#dde3e8")
    expand = d.box("conv", x, 391, 130, 42, "pointwise conv", "C → 4C")
    gelu = d.box("plain", x, 443, 130, 30, "GELU")
    project = d.box("conv", x, 495, 130, 42, "pointwise conv", "4C → C")
    second = d.operator(x, 549, "+")
    d.arrow((x, 116), norm.top)
    d.chain(norm, mixer, first, second_norm, expand, gelu, project, second)
    d.arrow(second.bottom, (x, 586))
    d.arrow((x, 126), (x - 95, 126), (x - 95, 265), first.left)
    d.arrow((x, 298), (x - 95, 298), (x - 95, 549), second.left)
    d.text(x + 10, 293, "Z", bold=True, anchor="start")
    d.text(x + 73, 448, "MLP", colour=SOFT, anchor="start")
    d.text(x, 605, "Y  (B, C, *S)", bold=True)


def deconv_mixer(d: Drawing, x: float) -> None:
    """Panel b: a nonnegative deconvolution between two pointwise convolutions."""
    panel(d, x, 200, "(b)  Deconv Mixer", "Eq. 6")
    d.text(x, 108, "X  (B, C, *S)", bold=True)
    enter = d.box("conv", x, 198, 150, 42, "pointwise conv", "C → C, no bias")
    relu = d.box("plain", x, 296, 150, 32, "ReLU")
    ndc = d.box("ndc", x, 396, 150, 46, "NDC layer", "C → E")
    leave = d.box("conv", x, 501, 150, 42, "pointwise conv", "E → C")
    d.arrow((x, 116), enter.top)
    d.chain(enter, relu, ndc, leave)
    d.arrow(leave.bottom, (x, 586))
    d.text(x + 10, 345, "≥ 0", colour=SOFT, anchor="start", size=13)
    d.text(x + 10, 453, "≥ 0,  E = R·C", colour=SOFT, anchor="start", size=13)
    d.text(x, 605, "(B, C, *S)", bold=True)


def ndc_layer(d: Drawing, left: float) -> None:
    """Panel c: the source's first guess, and one multiplicative update of it."""
    middle, right = left + 160, left + 320
    panel(d, middle - 3, 486, "(c)  NDC layer", "Eq. 7")
    d.text(middle, 108, "X  (B, C, *S) ≥ 0", bold=True)
    guess = d.box("conv", left, 172, 130, 42, "pointwise, ReLU", "C → E")
    filters = d.box("ndc", middle, 184, 136, 42, "V = ReLU(filters)", "(C, E/G, *K)")
    reconstruct = d.box("ndc", middle, 274, 100, 42, "∗ V", "E → C")
    back = d.box("ndc", middle, 348, 100, 42, "∗ V⁻", "C → E")
    compare = d.box("ndc", right, 348, 100, 42, "∗ V⁻", "C → E")
    below, above = d.box("plain", middle, 412, 60, 30, "+ ε"), d.box("plain", right, 412, 60, 30, "+ ε")
    divide, times = d.operator(right, 474, "÷"), d.operator(left, 535, "×")
    d.arrow((middle, 116), (middle, 130), (left, 130), guess.top)
    d.arrow((middle, 130), (right, 130), compare.top)
    d.arrow(guess.bottom, (left, 214))
    d.text(left, 230, "S⁰  (B, E, *S)", bold=True)
    d.arrow((left, 238), times.top)
    d.arrow((left, 274), reconstruct.left)
    d.chain(reconstruct, back, below)
    d.chain(compare, above, divide)
    d.arrow(below.bottom, (middle, 474), divide.left)
    d.arrow(divide.bottom, (right, 535), times.right)
    d.arrow(times.bottom, (left, 586))
    d.text(left, 605, "S¹  (B, E, *S)", bold=True)
    d.text(right - 9, 449, "numerator", colour=SOFT, anchor="end", size=13)
    d.text(middle + 9, 467, "denominator", colour=SOFT, anchor="start", size=13)
    trunk, orange = middle + 82, COLOURS["ndc"][1]
    d.arrow(filters.bottom, reconstruct.top, colour=orange, dashed=True)
    d.arrow(filters.right, (trunk, 184), (trunk, 348), back.right, colour=orange, dashed=True)
    d.arrow((trunk, 348), compare.left, colour=orange, dashed=True)
    d.text(middle + 82, 574, "V⁻: V flipped, channels swapped", colour=SOFT, size=13)
    d.text(middle + 82, 594, "G groups of channels, by default G = C", colour=SOFT, size=13)


def panel(d: Drawing, x: float, width: float, title: str, equation: str) -> None:
    """A panel's frame, its title, and where in the paper it stands."""
    d.card(x, 326, width, 612, "#fbfcfd", "#dde3e8", radius=10)
    d.text(x - width / 2 + 16, 48, title, bold=True, anchor="start", size=15)
    d.text(x - width / 2 + 16, 68, equation, anchor="start", size=13, colour=SOFT)


def block() -> None:
    """Deconver, Figure 2."""
    d = Drawing(1000, 652, "Deconver: the block, the mixer in it, and the nonnegative deconvolution in that")
    deconver_block(d, 145)
    deconv_mixer(d, 382)
    ndc_layer(d, 580)
    d.save("block.svg")


def dtc() -> None:
    """DTC, Figure 3."""
    d = Drawing(1000, 452, "Deformable transposed convolution, added to any upsampling")
    d.card(490, 286, 632, 296, "#fbfcfd", "#dde3e8", radius=10)
    d.text(194, 161, "DTC", bold=True, anchor="start", size=15)
    base = d.box("up", 302, 62, 216, 46, "upsampling without DTC", "linear or transposed:  C → C′")
    project = d.box("conv", 302, 192, 216, 46, "pointwise conv", "C → C′")
    learn = d.box("up", 302, 308, 216, 46, "transposed conv", "kernel = stride = s:  C → 2g")
    offsets = d.box("plain", 482, 266, 92, 44, "tanh", "g offsets")
    weights = d.box("plain", 482, 350, 92, 44, "sigmoid", "g weights")
    sample = d.box("sample", 708, 192, 130, 46, "grid sample", "at P′")
    grid = d.box("sample", 708, 396, 170, 46, "P: output centres", "(g, *sS)")
    product, total, result = d.operator(572, 308, "×"), d.operator(708, 308, "+"), d.operator(840, 62, "+")
    scale = d.box("sample", 640, 308, 54, 34, "× λ")
    d.text(64, 187, "X", bold=True)
    d.text(64, 206, "(B, C, *S)", bold=True)
    d.arrow((108, 192), project.left)
    for box in (base, learn):
        d.arrow((146, 192), (146, box.y), box.left)
    for box in (offsets, weights):
        d.arrow(learn.right, (422, 308), (422, box.y), box.left)
        d.arrow(box.right, (572, box.y), product.top if box is offsets else product.bottom)
    d.arrow(base.right, result.left)
    d.arrow(project.right, sample.left)
    d.text(524, 183, "(B, C′, *S)", colour=SOFT, size=13)
    d.arrow(product.right, scale.left)
    d.arrow(scale.right, total.left)
    d.arrow(grid.top, total.bottom)
    d.arrow(total.top, sample.bottom)
    d.text(720, 259, "P′,  Eq. 1", colour=SOFT, size=13, anchor="start")
    d.arrow(sample.right, (840, 192), result.bottom)
    d.text(850, 132, "X′,  Eq. 2", colour=SOFT, size=13, anchor="start")
    d.arrow(result.right, (884, 62))
    d.text(936, 67, "(B, C′, *sS)", bold=True)
    d.text(196, 388, "g: axes, 2 or 3;   s: scale", colour=SOFT, size=13, anchor="start")
    d.text(196, 410, "λ = receptive field / (2 · size of X), per axis", colour=SOFT, size=13, anchor="start")
    d.save("dtc.svg")


if __name__ == "__main__":
    network()
    block()
    dtc()
