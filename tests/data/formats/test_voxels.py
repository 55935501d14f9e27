"""Headers of NRRD and MetaImage are followed as far as they can be trusted, their streams to the checksum."""

import bz2
import gzip
import os
import zlib

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from deconvseg.data import LabelMap, read_header, read_image, read_label_map, write_label_map
from deconvseg.data.file_names import files_of
from deconvseg.errors import InputError
from refusals import is_refused

PIXELS = np.random.default_rng(0).integers(0, 3000, (5, 4, 3), dtype=np.int16)
RAW = PIXELS.tobytes(order="F")


def metaimage(path, data=RAW, ending="LOCAL", **changed):
    """A MetaImage by hand; a field that is None is left out."""
    fields = {
        "ObjectType": "Image", "NDims": 3, "BinaryData": True, "BinaryDataByteOrderMSB": False, "CompressedData": False,
        "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "0 0 0", "ElementSpacing": "1 1 1", "DimSize": "5 4 3",
        "ElementType": "MET_SHORT", **changed, "ElementDataFile": ending,
    }  # fmt: skip
    lines = [f"{name} = {value}" for name, value in fields.items() if value is not None]
    path.write_bytes(("\n".join(lines) + "\n").encode() + data)
    return path


def nrrd(path, data=RAW, **changed):
    fields = {
        "type": "short", "dimension": 3, "space": "left-posterior-superior", "sizes": "5 4 3",
        "space directions": "(1,0,0) (0,1,0) (0,0,1)", "endian": "little", "encoding": "raw", **changed,
    }  # fmt: skip
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    path.write_bytes(("NRRD0004\n" + "\n".join(lines) + "\n\n").encode() + data)
    return path


@pytest.mark.faults
@pytest.mark.parametrize("encoding", ["gzip", "bzip2", "zlib"])
def test_a_wrong_checksum_is_told(tmp_path, encoding):
    packed = {"gzip": gzip.compress, "bzip2": bz2.compress, "zlib": zlib.compress}[encoding](RAW)
    # In every bit of these: the checksum, the length, and what comes before them.
    for place in range(len(packed) - 8, len(packed)):
        changed = bytearray(packed)
        changed[place] ^= 16
        if encoding == "zlib":
            path = metaimage(tmp_path / "a.mha", bytes(changed), CompressedData=True, CompressedDataSize=len(packed))
        else:
            path = nrrd(tmp_path / "a.nrrd", bytes(changed), encoding=encoding)
        is_refused(path, "is truncated or not a readable")


@pytest.mark.parametrize(
    "packed", [gzip.compress(RAW + b"x" * 5), gzip.compress(RAW[:-2]), gzip.compress(RAW) + b"more"]
)
def test_other_numbers_than_the_header_describes_are_told(tmp_path, packed):
    is_refused(nrrd(tmp_path / "a.nrrd", packed, encoding="gzip"), "is truncated or not a readable NRRD")


@pytest.mark.parametrize("name", ["/etc/passwd", "../a.raw", "sub/../../a.raw", "C:\\a.raw", "/dev/zero"])
def test_a_header_reads_nothing_outside_of_its_folder(tmp_path, name):
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "a.raw").write_bytes(RAW)
    for path in (
        metaimage(folder / "a.mhd", b"", name),
        metaimage(folder / "list.mhd", f"{name}\n".encode(), "LIST"),
        nrrd(folder / "a.nhdr", b"", **{"data file": name}),
    ):
        is_refused(path, "outside of its own folder")
        assert files_of(path) == (path,)


def test_whole_paths_lead_into_the_header_s_own_folder(tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to(folder)
    for data in (folder / "a.raw", folder / "sub" / "b.raw"):
        data.write_bytes(RAW)
        for named in (data, tmp_path / "link" / data.relative_to(folder)):
            for path in (
                metaimage(folder / "a.mhd", b"", str(named)),
                metaimage(folder / "list.mhd", f"{named}\n".encode(), "LIST"),
                nrrd(folder / "a.nhdr", b"", **{"data file": str(named)}),
            ):
                opened = tmp_path / "link" / path.name if named.is_relative_to(tmp_path / "link") else path
                assert np.array_equal(read_image(opened).pixels[0], PIXELS)
    is_refused(metaimage(folder / "a.mhd", b"", str(folder / ".." / "folder" / "a.raw")), "outside of its own folder")
    is_refused(metaimage(folder / "a.mhd", b"", f"{folder}2/a.raw"), "outside of its own folder")


def test_several_data_files_are_one_image(tmp_path):
    for number in range(3):
        (tmp_path / f"slice{number:02d}.raw").write_bytes(PIXELS[..., number].tobytes(order="F"))
    listed = "".join(f"slice{number:02d}.raw\n" for number in range(3)).encode()
    written = [
        metaimage(tmp_path / "list.mhd", listed, "LIST"),
        metaimage(tmp_path / "pattern.mhd", b"", "slice%02d.raw 0 2 1"),
        nrrd(tmp_path / "pattern.nhdr", b"", **{"data file": "slice%02d.raw 0 2 1"}),
    ]
    path = nrrd(tmp_path / "list.nhdr", b"", **{"data file": "LIST"})
    path.write_bytes(path.read_bytes()[:-1] + listed)
    for path in (*written, tmp_path / "list.nhdr"):
        assert np.array_equal(read_image(path).pixels[0], PIXELS), path
        assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T, PIXELS), path
        assert len(files_of(path)) == 4


