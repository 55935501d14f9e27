"""DICOM segmentations before tools of others: a validator, another reader, and a server with DICOMweb."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from deconvseg.data import Geometry, list_readers
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.inference import predict

pytest.importorskip("highdicom", reason="highdicom is not installed")

import pydicom

from deconvseg.integrations.dicom import Algorithm, CodedSegment, find_code, write_segmentation
from deconvseg.integrations.dicom.codes import UNKNOWN
from deconvseg.integrations.dicom.web import Address, fetch, store
from dicom_series import AXIAL, CORONAL, SAGITTAL, GeneratedSeries, oblique, save_picture, save_series
from plans import volume_run

pytestmark = pytest.mark.service

# What OHIF reads segmentations with, and what puts it into one file.
CORNERSTONE = (
    *("@cornerstonejs/adapters@5.14.0", "@cornerstonejs/core@5.14.0", "dcmjs@0.52.0"),
    *("@babel/runtime@8.1.3", "esbuild@0.28.2"),
)
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "reader", "of the test"
SEGMENTS = [
    CodedSegment(1, "left kidney", "#cc6677", find_code("left kidney") or UNKNOWN),
    CodedSegment(2, "right kidney tumour", "#44aa99", find_code("right kidney tumour") or UNKNOWN),
    CodedSegment(3, "class 3", "#ddcc77", UNKNOWN),
]
ORIENTATIONS = {
    "axial": AXIAL,
    "sagittal": SAGITTAL,
    "coronal": CORONAL,
    "oblique": oblique((10, -20, 35)),
}


def written(folder: Path, *, kind: Any = "binary", empty: bool = False, **options: Any) -> tuple[GeneratedSeries, Any]:
    """A segmentation ``folder/seg.dcm`` of a generated series, and its mask, whose third segment has no voxel."""
    shape = (9, 16, 12)
    series = save_series(folder / "series", np.random.default_rng(0).integers(0, 900, shape), **options)
    mask = np.zeros(series.pixels.shape, np.uint8)
    if not empty:
        mask[2:6, 3:9, 2:5], mask[7:10, 10:14, 4:7] = 1, 2
    pixels: Any = np.stack([mask == n for n in (1, 2, 3)]).astype(np.float32) / 2 if kind == "fractional" else mask
    write_segmentation(
        pixels,
        Geometry(series.affine),
        folder / "seg.dcm",
        series=series.files,
        segments=SEGMENTS,
        algorithm=Algorithm("deconvseg deconver", "deconver", ("ab" * 32,)),
        kind=kind,
    )
    return series, mask


@pytest.mark.parametrize("against_normal", [False, True])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize(
    "kind, empty, multi_frame",
    [("binary", False, False), ("binary", True, False), ("binary", False, True), ("fractional", False, False)],
)
def test_dciodvfy_finds_no_errors(
    tmp_path: Path, orientation: str, against_normal: bool, kind: str, empty: bool, multi_frame: bool
) -> None:
    tool = shutil.which("dciodvfy")
    if tool is None:
        pytest.skip("dciodvfy is not installed: apt-get install dicom3tools")
    options = {"orientation": ORIENTATIONS[orientation], "against_normal": against_normal, "multi_frame": multi_frame}
    written(tmp_path, kind=kind, empty=empty, **options)
    done = subprocess.run([tool, "-new", str(tmp_path / "seg.dcm")], capture_output=True, text=True, check=False)
    assert "Segmentation" in done.stderr
    assert not [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")], done.stderr


def test_dciodvfy_finds_no_errors_in_that_of_a_picture(tmp_path: Path) -> None:
    tool = shutil.which("dciodvfy")
    if tool is None:
        pytest.skip("dciodvfy is not installed: apt-get install dicom3tools")
    picture = save_picture(tmp_path / "picture", np.zeros((7, 9)))
    made_by = Algorithm("deconvseg deconver", "deconver")
    mask = np.eye(7, 9, dtype=np.uint8)
    write_segmentation(
        mask, Geometry.identity(2), tmp_path / "seg.dcm", series=picture.files, segments=SEGMENTS, algorithm=made_by
    )
    done = subprocess.run([tool, "-new", str(tmp_path / "seg.dcm")], capture_output=True, text=True, check=False)
    assert not [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")], done.stderr


@pytest.mark.parametrize("against_normal", [False, True])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_dcmqi_reads_the_same_voxels_at_the_same_places(tmp_path: Path, orientation: str, against_normal: bool) -> None:
    series, mask = written(tmp_path, orientation=ORIENTATIONS[orientation], against_normal=against_normal)
    read = tmp_path / "read"
    read.mkdir()
    packages = os.pathsep.join([str(Path(sys.prefix) / "services"), os.environ.get("PYTHONPATH", "")])
    called = [sys.executable, "-c", "import sys, dcmqi; sys.exit(dcmqi.segimage2itkimage())"]
    options = ["--inputDICOM", str(tmp_path / "seg.dcm"), "--outputDirectory", str(read), "-t", "nii"]
    environment = os.environ | {"PYTHONPATH": packages}
    done = subprocess.run([*called, *options], capture_output=True, text=True, check=False, env=environment)
    if "No module named 'dcmqi'" in done.stderr:
        pytest.skip("dcmqi is not installed; `make test-services` installs it")
    assert done.returncode == 0, done.stdout + done.stderr
    for segment in SEGMENTS[:2]:
        image = nibabel.load(read / f"{segment.value}.nii.gz")
        places = np.argwhere(np.asarray(image.dataobj))
        voxels = np.column_stack([places, np.ones(len(places))]) @ (np.linalg.inv(series.affine) @ image.affine).T
        assert np.abs(voxels - np.rint(voxels)).max() < 0.01
        again = np.zeros(mask.shape, bool)
        again[tuple(np.rint(voxels[:, :3]).astype(int).T)] = True
        np.testing.assert_array_equal(again, mask == segment.value)
    described = json.loads((read / "meta.json").read_text())["segmentAttributes"]
    labels = {entry["SegmentLabel"] for group in described for entry in group}
    assert labels >= {segment.name for segment in SEGMENTS[:2]}


@pytest.fixture(scope="module")
def cornerstone() -> list[str]:
    """The command of ``cornerstone.mjs``, with its packages of npm in the environment of the services."""
    if shutil.which("npm") is None:
        pytest.skip("Node is not installed (Debian's nodejs and npm)")
    place = Path(sys.prefix) / "services" / "cornerstone"
    place.mkdir(parents=True, exist_ok=True)
    program = place / "cornerstone.mjs"
    program.write_text(Path(__file__).with_name("cornerstone.mjs").read_text())
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(place), *CORNERSTONE]
    # Its modules are for bundlers, and expect the names of a browser.
    browser = "globalThis.document={createElement:()=>({getContext(){},style:{}}),addEventListener(){}};"
    names = f"globalThis.window=globalThis.self=globalThis;{browser}globalThis.navigator??={{userAgent:'node'}};"
    options = [
        "--bundle",
        "--platform=node",
        "--log-level=error",
        f"--banner:js={names}",
        f"--outfile={place}/read.cjs",
    ]
    for command in (install, [str(place / "node_modules/.bin/esbuild"), str(program), *options]):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=400)
        assert done.returncode == 0, done.stdout + done.stderr
    return ["node", str(place / "read.cjs")]


@pytest.mark.parametrize("against_normal", [False, True])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_cornerstone_shows_the_same_voxels_on_the_same_images(
    tmp_path: Path, cornerstone: list[str], orientation: str, against_normal: bool
) -> None:
    series, mask = written(tmp_path, orientation=ORIENTATIONS[orientation], against_normal=against_normal)
    command = [*cornerstone, str(tmp_path / "seg.dcm"), *map(str, series.files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    # A slice of Cornerstone has its rows one after the other; the mask is (columns, rows, slices).
    columns, rows, slices = mask.shape
    np.testing.assert_array_equal(np.reshape(shown["labels"], (slices, rows, columns)).transpose(2, 1, 0), mask)
    assert shown["names"] == [segment.name for segment in SEGMENTS]


@dataclass(frozen=True)
class Orthanc:
    """A server on the loopback address."""

    port: int

    @property
    def address(self) -> str:
        return f"dicomweb://127.0.0.1:{self.port}/dicom-web"

    def ask(self, path: str) -> Any:
        """Return the answer of its own interface, which is not DICOMweb."""
        opener = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        opener.add_password(None, f"http://127.0.0.1:{self.port}/", USER, PASSWORD)
        handler = urllib.request.HTTPBasicAuthHandler(opener)
        with urllib.request.build_opener(handler).open(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """A real server with an empty store, which asks for a password."""
    if shutil.which("Orthanc") is None or not PLUGIN.exists():
        pytest.skip("Orthanc is not installed: apt-get install orthanc orthanc-dicomweb")
    folder = tmp_path_factory.mktemp("orthanc")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "StorageDirectory": str(folder / "store"),
        "IndexDirectory": str(folder / "store"),
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(["Orthanc", str(folder / "orthanc.json")], stdout=log, stderr=log)
        try:
            for _ in range(120):
                assert server.poll() is None, (folder / "log").read_text()[-2000:]
                with socket.socket() as tried:
                    if tried.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.5)
            yield Orthanc(port)
        finally:
            server.terminate()
            server.wait(30)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOMWEB_USERNAME", USER)
    monkeypatch.setenv("DICOMWEB_PASSWORD", PASSWORD)


@pytest.mark.usefixtures("credentials")
def test_a_study_and_its_segmentation_go_through_orthanc_unchanged(tmp_path: Path, orthanc: Orthanc) -> None:
    series, _ = written(tmp_path)
    store(Address.parse(orthanc.address), [*series.files, tmp_path / "seg.dcm"])
    for part in (f"/studies/{series.study_uid}", f"/studies/{series.study_uid}/series/{series.uid}"):
        folder = tmp_path / f"fetched{part.count('/')}"
        folder.mkdir()
        count = fetch(Address.parse(f"{orthanc.address}{part}"), folder)
        assert count == len(series.files) + ("series/" not in part)
        found = {data.SOPInstanceUID: data for data in map(pydicom.dcmread, folder.iterdir())}
        for file in series.files:
            sent = pydicom.dcmread(file)
            assert found[sent.SOPInstanceUID].PixelData == sent.PixelData
        if "series/" not in part:
            sent = pydicom.dcmread(tmp_path / "seg.dcm")
            assert found[sent.SOPInstanceUID].PixelData == sent.PixelData
            assert found[sent.SOPInstanceUID].SegmentSequence == sent.SegmentSequence
    stored = [orthanc.ask(f"/series/{uid}")["MainDicomTags"]["Modality"] for uid in orthanc.ask("/series")]
    assert sorted(stored) == ["CT", "SEG"]


@pytest.mark.skipif("dicom" not in list_readers(), reason="no reader of DICOM is installed")
@pytest.mark.usefixtures("credentials")
def test_a_prediction_comes_from_a_server_and_is_stored_there(tmp_path: Path, orthanc: Orthanc) -> None:
    series, _ = written(tmp_path)
    store(Address.parse(orthanc.address), series.files)
    run = volume_run(tmp_path / "run")
    study = f"{orthanc.address}/studies/{series.study_uid}"
    done = predict(study, run, tmp_path / "masks", device="cpu", to=orthanc.address)
    (made,) = done.written
    folder = tmp_path / "again"
    folder.mkdir()
    assert fetch(Address.parse(study), folder) == len(series.files) + 1
    uid = pydicom.dcmread(made).SOPInstanceUID
    (stored,) = [data for data in map(pydicom.dcmread, folder.iterdir()) if data.SOPInstanceUID == uid]
    assert stored.PixelData == pydicom.dcmread(made).PixelData
    assert stored.ReferencedSeriesSequence[0].SeriesInstanceUID == series.uid
    # The segmentation in the study is no series to predict.
    again = predict(study, run, tmp_path / "masks2", device="cpu")
    assert len(again.written) == 1


@pytest.mark.usefixtures("credentials")
def test_errors_name_the_server_and_what_to_do(
    tmp_path: Path, orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DeconvsegError, match=r"http://127.0.0.1:\d+/dicom-web.*1\.2\.3"):
        fetch(Address.parse(f"{orthanc.address}/studies/1.2.3"), tmp_path)
    monkeypatch.setenv("DICOMWEB_PASSWORD", "wrong")
    with pytest.raises(InputError, match="refuses access.*DICOMWEB_PASSWORD"):
        fetch(Address.parse(f"{orthanc.address}/studies/1.2.3"), tmp_path)
    with pytest.raises(DeconvsegError, match="cannot be reached"):
        fetch(Address.parse("dicomweb://127.0.0.1:9/studies/1.2.3"), tmp_path)
