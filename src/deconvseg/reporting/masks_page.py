"""A folder of predicted masks as one HTML page: a contact sheet, and a table of volumes and warnings."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

from deconvseg.data import Image, LabelMap, class_colours
from deconvseg.errors import DeconvsegError
from deconvseg.reporting.gallery import Album, name_channel, picture_of
from deconvseg.reporting.masks import MaskFolder, PredictedMask, measure_volumes, read_mask_folder
from deconvseg.reporting.overlay import Scene, choose_channel
from deconvseg.reporting.picking import busiest_slice
from deconvseg.reporting.rendering import Section, render_page
from deconvseg.reporting.tables import Cell, Column, Row, Table
from deconvseg.system import write_text

Location = str | PathLike[str]
MOST_PICTURES = 200
_LONGEST_SIDE = 320


@dataclass(frozen=True)
class _Sheet:
    """A mask on the sheet: its picture, its volumes by class name, and remarks about it."""

    mask: PredictedMask
    picture: dict[str, Any] | None
    volumes: dict[str, float]
    remarks: list[str]
    where: str
    unit: str


@dataclass(frozen=True)
class _Page:
    folder: MaskFolder
    most: int
    album: Album = field(default_factory=Album)

    @cached_property
    def sheets(self) -> list[_Sheet]:
        """Every mask, those with remarks first."""
        drawn = [self._describe(mask, picture=place < self.most) for place, mask in enumerate(self._ordered)]
        return sorted(drawn, key=lambda sheet: not sheet.remarks)

    @property
    def _ordered(self) -> list[PredictedMask]:
        """The masks, those with warnings first, so that they get pictures."""
        return sorted(self.folder.masks, key=lambda mask: not (mask.warnings or mask.doubtful))

    @cached_property
    def colours(self) -> dict[str, str]:
        """The colours of all classes that occur, by name."""
        names = dict.fromkeys([*self.folder.labels.values(), *(name for s in self.sheets for name in s.volumes)])
        return class_colours(list(names)) | dict(self.folder.colours)

    def _describe(self, mask: PredictedMask, *, picture: bool) -> _Sheet:
        try:
            pixels, image = mask.read()
        except DeconvsegError as error:
            return _Sheet(mask, None, {}, [f"cannot be read: {error}"], "", "")
        volumes = {self._name(value): volume for value, volume in measure_volumes(pixels).items()}
        remarks = [*(["doubtful"] if mask.doubtful else []), *mask.warnings]
        if not volumes and not any("empty" in text for text in remarks):
            remarks.append("the mask is empty")
        shown, where = self._draw(mask.name, pixels, image) if picture and not self.album.full else (None, "")
        return _Sheet(mask, shown, volumes, remarks, where, "mL" if pixels.pixels.ndim == 3 else "pixels")

    def _name(self, value: int) -> str:
        return self.folder.labels.get(value, f"label {value}")

    def _draw(self, name: str, mask: LabelMap, image: Image | None) -> tuple[dict[str, Any], str]:
        volume = mask.pixels.ndim == 3
        slice = busiest_slice(mask.pixels, mask.pixels) if volume else 0
        pixels = None if image is None else image.pixels
        channel = None if pixels is None else choose_channel(pixels, mask.pixels, mask.pixels)
        scene = Scene.of(
            pixels, [mask.pixels], mask.geometry.spacing, slice=slice, channel=channel, longest=_LONGEST_SIDE
        )
        whole = scene.without_zoom()
        values = sorted(measure_volumes(mask))
        names = {value: self._name(value) for value in values}
        known = class_colours([*self.folder.labels.values(), *names.values()]) | dict(self.folder.colours)
        drawn = whole.draw(whole.cut(mask.pixels), {value: known[text] for value, text in names.items()}, opacity=0.35)
        placed = volume and mask.geometry.placed
        picture = picture_of(name, drawn, whole.width, "mm" if volume else "pixels", self.album, placed=placed)
        where = f"slice {slice + 1} of {mask.shape[2]}" if volume else ""
        if channel is not None and pixels is not None and len(pixels) > 1:
            where += f", {name_channel(channel, len(pixels), ())}"
        return picture, where.removeprefix(", ")


def write_mask_report(
    masks: Location,
    *,
    images: Location | None = None,
    output: Location | None = None,
    most: int = MOST_PICTURES,
) -> Path:
    """Write a folder of predicted masks as one self-contained HTML page; return its path (``report.html`` in it).

    For each mask the page shows the slice with the largest shares of its classes, drawn over the image if ``images`` (a
    folder, a dataset or a file) has it, the volume of each class, and the warnings of ``predict``. ``cases`` limits the
    number of pictures. There are no scores, because there is no truth. Raises
    :class:`~deconvseg.errors.InputError` if there are no masks.

    Example:
        >>> from deconvseg.reporting import write_mask_report
        >>> write_mask_report("MASKS", images="SCANS", output="masks.html").name
        'masks.html'

    """
    folder = read_mask_folder(Path(masks), None if images is None else Path(images))
    page = _Page(folder, most)
    target = folder.path / "report.html" if output is None else Path(output)
    made = f" · made by {', '.join(folder.runs)}" if folder.runs else ""
    count = len(folder.masks)
    content = render_page(
        title=folder.path.absolute().name,
        subtitle=f"{count} predicted mask{'' if count == 1 else 's'}{made}",
        sections=[section for build in _SECTIONS for section in build(page)],
    )
    write_text(target, content)
    return target


def _overview(page: _Page) -> Iterator[Section]:
    sheets = page.sheets
    lead = [f"{len(sheets)} mask{'' if len(sheets) == 1 else 's'}, without a truth to compare them with: no scores."]
    flagged = sum(bool(sheet.remarks) for sheet in sheets)
    if flagged:
        lead.append(f"{flagged} of them {'has' if flagged == 1 else 'have'} a remark and come first.")
    if not any(sheet.mask.images for sheet in sheets):
        lead.append("The scans were not given, so the masks are shown without them.")
    elif missing := [sheet.mask.name for sheet in sheets if not sheet.mask.images]:
        lead.append(f"Shown without a scan, because none was found: {', '.join(missing[:8])}"
                    + (f" and {len(missing) - 8} more." if len(missing) > 8 else "."))  # fmt: skip
    content = {"lead": lead, "notes": [], "colours": page.colours, "tables": [], "figures": [], "panels": []}
    yield Section("overview", "In brief", "blocks", content)


def _pictures(page: _Page) -> Iterator[Section]:
    shown = [sheet for sheet in page.sheets if sheet.picture]
    if shown:
        left = len(page.sheets) - len(shown)
        yield Section(
            "pictures", "Masks in pictures", "sheet", {"sheets": [_tell(page, s) for s in shown], "left": left}
        )


def _tell(page: _Page, sheet: _Sheet) -> dict[str, Any]:
    place = page.sheets.index(sheet) + 1
    return {
        "anchor": f"case-{place}",
        "row": f"row-{place}",
        "name": sheet.mask.name,
        "picture": sheet.picture,
        "volumes": [(name, page.colours[name], format_volume(v, sheet.unit)) for name, v in sheet.volumes.items()],
        "remarks": sheet.remarks,
        "where": sheet.where,
    }


def format_volume(value: float, unit: str) -> str:
    """Return a volume with three significant digits, or a whole number of pixels.

    >>> format_volume(12.3456, "mL"), format_volume(65536.0, "pixels")
    ('12.3 mL', '65,536 pixels')
    """
    return f"{value:,.0f} {unit}" if unit == "pixels" or value >= 100 else f"{value:.3g} {unit}"


def _table(page: _Page) -> Iterator[Section]:
    names = list(page.colours)
    unit = next((sheet.unit for sheet in page.sheets if sheet.unit), "")
    columns = (
        Column("Case"),
        *(Column(name, unit, colour=page.colours[name]) for name in names),
        Column("Remarks", words=True),
    )
    rows = []
    for place, sheet in enumerate(page.sheets, 1):
        cells = [_volume_cell(sheet, name) for name in names]
        head = Cell(sheet.mask.name, link=f"case-{place}" if sheet.picture else "")
        rows.append(Row((head, *cells, Cell("; ".join(sheet.remarks))), f"row-{place}"))
    table = Table(columns, tuple(rows), sortable=True).without_empty_columns()
    content = {"lead": [], "notes": [], "colours": {}, "tables": [("", table)], "figures": [], "panels": []}
    yield Section("cases", "All masks", "blocks", content)


def _volume_cell(sheet: _Sheet, name: str) -> Cell:
    value = sheet.volumes.get(name, 0.0)
    return Cell(format_volume(value, sheet.unit).split()[0], value=value) if sheet.unit else Cell("–")


_SECTIONS: Sequence[Callable[[_Page], Iterator[Section]]] = (_overview, _pictures, _table)
