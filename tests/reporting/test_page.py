"""The report: one page that needs nothing else, and says what it does not have."""

import base64
import json
import re
import shutil
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from deconvseg.data import Geometry, LabelMap, write_label_map
from deconvseg.errors import InputError
from deconvseg.evaluation import evaluate
from deconvseg.reporting import gallery, write_report
from deconvseg.reporting.gallery import Album, Showing, choose_cases
from deconvseg.reporting.overlay import case_views
from deconvseg.reporting.records import read_evaluation, read_run
from deconvseg.reporting.sections import describe_evaluation
from html_pages import Page

LABELS = {1: "head", 2: "tail <&>"}


def blob(centre, radius, shape=(24, 28, 12)):
    grid = np.indices(shape) - np.reshape(centre, (3, 1, 1, 1))
    return (grid**2).sum(axis=0) < radius**2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run folder of five synthetic cases, as ``train`` leaves it: one case missed, one without prediction."""
    root = tmp_path_factory.mktemp("report")
    run, truth = root / "run", root / "truth"
    rng = np.random.default_rng(0)
    images = {}
    geometry = Geometry(np.array([[0, -1.0, 0, 5], [1.0, 0, 0, -3], [0, 0, 2.0, 9], [0, 0, 0, 1]]))
    for index, name in enumerate(("good", "fair", "poor", "missed", "absent")):
        true = np.where(blob((10, 10, 6), 6), 1, 0) + np.where(blob((10, 22, 6), 4), 2, 0)
        found = np.roll(true, index, axis=0) * (name != "missed")
        write_label_map(LabelMap(true, geometry), truth / f"{name}.nii.gz")
        if name != "absent":
            write_label_map(LabelMap(found, geometry), run / "validation" / f"{name}.nii.gz")
        pixels = (true * 50 + rng.normal(0, 5, true.shape)).astype(np.float32)
        images[name] = [root / f"{name}_{channel}.nii.gz" for channel in range(2)]
        for file in images[name]:
            nib.save(nib.Nifti1Image(pixels, geometry.affine), file)
    evaluate(truth, run / "validation", run / "validation" / "metrics.json", labels=LABELS, images=images)
    rows = [
        {
            "epoch": e,
            "step": 5 * e,
            "seconds": 40.0 * e,
            "train_loss": 1 / (e + 1),
            "learning_rate": 1e-3,
            "val_dice": 0.7,
        }
        for e in range(3)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plan = {
        "version": 1,
        "dataset": "Blobs <script>alert(1)</script>",
        "spacing": [1.0, 1.0, 2.0],
        "patch_size": [24, 28, 12],
        "channels": [{"name": "T1", "normalisation": "zscore"}],
        "labels": {"values": [0, 1, 2], "names": ["background", *LABELS.values()]},
        "model": {"name": "deconver", "config": {"widths": [8, 16]}},
        "recipe": {"name": "default", "epochs": 3, "learning_rate": 1e-3},
        "reasons": {"patch_size": "the whole volume fits"},
        "warnings": ["only about 45 steps fit into 20 s"],
    }
    (run / "plan.json").write_text(json.dumps(plan))
    (run / "config.json").write_text(json.dumps({"dataset": "blobs", "seed": 7}))
    manifest = {
        "deconvseg": "0.1.0",
        "packages": {"torch": "2.13.0"},
        "machine": {"cores": 2},
        "command": "deconvseg train blobs -o run",
        "git_commit": "a" * 40,
        "files": {"weights.safetensors": "b" * 64},
    }
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run


@pytest.fixture(scope="module")
def page(folder):
    return Page(write_report(folder))


@pytest.fixture(scope="module")
def text(page):
    return page.text


@pytest.fixture
def run(folder, tmp_path):
    """A copy to take things from."""
    return Path(shutil.copytree(folder, tmp_path / "run"))


class TestSelfContained:
    def test_nothing_is_fetched_and_only_the_pages_own_script_runs(self, page):
        assert not {"link", "iframe", "object"} & set(page.tags)
        assert page.tags.count("script") == 1
        script = page.source.split("<script>")[1].split("</script>")[0]
        allowed = base64.b64encode(sha256(script.encode()).digest()).decode()
        assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'" in (
            page.attributes
        )
        assert "http:" not in page.source
        assert "https:" not in page.source
        assert not any(value.startswith("//") or "url(" in value for value in page.attributes)
        assert "@import" not in page.source

    def test_every_picture_decodes_and_is_described(self, page):
        kinds = set()
        for picture in page.pictures:
            head, content = picture["src"].split(",", 1)
            kinds.add(head)
            raw = base64.b64decode(content, validate=True)
            if head == "data:image/svg+xml;base64":
                assert ElementTree.fromstring(raw).tag.endswith("svg")
            else:
                Image.open(BytesIO(raw)).load()
            assert picture["alt"]
        assert kinds == {"data:image/svg+xml;base64", "data:image/jpeg;base64"}
        # The curves, two charts, and of each of the four cases four pictures of the axial slice and four of the others.
        assert len(page.pictures) == 1 + 2 + 4 * 8

    def test_names_are_text_never_markup(self, page):
        assert "Blobs <script>alert(1)</script>" in page.text
        assert "tail <&>" in page.text

    def test_light_dark_and_paper(self, page):
        for rule in ("prefers-color-scheme: dark", "@media print"):
            assert rule in page.source


class TestLinks:
    def test_every_link_has_its_one_anchor(self, page):
        assert len(page.ids) == len(set(page.ids))
        assert page.links
        assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)

    def test_rows_lead_to_pictures_and_back(self, page):
        for number in range(1, 5):
            assert f"#evaluation-1-case-{number}" in page.links
            assert f"#evaluation-1-row-{number}" in page.links

    def test_every_section_is_in_the_table_of_contents(self, page):
        for anchor in ("overview", "evaluation-1", "evaluation-1-cases", "next", "training", "plan", "reading"):
            assert f"#{anchor}" in page.links

    def test_pictures_of_cases_are_loaded_when_they_are_seen(self, page):
        cases = [picture for picture in page.pictures if picture["src"].startswith("data:image/jpeg")]
        assert all(picture["loading"] == "lazy" and picture["width"] and picture["height"] for picture in cases)


class TestColours:
    def test_a_class_has_one_colour_in_tables_pictures_and_charts(self, folder, page):
        (head, tail) = colours = list(read_run(folder).colours.values())
        charts = [base64.b64decode(p["src"].split(",")[1]).decode() for p in page.pictures if "svg" in p["src"][:20]]
        for colour in colours:
            # In the first screen, the table of classes, and the legend of each case.
            assert page.source.count(f'fill="{colour}"') >= 6
            assert all(colour in chart for chart in charts[:2])
        assert head != tail

    def test_are_those_that_the_plan_declares(self, run):
        plan = json.loads((run / "plan.json").read_text())
        (run / "plan.json").write_text(json.dumps({**plan, "colours": {"head": "#123456"}}))
        page = Page(write_report(run))
        assert page.source.count('fill="#123456"') >= 6
        charts = [base64.b64decode(p["src"].split(",")[1]).decode() for p in page.pictures if "svg" in p["src"][:20]]
        assert all("#123456" in chart for chart in charts[:2])


class TestSize:
    def test_pictures_end_where_the_page_is_full(self, folder):
        record = read_evaluation(folder / "validation" / "metrics.json", folder)
        album = Album(most=100_000)
        panels = describe_evaluation(record, Showing(album=album))["panels"]
        drawn = [panel for panel in panels if panel["rows"]]
        assert 0 < len(drawn) < len(panels)
        assert "the pictures on this page already take 0.1 MB" in panels[-1]["note"]
        largest = max(sum(len(view["uri"]) for row in panel["rows"] for view in row) for panel in drawn)
        assert album.used < album.most + largest

    def test_the_page_says_how_large_it_is(self, folder, page):
        said = float(re.search(r"One file of ([0-9.]+) MB", page.text)[1])
        assert said == pytest.approx(len(page.source.encode()) / 1e6, abs=0.1)


class TestContent:
    def test_headline_and_table_are_the_numbers_of_metrics_json(self, folder, text):
        metrics = json.loads((folder / "validation" / "metrics.json").read_text())
        for row in (*metrics["summary"]["classes"].values(), metrics["summary"]["mean"]):
            assert f"{row['dsc']['mean']:.3f}" in text
            assert "{:.3f} to {:.3f}".format(*row["dsc"]["ci95"]) in text
            assert f"{row['hd95']['mean']:.2f}" in text
        assert "Missed 2 of 8" in text
        assert "False alarms" not in text.split("Metrics by class")[0]
        assert "NSD at 1 mm" in text

    def test_the_worst_cases_come_first(self, text):
        headings = [
            text.index(heading) for heading in ("Worst missed", "2nd worst poor", "3rd worst fair", "Best good")
        ]
        assert headings == sorted(headings)
        assert "axial slice 6 of 12, the one with the most wrong voxels" in text
        assert "channel 1 of 2, in which the truth stands out most" in text
        assert "head missed, tail <&> missed" in text

    def test_problems(self, text):
        assert "1 of 5 cases could not be evaluated" in text
        assert "absent: no prediction has this name" in text

    def test_plan_command_versions_and_hashes(self, text):
        for phrase in (
            "Patch size 24 × 28 × 12 the whole volume fits",
            "Channel T1 normalised by zscore",
            "model.config.widths 8, 16",
            "deconvseg train blobs -o run",
            "torch 2.13.0",
            "git commit " + "a" * 40,
            "b" * 64,
            "seed 7",
            "Training time 1 min 20 s",
            "Best Dice 0.700 (epoch 1)",
        ):
            assert phrase in text

    def test_the_rule_for_empty_masks_and_the_colours(self, text):
        assert "HD95 the diagonal of the image, HD95 defined dropped" in text
        assert "Dropped values are in no mean" in text
        assert "true positives blue, false positives green, false negatives red" in text


class TestFurtherEvaluations:
    def test_are_shown_first_with_their_split(self, run, tmp_path):
        tree = json.loads((run / "validation" / "metrics.json").read_text())
        shutil.copytree(run / "validation", tmp_path / "test")
        (tmp_path / "test" / "metrics.json").write_text(json.dumps(tree | {"split": "test"}))
        path = write_report(run, evaluations=[tmp_path / "test" / "metrics.json"], output=tmp_path / "page.html")
        assert path == tmp_path / "page.html"
        text = Page(path).text
        assert text.index("Held-out test: test") < text.index("Validation")

    def test_metrics_of_the_foreground_stand_for_any_labels(self, run, tmp_path):
        plan = json.loads((run / "plan.json").read_text())
        labels = {"values": [0, 255], "names": ["background", "blob"]}
        (run / "plan.json").write_text(json.dumps({**plan, "labels": labels}))
        masks, metrics = run / "validation", tmp_path / "metrics.json"
        evaluate(masks, masks, metrics, foreground=True)
        assert "foreground" in Page(write_report(run, evaluations=[metrics])).text
        evaluate(masks, masks, metrics)
        with pytest.raises(InputError, match="has metrics of the labels 1, 2, which .* was not trained on"):
            write_report(run, evaluations=[metrics])

    def test_something_else_is_refused(self, run):
        with pytest.raises(InputError, match="not a metrics.json of version 1"):
            write_report(run, evaluations=[run / "plan.json"])
        with pytest.raises(InputError, match="does not exist"):
            write_report(run, evaluations=[run / "nowhere.json"])


class TestSources:
    """A section names the run that made its masks."""

    def test_the_runs_own_are_said_to_be(self, text):
        assert "metrics.json of validation, in this run's folder" in text
        assert "another run" not in text

    def test_another_runs_are_labelled(self, run, folder, tmp_path):
        other = Path(shutil.copytree(folder, tmp_path / "other"))
        plan = json.loads((other / "plan.json").read_text())
        (other / "plan.json").write_text(json.dumps({**plan, "dataset": "Other"}))
        text = Page(write_report(run, evaluations=[other / "validation" / "metrics.json"])).text
        assert "Evaluation: validation (another run)" in text
        assert "masks made by another run, other" in text
        assert "Not this run's masks" in text

    def test_what_was_recorded_counts_wherever_the_file_lies(self, run, folder, tmp_path):
        truth, metrics = tmp_path / "truth", tmp_path / "metrics.json"
        shutil.copytree(folder / "validation", truth)
        evaluate(truth, truth, metrics, labels=LABELS)
        assert "does not record which run made the masks" in Page(write_report(run, evaluations=[metrics])).text
        tree = json.loads(metrics.read_text())
        for plan, expected in ((run / "plan.json", "masks made by this run"), (run / "config.json", "another run, x")):
            origin = {"runs": [{"name": "x", "plan_sha256": sha256(plan.read_bytes()).hexdigest()}]}
            metrics.write_text(json.dumps({**tree, "origin": origin}))
            assert expected in Page(write_report(run, evaluations=[metrics])).text


@pytest.fixture(scope="module")
def blank(tmp_path_factory):
    root = tmp_path_factory.mktemp("blank")
    for index in range(28):
        true = np.zeros((20, 24), np.uint8)
        true[5:9, 6:12] = index >= 15
        name = f"{'lesion' if index >= 15 else 'healthy'}{index:02d}"
        for side, pixels in (("truth", true), ("found", np.zeros_like(true))):
            write_label_map(LabelMap(pixels, Geometry.identity(2)), root / side / f"{name}.png")
    evaluate(root / "truth", root / "found", root / "validation" / "metrics.json", labels={1: "lesion"})
    return root


class TestBlankModel:
    """Nothing on the page looks good."""

    def test_cards_and_chosen_cases(self, blank):
        text = Page(write_report(blank)).text
        assert "Mean Dice 0.536" in text
        assert "Dice with truth 0.000" in text
        assert "13 of 28 cases have any" in text
        assert "Missed 13 of 13" in text
        assert "False alarms 0 of 15" in text
        assert "every prediction is empty: 13 of 13 structures are missed" in text
        for rank in ("Best", "Median", "Worst", "6th worst"):
            assert f"{rank} lesion" in text

    def test_a_false_alarm_in_a_healthy_case_is_shown_beside_them(self, blank, tmp_path):
        root = Path(shutil.copytree(blank, tmp_path / "alarm"))
        write_label_map(LabelMap(np.ones((20, 24), np.uint8), Geometry.identity(2)), root / "found" / "healthy03.png")
        evaluate(root / "truth", root / "found", root / "validation" / "metrics.json", labels={1: "lesion"})
        text = Page(write_report(root)).text
        assert "Largest false alarm healthy03" in text
        assert "False alarms 1 of 15" in text

    def test_no_truth_at_all(self, blank, tmp_path):
        root = Path(shutil.copytree(blank, tmp_path / "healthy"))
        for side in ("truth", "found"):
            for file in (root / side).glob("lesion*"):
                file.unlink()
        evaluate(root / "truth", root / "found", root / "validation" / "metrics.json", labels={1: "lesion"})
        text = Page(write_report(root)).text
        assert "Dice with truth –" in text
        assert "no true mask has any of the classes" in text


def test_the_warnings_of_the_plan_are_shown(text):
    assert "only about 45 steps fit into 20 s" in text


def test_names_cannot_hide_or_reorder_what_a_page_says(tmp_path):
    name = "scan\u202egnp\x1b[31m\u200b[red]"
    for side in ("truth", "found"):
        write_label_map(LabelMap(np.eye(8, dtype=np.uint8), Geometry.identity(2)), tmp_path / side / f"{name}.png")
    evaluate(tmp_path / "truth", tmp_path / "found", tmp_path / "validation" / "metrics.json", labels={1: "a\u202eb"})
    page = Page(write_report(tmp_path))
    assert r"scan\u202egnp\x1b[31m\u200b[red]" in page.text
    assert r"a\u202eb" in page.text
    assert not set(page.source) & {"\u202e", "\x1b", "\u200b"}


def test_the_mean_says_how_many_classes_it_is_over(tmp_path):
    labels = {value: f"organ {value}" for value in range(1, 118)}
    pixels = np.zeros((12, 12), np.uint8)
    pixels[3:8, 3:8] = 1
    for side, mask in (("truth", pixels), ("found", np.zeros_like(pixels))):
        write_label_map(LabelMap(mask, Geometry.identity(2)), tmp_path / side / "a.png")
    evaluate(tmp_path / "truth", tmp_path / "found", tmp_path / "validation" / "metrics.json", labels=labels)
    text = Page(write_report(tmp_path)).text
    assert "Mean Dice 0.000" in text
    assert "116 classes that are in no mask left out" in text
    assert "mean over 1 of 117 classes" in text
    assert (
        "116 classes are in no true or predicted mask of any case, and not part of the mean: organ 2, organ 3" in text
    )
    assert "organ 117" in text


class TestGaps:
    @pytest.mark.parametrize(
        "name", ["plan.json", "config.json", "manifest.json", "metrics.jsonl", "validation/metrics.json"]
    )
    def test_each_missing_file_is_named(self, run, name):
        (run / name).unlink()
        assert f"{name} (" in Page(write_report(run)).text

    @pytest.mark.faults
    def test_damaged_files_are_named(self, run):
        (run / "manifest.json").write_text("{")
        with (run / "metrics.jsonl").open("a") as file:
            file.write('{"epoch"')
        text = Page(write_report(run)).text
        assert "manifest.json is not valid JSON" in text
        assert "metrics.jsonl: line 4 is not a row of metrics" in text
        assert "Optimiser steps" in text

    @pytest.mark.faults
    @pytest.mark.parametrize(
        ("key", "value"), [("model", []), ("labels", {"values": "1"}), ("channels", [3]), ("reasons", {"spacing": 1})]
    )
    def test_a_plan_with_entries_of_wrong_types_is_named(self, run, key, value):
        plan = json.loads((run / "plan.json").read_text())
        (run / "plan.json").write_text(json.dumps({**plan, key: value}))
        assert re.search(rf"plan\.json: '{key}.*the file is damaged", Page(write_report(run)).text)

    @pytest.mark.parametrize(
        "row", [{"val_dice": [1]}, {"seconds": {}}, {"val_cases": [], "val_cases_of": 3}, {"x": "1"}]
    )
    def test_a_row_of_metrics_that_holds_no_numbers_is_left_out(self, run, row):
        with (run / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({"epoch": 3, **row}))
        assert "metrics.jsonl: line 4 is not a row of metrics" in Page(write_report(run)).text

    @pytest.mark.faults
    def test_a_spread_over_folds_that_is_damaged_is_named(self, run):
        metrics = run / "validation" / "metrics.json"
        tree = json.loads(metrics.read_text())
        metrics.write_text(json.dumps({**tree, "spread": {"classes": {"1": {"name": "head", "dsc": "high"}}}}))
        assert "metrics.json: 'spread.classes.1.dsc'" in Page(write_report(run)).text

    @pytest.mark.faults
    @pytest.mark.parametrize(
        ("spread", "where"),
        [
            ({"mean": {}}, "test.spread.classes"),
            ({"mean": {}, "classes": {"1": {"name": "head", "counted": True, "dsc": 3}}}, "test.spread.classes.1.dsc"),
            ({"mean": {"dsc": {"mean": "high"}}, "classes": {}}, "test.spread.mean.dsc"),
        ],
    )
    def test_scores_of_test_cases_that_are_damaged_are_named(self, run, spread, where):
        metrics = run / "validation" / "metrics.json"
        tree = json.loads(metrics.read_text())
        metrics.write_text(json.dumps({**tree, "test": {"cases": 2, "folds": [], "spread": spread}}))
        assert f"metrics.json: '{where}" in Page(write_report(run)).text

    def test_masks_and_images_that_are_gone(self, run):
        (run / "validation" / "good.nii.gz").unlink()
        tree = json.loads((run / "validation" / "metrics.json").read_text())
        for case in tree["cases"]:
            case["image_files"] = [] if case["name"] == "poor" else ["nowhere.nii.gz"]
        (run / "validation" / "metrics.json").write_text(json.dumps(tree))
        text = Page(write_report(run)).text
        assert "No picture:" in text
        assert "without its image:" in text
        assert "masks only" in text

    def test_an_evaluation_without_any_case(self, run):
        for path in (run / "validation").glob("*.nii.gz"):
            path.write_bytes(b"broken")
        evaluate(run.parent / "run" / "validation", run / "validation", run / "validation" / "metrics.json")
        assert "No case could be evaluated" in Page(write_report(run)).text

    def test_not_a_run(self, tmp_path):
        with pytest.raises(InputError, match="no such folder"):
            write_report(tmp_path / "nowhere")
        with pytest.raises(InputError, match="no plan, no metrics and no masks"):
            write_report(tmp_path)


@pytest.mark.parametrize(
    ("dices", "expected"),
    [
        ([0.5], [("Only case", "c0")]),
        ([0.2, 0.9], [("Worst", "c0"), ("Best", "c1")]),
        ([0.2, 0.9, 0.5], [("Worst", "c0"), ("Median", "c2"), ("Best", "c1")]),
        ([0.5, 0.5, 0.5], [("Worst", "c2"), ("Median", "c1"), ("Best", "c0")]),
        ([0.1, 0.2, 0.3, 0.4, 0.5], [("Worst", "c0"), ("Median", "c2"), ("Best", "c4")]),
        ([], []),
    ],
)
def test_the_chosen_cases_differ(dices, expected):
    cases = [{"name": f"c{index}", "mean": {"dsc": value}} for index, value in enumerate(dices)]
    assert [(rank, case["name"]) for rank, case in choose_cases(cases, worst=1)] == expected


def test_the_worst_cases_are_as_many_as_asked_for():
    cases = [{"name": f"c{index:02d}", "mean": {"dsc": index / 30}} for index in range(30)]
    chosen = choose_cases(cases, worst=23)
    assert [case["name"] for _, case in chosen] == [f"c{index:02d}" for index in [*range(23), 29]]
    ranks = [rank for rank, _ in chosen]
    assert [ranks[place] for place in (0, 1, 2, 10, 20, 21, 23)] == [
        *("Worst", "2nd worst", "3rd worst", "11th worst", "21st worst", "22nd worst", "Best")
    ]


def test_2d_cases_in_pixels_and_many_classes(tmp_path):
    rng = np.random.default_rng(0)
    labels = {value: f"class {value}" for value in range(1, 21)}
    for name in ("a", "b"):
        pixels = rng.integers(0, 21, (40, 50)).astype(np.uint8)
        for side in ("truth", "prediction"):
            write_label_map(LabelMap(pixels, Geometry.identity(2)), tmp_path / side / f"{name}.png")
    evaluate(tmp_path / "truth", tmp_path / "prediction", tmp_path / "validation" / "metrics.json", labels=labels)
    page = Page(write_report(tmp_path))
    text = page.text
    assert "HD95 (pixels)" in text
    assert "NSD at 1 pixel ↑" in text
    assert "Cases, lowest Dice first:" in text
    assert "Worst cases" not in text
    assert "NSD at 1\N{NO-BREAK SPACE}pixel\N{NO-BREAK SPACE}↑" in page.source


def test_pictures_leave_out_ignored_voxels_and_paint_regions_in_their_order(tmp_path, monkeypatch):
    """What is drawn is what is scored."""
    truth, prediction = np.zeros((6, 8), np.int16), np.zeros((6, 8), np.int16)
    truth[0, :4], truth[1, :4], truth[2, :4], truth[4:] = 1, 2, 4, 9
    prediction[0, :3], prediction[1, :3], prediction[2, :3], prediction[4:] = 1, 2, 4, 2
    for side, pixels in (("imagesTr/a_0000", truth), ("labelsTr/a", truth), ("found/a", prediction)):
        write_label_map(LabelMap(pixels, Geometry.identity(2)), tmp_path / f"{side}.png")
    labels = {"background": 0, "whole": [1, 2, 4], "core": [2, 4], "ignore": 9}
    record = {"channel_names": {"0": "grey"}, "labels": labels, "regions_class_order": [1, 2]}
    (tmp_path / "dataset.json").write_text(json.dumps(record))
    evaluate(tmp_path, tmp_path / "found", tmp_path / "metrics.json")
    drawn = []

    def draw(image, truth, prediction, **options):
        drawn.append((truth, prediction, options["labels"]))
        return case_views(image, truth, prediction, **options)

    monkeypatch.setattr(gallery, "case_views", draw)
    describe_evaluation(read_evaluation(tmp_path / "metrics.json", tmp_path))
    ((true, found, names),) = drawn
    assert names == {1: "whole", 2: "core"}
    assert true.tolist() == np.select([np.isin(truth, (2, 4)), truth == 1], [2, 1]).tolist()
    assert not found[4:].any()
    assert found[:3, :3].tolist() == [[1] * 3, [2] * 3, [2] * 3]
