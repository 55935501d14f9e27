"""Labels as a person declares them: texts, files of other programs, and what is refused."""

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deconvseg.data import (
    DeclaredLabels,
    Region,
    declare_labels,
    label_entries,
    open_dataset,
    parse_label,
    read_label_file,
)
from deconvseg.data.labels.label_files import NoLabelFileError
from deconvseg.data.layouts.naming import labels_beside
from deconvseg.errors import InputError

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9 _.-]{0,8}[A-Za-z0-9]", fullmatch=True).map(lambda t: " ".join(t.split()))
COLOURS = st.tuples(*[st.integers(0, 255)] * 3).map(lambda rgb: "#{:02x}{:02x}{:02x}".format(*rgb))
CLASSES = st.dictionaries(
    st.integers(-5, 300).filter(bool),
    st.tuples(NAMES.filter(lambda name: name.lower() not in ("background", "ignore")), st.none() | COLOURS),
    min_size=1,
    max_size=6,
)


def declare(*texts):
    return declare_labels(map(parse_label, texts), "here")


def distinct(classes):
    """Leave out names that differ in capitals alone."""
    kept = {}
    for value, (name, colour) in classes.items():
        if all(other == name or other.casefold() != name.casefold() for other, _ in kept.values()):
            kept[value] = (name, colour)
    return kept


@given(CLASSES)
def test_what_is_declared_is_declared_again_by_its_texts(classes):
    texts = [f"{v}={name}" + (f":{colour}" if colour else "") for v, (name, colour) in distinct(classes).items()]
    declared = declare(*texts)
    again = declare(*(str(entry) for entry in label_entries(declared)))
    assert (again.names, again.merged, again.ignore) == (declared.names, declared.merged, declared.ignore)
    assert {name for name, _ in distinct(classes).values()} == set(declared.names.values()) - {"background"}


@given(CLASSES)
def test_files_of_three_kinds_declare_what_the_texts_do(tmp_path_factory, classes):
    folder, classes = tmp_path_factory.mktemp("labels"), distinct(classes)
    expected = declare(*(f"{v}={name}" + (f":{colour}" if colour else "") for v, (name, colour) in classes.items()))
    tree = {str(v): {"name": name, **({"colour": c} if c else {})} for v, (name, c) in classes.items()}
    (folder / "a.json").write_text(json.dumps(tree))
    rows = "".join(f"{v};{name};{colour or ''}\n" for v, (name, colour) in classes.items())
    (folder / "b.csv").write_text(f"\ufeffValue;Name;Color\n{rows}", encoding="utf-8")
    (folder / "c.txt").write_text("# labels\n" + "".join(f"{entry}\n" for entry in label_entries(expected)))
    for name in ("a.json", "b.csv", "c.txt"):
        found = declare_labels(read_label_file(folder / name), name)
        assert (found.names, found.merged, found.colours) == (expected.names, expected.merged, expected.colours)


def test_values_of_one_name_are_one_class_and_ignore_is_none():
    found = declare("1=kidney:#ff0000", "2=kidney", "4=tumour", "254=ignore", "255=ignore")
    assert found == DeclaredLabels(
        names={0: "background", 1: "kidney", 4: "tumour"},
        ignore=254,
        merged={2: 1, 255: 254},
        colours={"kidney": "#ff0000"},
        colour_values={"#ff0000": 1},
    )


def test_regions_are_written_as_the_label_that_no_inner_one_has():
    found = declare("whole tumour=1,2,3:#00ff00", "core=2,3", "enhancing=3", "1=oedema")
    assert found.regions == (
        Region("whole tumour", (1, 2, 3), 1),
        Region("core", (2, 3), 2),
        Region("enhancing", (3,), 3),
    )
    assert found.names == {0: "background", 1: "oedema", 2: "label 2", 3: "label 3"}
    assert found.colours == {"whole tumour": "#00ff00"}
    # nnU-Net's way to write classes: names first, one value each, are no regions.
    assert declare("organ=1", "lesion=2").regions is None