@pytest.mark.parametrize(
    "changed",
    [
        {"NDims": -1}, {"NDims": 2**31}, {"NDims": 1e308}, {"NDims": "nan"}, {"NDims": 4}, {"DimSize": "5 4 -3"},
        {"DimSize": "5 4"}, {"DimSize": "99999999 99999999 99999999"}, {"DimSize": "5 4 nan"}, {"NDims": None},
        {"TransformMatrix": "1e308 0 0 0 1 0 0 0 1"}, {"TransformMatrix": "0 0 0 0 0 0 0 0 0"},
        {"ElementSpacing": "0 1 1"}, {"ElementSpacing": "-1 1 1"}, {"ElementSpacing": "nan 1 1"}, {"Offset": "inf 0 0"},
        {"ElementType": "MET_STRING"}, {"ElementNumberOfChannels": "0"}, {"HeaderSize": "-5"},
        {"CompressedData": "yes"},
        {"ending": ""}, {"ending": "%03d"}, {"ending": "%s%s%n 1 2 1"}, {"ending": "a%03d.raw 1 999999999 1"},
        {"ending": "LIST"}, {"ending": "%999999999d 1 2 1"},
    ],
)  # fmt: skip
def test_a_metaimage_that_cannot_be_is_refused(tmp_path, changed):
    is_refused(metaimage(tmp_path / "a.mhd", **changed), "a.mhd")


@pytest.mark.parametrize(
    "changed",
    [
        {"dimension": -1}, {"dimension": 2**31}, {"dimension": 2}, {"sizes": "5 4 -3"}, {"sizes": "5 4 0"},
        {"sizes": "4294967296 4294967296 3"}, {"sizes": "5 4 99999"}, {"type": "block"}, {"type": None},
        {"endian": None},
        {"byte skip": -2}, {"byte skip": 99999}, {"line skip": 99999}, {"line skip": -1}, {"encoding": "zrl"},
        {"encoding": "gzip"}, {"encoding": "bzip2"}, {"encoding": "hex"}, {"encoding": "text"},
        {"space directions": "(1e308,0,0) (0,1,0) (0,0,1)"}, {"space directions": "(1,0,0) (1,0,0) (0,0,1)"},
        {"space directions": "none none none"}, {"space directions": "(1,0) (0,1) (0,0)"}, {"space origin": "(nan,1"},
        {"spaced directions": "(1,0,0) (0,1,0) (0,0,1)"}, {"kinds": "domain"}, {"data file": "a%03d.raw"},
        {"space units": '"mm" "um" "mm"'},
    ],
)  # fmt: skip
def test_a_nrrd_that_cannot_be_is_refused(tmp_path, changed):
    is_refused(nrrd(tmp_path / "a.nrrd", **changed), "a.nrrd")


def test_a_pipe_as_data_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.raw")
    is_refused(metaimage(tmp_path / "a.mhd", b"", "a.raw"), "keeps its voxels in .*a.raw, which is a pipe")
    is_refused(nrrd(tmp_path / "a.nhdr", b"", **{"data file": "a.raw"}), "which is a pipe")
    is_refused(nrrd(tmp_path / "b.nhdr", b"", **{"data file": "b.nhdr"}), "it belongs to another image|truncated")


