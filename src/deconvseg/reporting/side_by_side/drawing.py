"""The figure of several networks on the same cases.

Looks: ``"errors"`` is Deconver's Figs. 4 and 6 (arXiv 2504.00302), ``"classes"`` its Fig. 5, ``"masks"`` DTC's Figs. 4,
5 and 9 (arXiv 2601.17939). Enlarged regions below each view are those of DTC's Figs. 6 and 8.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from deconvseg.data import class_colours
from deconvseg.errors import InputError, check_choice
from deconvseg.reporting.overlay import Scene, choose_channel, classify_errors, error_legend
from deconvseg.reporting.painting import Box
from deconvseg.reporting.side_by_side.cases import NetworkCase
from deconvseg.reporting.style import GRID, INK, MUTED, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Look = Literal["errors", "masks", "classes"]
LOOKS: tuple[Look, ...] = ("errors", "masks", "classes")

# The colours of the rectangles, in their order, as in DTC's Fig. 8.
_RECTANGLES = ("#ef4444", "#3b82f6", "#facc15", "#22c55e")
# Deconver's Fig. 5: NCR/NET red, ET yellow, oedema green.
TUMOUR_COLOURS: Mapping[str, str] = {"NCR": "#dc2626", "NCR/NET": "#dc2626", "ET": "#facc15", "ED": "#22c55e"}
_WHITE, _LONGEST = "#ffffff", 480


@dataclass(frozen=True)
class _View:
    """A picture of the grid, with its title in the first row and the Dice in its corner."""

    pixels: npt.NDArray[np.uint8]
    title: str = ""
    corner: str = ""
    frame: str = ""
    boxes: tuple[tuple[Box, str], ...] = ()
    shape: tuple[int, ...] = ()


def draw_networks(
    cases: Sequence[NetworkCase],
    *,
    look: Look = "errors",
    labels: Mapping[int, str] | None = None,
    colours: Mapping[str, str] | None = None,
) -> "Figure":
    """Return a figure with one row per case: image, truth, and the mask of each network with its Dice in the corner.

    In the look ``"errors"`` true positives are blue, false positives green and false negatives red; in ``"masks"``,
    masks are white on black; in ``"classes"``, masks have the ``colours`` of their ``labels`` (by name), for the
    tumours of BraTS those of the paper: NCR red, ET yellow, ED green. The regions of ``case.crops`` are marked by
    rectangles and drawn enlarged below. Raises :class:`~deconvseg.errors.InputError` for cases of other networks.

    Example:
        >>> import numpy as np
        >>> from deconvseg.reporting import NetworkCase, draw_networks
        >>> truth = np.zeros((64, 64), int)
        >>> truth[16:48, 16:48] = 1
        >>> case = NetworkCase("disc", None, truth, {"shifted": np.roll(truth, 8, axis=0)}, (1.0, 1.0))
        >>> draw_networks([case]).savefig("networks.png")

    """
    check_choice(look, LOOKS, "look")
    if not cases:
        raise InputError("there is no case to show; give at least one")
    networks = list(cases[0].masks)
    for case in cases[1:]:
        if list(case.masks) != networks:
            raise InputError(f"{case.name}: has masks of {', '.join(case.masks)}, not of {', '.join(networks)}")
    painter = _Painter.of(cases, look, labels or {}, colours or {})
    rows = [row for case in cases for row in painter.rows(case)]
    heights = [max(view.pixels.shape[0] / view.pixels.shape[1] for view in row if view) for row in rows]
    width = 1.9
    titles = 0.15 * max(_wrapped(view.title).count("\n") for view in rows[0] if view)
    figure = new_figure(width * len(rows[0]) + 0.3, width * sum(heights) + 0.3 * len(rows) + 0.55 + titles)
    grid = figure.subplots(len(rows), len(rows[0]), squeeze=False, gridspec_kw={"height_ratios": heights})
    for place, (row, line) in enumerate(zip(rows, grid, strict=True)):
        for view, axes in zip(row, line, strict=True):
            _show(axes, view, titled=place == 0)
    for number, case in zip(_firsts(cases), cases, strict=True):
        grid[number][0].set_ylabel(plain(case.name, 24), fontsize=8.5, color=MUTED)
    if painter.legend:
        from matplotlib.patches import Patch

        patches = [Patch(facecolor=colour, label=plain(name)) for name, colour in painter.legend.items()]
        figure.legend(
            handles=patches, loc="outside lower center", ncols=min(len(patches), 7), frameon=False, fontsize=8.5
        )
    return figure


def _firsts(cases: Sequence[NetworkCase]) -> list[int]:
    """Return the number of the first row of each case."""
    counts = [1 + len(case.crops) for case in cases]
    return [sum(counts[:place]) for place in range(len(counts))]


def _wrapped(title: str) -> str:
    """Return the title of a column in lines of its width: networks of a table often differ in their last word."""
    return "\n".join(plain(line, 26) for line in wrap(title, 26, max_lines=3, placeholder="…"))


def _show(axes: Any, view: _View | None, *, titled: bool) -> None:
    from matplotlib.patches import Rectangle

    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    if view is None:
        return
    axes.imshow(view.pixels, interpolation="nearest")
    # A mask that is white everywhere would not stand out from the page.
    axes.spines[:].set(visible=True, color=GRID, linewidth=0.6)
    if titled:
        axes.set_title(_wrapped(view.title), fontsize=9, color=INK)
    if view.corner:
        axes.text(
            0.97, 0.97, view.corner, transform=axes.transAxes, ha="right", va="top", fontsize=8.5, color="white",
            fontweight="bold", bbox={"facecolor": "black", "alpha": 0.55, "linewidth": 0, "pad": 1.5},
        )  # fmt: skip
    for box, colour in view.boxes:
        scales = [size / n for size, n in zip(view.pixels.shape, view.shape, strict=False)]
        (top, bottom), (left, right) = (
            (part.start * scale - 0.5, part.stop * scale - 0.5) for part, scale in zip(box, scales, strict=True)
        )
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1.4))
    if view.frame:
        axes.spines[:].set(visible=True, color=view.frame, linewidth=2.0)


@dataclass(frozen=True)
class _Painter:
    """How masks of a look are painted."""

    look: Look
    colours: Mapping[int, str]
    legend: Mapping[str, str]

    @classmethod
    def of(
        cls, cases: Sequence[NetworkCase], look: Look, labels: Mapping[int, str], declared: Mapping[str, str]
    ) -> "_Painter":
        found = {
            int(value) for case in cases for mask in (case.truth, *case.masks.values()) for value in np.unique(mask)
        }
        values = sorted(found - {0})
        names = {value: labels.get(value, f"label {value}") for value in values}
        if look == "masks":
            return cls(look, dict.fromkeys(values, _WHITE), {})
        if look == "errors":
            return cls(look, {}, error_legend(several=len(values) > 1))
        tumours = TUMOUR_COLOURS if set(names.values()) <= set(TUMOUR_COLOURS) else {}
        ordered = list(dict.fromkeys([*labels.values(), *names.values()]))
        by_name = class_colours(ordered) | dict(tumours) | dict(declared)
        painted = {value: by_name[name] for value, name in names.items()}
        return cls(look, painted, {name: by_name[name] for name in names.values()})

    def rows(self, case: NetworkCase) -> list[list[_View | None]]:
        """Return the row of a case, and one row below it for each enlarged region."""
        first = next(iter(case.masks.values()))
        channel = case.channel
        if channel is None and case.image is not None:
            channel = choose_channel(case.image, case.truth, first)
        scene = Scene.of(
            case.image, [case.truth, *case.masks.values()], case.spacing, plane=case.plane, slice=case.slice or 0,
            channel=channel, longest=_LONGEST,
        ).without_zoom()  # fmt: skip
        boxes = tuple(zip(case.crops, _RECTANGLES * len(case.crops), strict=False))
        whole = self._row(case, scene, boxes, frame="", corners=True)
        return [whole, *(self._row(case, replace(scene, box=box), (), colour, corners=False) for box, colour in boxes)]

    def _row(
        self, case: NetworkCase, scene: Scene, boxes: tuple[tuple[Box, str], ...], frame: str, *, corners: bool
    ) -> list[_View | None]:
        truth = scene.cut(case.truth)
        shape = truth.shape
        image = None
        if case.image is not None:
            image = _View(scene.draw(np.zeros(shape, np.uint8), {}), "Image", "", frame, boxes, shape)
        row = [image, _View(self._paint(scene, truth, truth), "Ground truth", "", frame, boxes, shape)]
        for name, mask in case.masks.items():
            corner = f"{case.scores[name]:.2f}" if corners else ""
            row.append(_View(self._paint(scene, truth, scene.cut(mask)), name, corner, frame, boxes, shape))
        return row if image is not None else row[1:]

    def _paint(self, scene: Scene, truth: npt.NDArray[Any], mask: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        if self.look == "masks":
            return replace(scene, base=np.zeros_like(scene.base)).draw(mask, self.colours, opacity=1.0)
        if self.look == "classes":
            return scene.draw(mask, self.colours, opacity=0.6)
        errors, tints = classify_errors(truth, mask)
        return scene.draw(errors, tints, opacity=0.65)
