"""A module of 3D Slicer that segments volumes of the scene by ``deconvseg predict``, in another process.

Slicer finds it in a folder of Edit > Application Settings > Modules > Additional module paths. deconvseg stays in the
environment where it is installed: the module calls its command. The logic uses Python alone and needs no Slicer.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import ctk
    import qt
    import slicer
    from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleWidget
except ImportError:  # outside of Slicer, where only the logic is used
    ScriptedLoadableModule = ScriptedLoadableModuleWidget = object

# The colours of deconvseg's reports, for classes whose dataset declares none (Okabe and Ito, 2008).
COLOURS = ("56b4e9", "e69f00", "cc79a7", "009e73", "d55e00", "0072b2", "f0e442")
_CASE = "scan"
# Variables by which Slicer points programs at its own Python and libraries.
_OF_SLICER = ("PYTHONHOME", "PYTHONPATH", "PYTHONNOUSERSITE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True)
class Segment:
    """A class of a mask: its value, its name, and its colour as three numbers between 0 and 1."""

    value: int
    name: str
    colour: tuple[float, float, float]


class PredictionError(Exception):
    """What ``deconvseg`` said about its failure."""


class DeconvSegmentationLogic:
    """Files of volumes to a segmentation file, by the command ``deconvseg``."""

    def __init__(self, command: str = "deconvseg", environment: Mapping[str, str] | None = None) -> None:
        self.command = command
        given = os.environ if environment is None else environment
        self.environment = {name: value for name, value in given.items() if name not in _OF_SLICER}

    def name_channels(self, folder: Path, count: int) -> list[Path]:
        """Return the files in which the channels of a scan are expected, in the order of the network."""
        return [folder / (f"{_CASE}.nrrd" if count == 1 else f"{_CASE}_{number:04d}.nrrd") for number in range(count)]

    def segment(
        self, scans: Path, masks: Path, model: str, options: Sequence[str] = (), tell: Callable[[str], None] = print
    ) -> Path:
        """Predict the scan in a folder, and return its mask as ``.seg.nrrd``, which has the names of the classes.

        ``tell`` receives each line that the command prints. Raises :class:`PredictionError` with the last one.
        """
        program = shutil.which(self.command, path=self.environment.get("PATH"))
        if program is None:
            raise PredictionError(f"{self.command} is not found; give the path of the command deconvseg")
        call = [program, "predict", "-i", str(scans), "-o", str(masks), "-m", model, *options]
        last = "it printed nothing"
        with subprocess.Popen(
            call,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                last = line.strip() or last
                tell(last)
        mask = masks / f"{_CASE}.nrrd"
        if process.returncode != 0 or not mask.is_file():
            raise PredictionError(last)
        return mask.rename(masks / f"{_CASE}.seg.nrrd")

    def read_segments(self, mask: Path) -> list[Segment]:
        """Return the classes of a ``.seg.nrrd`` in the order of the file; those without a colour get a default."""
        fields = dict(self._read_fields(mask))
        segments = []
        for number in range(len(fields)):
            if (name := fields.get(f"Segment{number}_Name")) is None:
                break
            default = COLOURS[number % len(COLOURS)]
            parts = fields.get(f"Segment{number}_Color")
            numbers = [part / 255 for part in bytes.fromhex(default)] if parts is None else map(float, parts.split())
            red, green, blue = numbers
            segments.append(Segment(int(fields[f"Segment{number}_LabelValue"]), name, (red, green, blue)))
        return segments

    @staticmethod
    def _read_fields(mask: Path) -> Iterator[tuple[str, str]]:
        """Yield the key/value pairs of a NRRD header, which ends with an empty line."""
        with mask.open("rb") as stream:
            for line in stream:
                text = line.decode("utf-8", errors="replace").rstrip("\r\n")
                if not text:
                    return
                key, separator, value = text.partition(":=")
                if separator:
                    yield key, value


class DeconvSegmentation(ScriptedLoadableModule):
    """The entry of the module in Slicer's menu."""

    def __init__(self, parent: Any) -> None:
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = "deconvseg"
        parent.categories = ["Segmentation"]
        parent.dependencies = []
        parent.contributors = ["The deconvseg developers"]
        parent.helpText = "Segments volumes of the scene by a run of deconvseg, which is installed outside of Slicer."
        parent.acknowledgementText = ""