@pytest.mark.parametrize(("unit", "scale"), [("mm", 1), ("m", 1e3), ("um", 1e-3), ("microns", 1e-3)])
def test_units_of_space_are_millimetres_and_go_back_into_the_mask(tmp_path, unit, scale):
    directions = " ".join(
        "(" + ",".join(f"{value / scale:.12g}" for value in row) + ")" for row in np.diag([0.5, 2, 3])
    )
    path = nrrd(tmp_path / "a.nrrd", **{"space directions": directions, "space units": f'"{unit}" "{unit}" "{unit}"'})
    image = read_image(path)
    assert image.geometry.spacing == pytest.approx((0.5, 2, 3))
    write_label_map(LabelMap(PIXELS, image.geometry), tmp_path / "mask.nrrd", like=path)
    assert read_label_map(tmp_path / "mask.nrrd").geometry.matches(image.geometry)
    itk = [sitk.ReadImage(str(tmp_path / name)).GetSpacing() for name in ("a.nrrd", "mask.nrrd")]
    assert itk[0] == pytest.approx(itk[1])  # who does not read units sees one grid too


def test_units_of_a_metaimage_and_a_lacking_spacing(tmp_path):
    path = metaimage(tmp_path / "a.mha", ElementSpacing="500 500 2000", DistanceUnits="um")
    image = read_image(path)
    assert image.geometry.spacing == pytest.approx((0.5, 0.5, 2))
    write_label_map(LabelMap(PIXELS, image.geometry), tmp_path / "mask.mha", like=path)
    assert read_label_map(tmp_path / "mask.mha").geometry.matches(image.geometry)
    assert sitk.ReadImage(str(tmp_path / "mask.mha")).GetSpacing() == pytest.approx((500, 500, 2000))
    assert "gives no spacing" in read_header(metaimage(tmp_path / "b.mha", ElementSpacing=None)).notes[0]


@pytest.mark.parametrize(
    "changed",
    [
        {"encoding": "text", "data": " ".join(map(str, PIXELS.ravel(order="F"))).encode()},
        {"encoding": "hex", "data": RAW.hex().encode()},
        {"endian": "big", "data": PIXELS.astype(">i2").tobytes(order="F")},
        {"line skip": 2, "data": b"one\ntwo\n" + RAW},
        {"byte skip": 7, "data": b"7 bytes" + RAW},
        {"byte skip": -1, "data": b"some bytes" + RAW},
        {"space directions": None, "space": None, "spacings": "1 2 3", "axis mins": "5 6 7"},
        {"space": "scanner-xyz", "space origin": "(1,2,3)"},
        {"space directions": "(2,0.1,0) (0,3,0.3) (0.5,0,4)", "space": "LAS", "space origin": "(1,2,3)"},
    ],
)  # fmt: skip
def test_a_nrrd_is_what_itk_reads(tmp_path, changed):
    path = nrrd(tmp_path / "a.nrrd", **changed)
    image, itk = read_image(path), sitk.ReadImage(str(path))
    assert np.array_equal(image.pixels[0], PIXELS)
    assert np.array_equal(sitk.GetArrayFromImage(itk).T, PIXELS)
    axes = np.diag([-1, -1, 1]) @ np.reshape(itk.GetDirection(), (3, 3)) * itk.GetSpacing()
    assert image.geometry.affine[:3, :3] == pytest.approx(axes)
    assert image.geometry.origin == pytest.approx(np.array([-1, -1, 1]) * itk.GetOrigin())


def test_bzip2_is_read_where_itk_cannot(tmp_path):
    path = nrrd(tmp_path / "a.nrrd", bz2.compress(RAW), encoding="bz2")
    assert np.array_equal(read_image(path).pixels[0], PIXELS)


def test_a_nrrd_with_its_numbers_per_voxel_last_is_read(tmp_path):
    fields = {"dimension": 4, "sizes": "5 4 3 2", "kinds": "domain domain domain vector",
              "space directions": "(1,0,0) (0,1,0) (0,0,1) none"}  # fmt: skip
    path = nrrd(tmp_path / "a.nrrd", RAW + (PIXELS + 1).tobytes(order="F"), **fields)
    assert np.array_equal(read_image(path, channels_last=True).pixels, [PIXELS, PIXELS + 1])
    with pytest.raises(InputError, match="has 2 numbers per voxel"):
        read_label_map(path)


@pytest.mark.parametrize("changed", [{"BinaryData": False}, {"BinaryDataByteOrderMSB": True}, {"HeaderSize": 9}])
def test_a_metaimage_is_what_itk_reads(tmp_path, changed):
    data = {
        "BinaryData": "".join(f"{number} " for number in PIXELS.ravel(order="F")).encode(),
        "BinaryDataByteOrderMSB": PIXELS.astype(">i2").tobytes(order="F"),
        "HeaderSize": b"9 bytes.." + RAW,
    }[next(iter(changed))]
    (tmp_path / "a.raw").write_bytes(data)
    path = metaimage(tmp_path / "a.mhd", b"", "a.raw", **changed)
    assert np.array_equal(read_image(path).pixels[0], PIXELS)
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T, PIXELS)