ITK_SNAP = """\
################################################
# ITK-SnAP Label Description File
################################################
    0     0    0    0        0  0  0    "Clear Label"
    1   255    0    0        1  1  1    "Left kidney"
    2     0  255    0        1  1  1    "Right kidney"
"""
SLICER = "# Color table file\n0 Background 0 0 0 0\n1 Left_kidney 255 0 0 255\n2 Right_kidney 0 255 0 255\n"
SLICER_CSV = "LabelValue,Name,Color_R,Color_G,Color_B,Color_A\n1,Left kidney,255,0,0,255\n2,Right kidney,0,1.0,0,255\n"
BIDS = "index\tname\tcolor\n0\tBackground\t#000000\n1\tLeft kidney\t#ff0000\n2\tRight kidney\t#0f0\n"
NNUNET = json.dumps({"labels": {"background": 0, "Left kidney": 1, "Right kidney": 2}, "numTraining": 3})
COLOURS_BESIDE = json.dumps({"labels": {"1": "Left kidney", "2": "Right kidney"}, "colors": {"2": [0, 255, 0]}})


@pytest.mark.parametrize(
    ("name", "text", "colours"),
    [
        ("labels.txt", ITK_SNAP, 2),
        ("labels.ctbl", SLICER.replace("_", " "), 2),
        ("labels.csv", SLICER_CSV, 2),
        ("dseg.tsv", BIDS, 2),
        ("dataset.json", NNUNET, 0),
        ("labels.json", COLOURS_BESIDE, 1),
    ],
)
def test_files_of_other_programs_are_read(tmp_path, name, text, colours):
    (tmp_path / name).write_text(text)
    found = declare_labels(read_label_file(tmp_path / name), name)
    assert found.names == {0: "background", 1: "Left kidney", 2: "Right kidney"}
    assert dict(list({"Right kidney": "#00ff00", "Left kidney": "#ff0000"}.items())[:colours]) == found.colours


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["organ"], "'organ' declares no label; write 1=organ"),
        (["1="], "declares no label"),
        (["1=2"], "the name of 1 is '2'; give a name with letters"),
        (["1=a,b"], "the name 'a,b' has a ',', which separates names"),
        (["1=a/b"], "has a '/'"),
        (["1=organ:red"], "'red' is not a colour; write it as #rrggbb"),
        (["organ=1,x"], "'1,x' are no values"),
        (["organ=1,1"], "organ lists a value twice"),
        (["1=organ", "1=lesion"], "here: the value 1 has two names, 'organ' and 'lesion'; keep one"),
        (["1=organ", "2=Organ"], "differ in capitals alone"),
        (["1=background"], "0 is the background"),
        (["0=ignore"], "0 is the background"),
        (["1=organ:#f00", "1=organ:#0f0"], "organ has two colours"),
        (["a=1,2", "b=2,3"], "a mask cannot hold these regions"),
        (["a=1,2", "b=1", "c=2"], "the region a has no label of its own"),
        (["a=0,1", "b=2,3"], "the region a has 0, which is not a class"),
        (["a=1,2", "a=1,3"], "the region a is declared twice"),
        ([], "declares no label"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(texts, message):
    with pytest.raises(InputError) as error:
        declare(*texts)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "value,name\n1,organ\nx,lesion\n", "a.csv, line 3: the value is 'x'"),
        ("a.csv", "value,name\n1,\n", "a.csv, line 2: the name of 1 is ''"),
        ("a.csv", "value,name,colour\n1,organ,red\n", "a.csv, line 2: the colour of organ: 'red' is not a colour"),
        ("a.csv", "value,name,red,green,blue\n1,organ,300,0,0\n", "line 2: '300' is not a colour component"),
        ("a.csv", "image,label\na.png,b.png\n", "a.csv has the columns image, label, but labels need value and name"),
        ("a.json", '{"1": "organ", "1": "lesion"}', "the key '1' is there twice"),
        ("a.json", '{"labels": {"1": "organ"}, "colours": {"lesion": "#f00"}}', "'lesion', which is not a label"),
        ("a.json", '["organ"]', 'a.json names no labels; write {"1": "organ"'),
        ("a.txt", "organ\n", "a.txt, line 1: 'organ' is not a label"),
        ("a.txt", "1=or:gan\n", "a.txt, line 1: 'gan' is not a colour"),
        ("a.txt", "", "names no label"),
        ("a.xml", "", "a.xml is neither a label file (.json"),
    ],
)
def test_a_wrong_file_names_itself_and_the_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as error:
        read_label_file(tmp_path / name)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"absent.json does not exist"):
        read_label_file(tmp_path / "absent.json")