class DeconvSegmentationWidget(ScriptedLoadableModuleWidget):
    """The panel: volumes, the run, the command, further options, and what the command says."""

    def setup(self) -> None:
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        form = qt.QFormLayout()
        self.volumes = [self._volume_box(required=number == 0) for number in range(4)]
        for number, box in enumerate(self.volumes, 1):
            form.addRow(f"Channel {number}", box)
        self.run, self.command = ctk.ctkPathLineEdit(), ctk.ctkPathLineEdit()
        self.run.filters = ctk.ctkPathLineEdit.Dirs
        self.command.filters = ctk.ctkPathLineEdit.Files
        settings = qt.QSettings()
        self.run.currentPath = settings.value("deconvseg/run") or ""
        self.command.currentPath = settings.value("deconvseg/command") or "deconvseg"
        self.options = qt.QLineEdit()
        self.options.placeholderText = "further options, such as --tta --memory 8G"
        self.button = qt.QPushButton("Segment")
        self.button.connect("clicked()", self.segment)
        self.said = qt.QPlainTextEdit()
        self.said.readOnly = True
        for title, part in (("Run", self.run), ("Command", self.command), ("Options", self.options)):
            form.addRow(title, part)
        form.addRow(self.button)
        form.addRow(self.said)
        self.layout.addLayout(form)
        self.layout.addStretch(1)

    def segment(self) -> None:
        """Segment the chosen volumes and add the segmentation to the scene."""
        nodes = [node for node in (box.currentNode() for box in self.volumes) if node is not None]
        if not nodes or not self.run.currentPath:
            slicer.util.errorDisplay("Choose a volume and a run first.")
            return
        settings = qt.QSettings()
        settings.setValue("deconvseg/run", self.run.currentPath)
        settings.setValue("deconvseg/command", self.command.currentPath)
        self.said.clear()
        self.button.enabled = False
        try:
            self._segment(nodes)
        except PredictionError as error:
            slicer.util.errorDisplay(f"deconvseg: {error}")
        finally:
            self.button.enabled = True

    def _segment(self, nodes: Sequence[Any]) -> None:
        logic = DeconvSegmentationLogic(self.command.currentPath, slicer.util.startupEnvironment())
        with _folder() as folder:
            (folder / "scans").mkdir()
            for node, path in zip(nodes, logic.name_channels(folder / "scans", len(nodes))):
                if not slicer.util.exportNode(node, str(path), world=True):
                    raise PredictionError(f"the volume {node.GetName()} cannot be written to {path}")
            options = self.options.text.split()
            mask = logic.segment(folder / "scans", folder / "masks", self.run.currentPath, options, self._tell)
            loaded = slicer.util.loadSegmentation(str(mask), {"name": f"{nodes[0].GetName()} deconvseg"})
            segmentation = loaded.GetSegmentation()
            for found in logic.read_segments(mask):
                segment = segmentation.GetSegment(segmentation.GetSegmentIdBySegmentName(found.name))
                if segment is not None:
                    segment.SetColor(*found.colour)
        loaded.SetReferenceImageGeometryParameterFromVolumeNode(nodes[0])
        loaded.CreateClosedSurfaceRepresentation()

    def _tell(self, line: str) -> None:
        self.said.appendPlainText(line)
        slicer.app.processEvents()

    def _volume_box(self, *, required: bool) -> Any:
        box = slicer.qMRMLNodeComboBox()
        box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        box.addEnabled = box.removeEnabled = box.renameEnabled = False
        box.noneEnabled = not required
        box.setMRMLScene(slicer.mrmlScene)
        if not required:
            box.setCurrentNode(None)
        return box


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="deconvseg-") as folder:
        yield Path(folder)