def test_a_dataset_s_own_names_give_way_name_by_name(balls):
    before = open_dataset(balls)
    value = max(before.label_names)
    after = open_dataset(balls, labels=[f"{value}=renamed:#123456"])
    assert after.label_names == {**before.label_names, value: "renamed"}
    assert after.label_colours == {"renamed": "#123456"}
    (told,) = [problem for problem in after.problems if "names a label differently" in problem.message]
    assert (told.severity, f"{value} is 'renamed', as `labels` says" in told.message) == ("warning", True)
    assert open_dataset(balls, labels=[f"{value}={before.label_names[value]}"]).problems == before.problems


def test_a_name_of_another_value_of_the_dataset_is_refused(balls):
    names = open_dataset(balls).label_names
    (value, name), (other, taken) = [item for item in names.items() if item[0]][:2]
    with pytest.raises(InputError, match=f"`labels`: {value} is '{taken}', but so is {other} in the dataset; give"):
        open_dataset(balls, labels=[f"{value}={taken}"])
    swapped = open_dataset(balls, labels=[f"{value}={taken}", f"{other}={name}"])
    assert swapped.label_names == {**names, value: taken, other: name}
    merged = open_dataset(balls, labels=[f"{value}={taken}", f"{other}={taken}"])
    assert (merged.label_names[value], merged.merged_labels) == (taken, {other: value})


def test_a_file_in_the_folder_changes_no_dataset_that_declares_its_labels(balls, tmp_path):
    shutil.copytree(balls, tmp_path / "balls")
    (tmp_path / "balls" / "labels.json").write_text('{"3": "other", "9": "more"}')
    before, after = open_dataset(balls), open_dataset(tmp_path / "balls")
    assert (after.label_names, after.problems) == (before.label_names, ())


def test_colours_in_fractions_may_write_one_without_a_point(tmp_path):
    (tmp_path / "labels.csv").write_text("value,name,r,g,b\n1,a,1,0.5,0\n2,b,1.0,0,0\n")
    assert [entry.colour for entry in read_label_file(tmp_path / "labels.csv")] == ["#ff8000", "#ff0000"]
    (tmp_path / "labels.csv").write_text("value,name,r,g,b\n1,a,1,128,0\n2,b,1,0,0\n")
    assert [entry.colour for entry in read_label_file(tmp_path / "labels.csv")] == ["#018000", "#010000"]


def test_a_table_of_images_in_the_folder_is_no_table_of_labels(balls, tmp_path):
    root = shutil.copytree(balls, tmp_path / "balls")
    (root / "dataset.json").unlink(missing_ok=True)
    (root / "labels.csv").write_text("id,class\nscan_a,benign\nscan_b,malignant\n")
    with pytest.raises(NoLabelFileError, match="has no number in its column id; the first is 'scan_a'"):
        read_label_file(root / "labels.csv")
    _, (problem,) = labels_beside(root)
    assert problem.severity == "warning"
    assert problem.message.endswith("has no number in its column id; the first is 'scan_a'")
