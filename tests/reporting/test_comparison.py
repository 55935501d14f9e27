"""Runs side by side: what is common, what differs, and the numbers of the differences."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.stats import wilcoxon

from deconvseg.data import Geometry, LabelMap, write_label_map
from deconvseg.errors import InputError
from deconvseg.evaluation import evaluate
from deconvseg.reporting import write_network_figure
from deconvseg.reporting.comparison import compare_runs, write_comparison
from deconvseg.reporting.comparison.entries import count_parameters
from deconvseg.reporting.comparison.pictures import choose_changed
from html_pages import Page

LABELS = {1: "organ", 2: "lesion <&>"}
CASES = [f"case{number}" for number in range(8)]


def draw(number, shift):
    pixels = np.zeros((40, 40), np.uint8)
    pixels[8 + shift : 28 + shift, 6 : 20 + number] = 1
    pixels[12 + shift : 16 + shift, 30:36] = 2
    return pixels


def make_run(root, name, shifts, cases=CASES, **plan):
    """A run's folder whose predictions are shifted by so many pixels in each case."""
    run = root / name
    for number, case in enumerate(cases):
        write_label_map(LabelMap(draw(number, 0), Geometry.identity(2)), root / "truth" / f"{case}.png")
        found = LabelMap(draw(number, shifts[number]), Geometry.identity(2))
        write_label_map(found, run / "validation" / f"{case}.png")
    truth = root / f"truth of {name}"
    truth.mkdir()
    for case in cases:
        shutil.copy(root / "truth" / f"{case}.png", truth)
    evaluate(truth, run / "validation", run / "validation" / "metrics.json", labels=LABELS)
    tree = {
        "version": 1,
        "dataset": "squares",
        "labels": {"values": [0, 1, 2], "names": ["background", *LABELS.values()]},
        "model": {"name": "deconver", "config": {"widths": [8, 16]}},
        "reasons": {"model": f"of {name}"},
    }
    (run / "plan.json").write_text(json.dumps(tree | plan))
    (run / "config.json").write_text(json.dumps({"seed": 0, "epochs": 3}))
    rows = [{"epoch": e, "step": 10 * e + 10, "seconds": 60.0 * e + 60, "train_loss": 1 / (e + 1)} for e in range(3)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "splits.json").write_text(json.dumps({"train": ["a", "b"], "val": list(cases), "test": []}))
    (run / "manifest.json").write_text(json.dumps({"deconvseg": "0.1.0", "command": f"deconvseg train -o {name}"}))
    save_file({"a": np.zeros((3, 4), np.float32), "b": np.zeros(5, np.float32)}, run / "weights.safetensors")
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("comparison")
    return [
        make_run(root, "first", [3, 4, 2, 6, 1, 3, 2, 5]),
        make_run(root, "second", [1, 2, 2, 3, 2, 1, 1, 9], model={"name": "unet", "config": {"widths": [8, 16]}}),
        make_run(root, "third", [2] * 8),
    ]


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    output = tmp_path_factory.mktemp("page") / "compare.html"
    write_comparison(runs[:2], output, cases=3)
    return Page(output)


def dices(run, key="dsc"):
    tree = json.loads((run / "validation" / "metrics.json").read_text())
    return {case["name"]: case["mean"][key] for case in tree["cases"]}


class TestNumbers:
    def test_scores_are_those_of_the_evaluations(self, runs):
        found = compare_runs(runs)
        for place, run in enumerate(runs):
            assert found.scores[place, :, -1, 0].tolist() == pytest.approx([dices(run)[name] for name in found.cases])
            summary = json.loads((run / "validation" / "metrics.json").read_text())["summary"]["mean"]["dsc"]
            assert found.statistics[place][-1][0]["mean"] == pytest.approx(summary["mean"])
            assert found.statistics[place][-1][0]["ci95"] == pytest.approx(summary["ci95"], abs=1e-6)

    def test_differences_are_those_of_the_cases(self, runs):
        first, second = dices(runs[0]), dices(runs[1])
        difference = np.array([second[name] - first[name] for name in CASES])
        pair = next(
            p for p in compare_runs(runs[:2]).pairs if p.class_name == "mean over classes" and p.metric == "dsc"
        )
        assert pair.difference.mean == pytest.approx(difference.mean())
        assert pair.difference.p == pytest.approx(wilcoxon(difference).pvalue)
        assert (pair.difference.better, pair.difference.worse, pair.difference.equal) == (5, 2, 1)
        assert pair.difference.p_holm is None

    def test_a_distance_is_better_where_it_is_lower(self, runs):
        pairs = {p.metric: p.difference for p in compare_runs(runs[:2]).pairs if p.class_name == "organ"}
        assert pairs["hd95"].mean < 0 < pairs["dsc"].mean
        assert pairs["hd95"].better == pairs["dsc"].better == 5

    def test_three_runs_have_three_pairs_that_holm_corrects(self, runs):
        pairs = [p for p in compare_runs(runs).pairs if p.class_name == "organ" and p.metric == "dsc"]
        assert [(p.first, p.second) for p in pairs] == [("first", "second"), ("first", "third"), ("second", "third")]
        smallest = min(pairs, key=lambda p: p.difference.p)
        assert smallest.difference.p_holm == pytest.approx(min(1.0, 3 * smallest.difference.p))

    def test_the_case_that_changed_most_comes_first(self, runs):
        change = {name: abs(dices(runs[1])[name] - dices(runs[0])[name]) for name in CASES}
        found = compare_runs(runs[:2])
        chosen = [found.cases[place] for place in choose_changed(found, 99)]
        assert chosen == sorted((name for name in CASES if change[name]), key=lambda name: -change[name])

    def test_json_beside_the_page_has_them(self, runs, tmp_path):
        comparison = write_comparison(runs[:2], tmp_path / "x.html")
        tree = json.loads((tmp_path / "x.json").read_text())
        assert tree == json.loads(json.dumps(comparison.to_json()))
        assert [run["name"] for run in tree["runs"]] == ["first", "second"]
        assert tree["scores"]["first"]["organ"]["dsc"]["mean"] == comparison.statistics[0][0][0]["mean"]


class TestPage:
    def test_every_link_has_its_one_anchor_and_nothing_is_fetched(self, page):
        assert len(page.ids) == len(set(page.ids))
        assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
        assert "http:" not in page.source
        assert "https:" not in page.source

    def test_only_what_differs_is_listed(self, page):
        part = page.text.split("What differs between the runs")[-1].split("Paired differences")[0]
        assert "model.name deconver unet" in part
        assert "seed" not in part
        assert "widths" not in part
        assert "reasons" not in part

    def test_verdict_cost_and_cases(self, page):
        assert "over 8 common cases; better in 5, worse in 2" in page.text
        assert "Parameters 17 17" in page.text
        assert "All 8 common cases" in page.text
        assert "lesion <&>" in page.text
        assert len([link for link in page.links if link.startswith("#case-")]) == 3

    def test_masks_of_both_runs_stand_beside_the_truth(self, page):
        names = [picture["alt"] for picture in page.pictures if "jpeg" in picture["src"][:20]]
        assert [name.rsplit(" of ", 1)[0] for name in names[:5]] == [
            *("Truth", "first", "second", "first: errors", "second: errors")
        ]
        assert all(picture["loading"] == "lazy" for picture in page.pictures)


class TestFewCases:
    """No difference is told where the cases say nothing about it."""

    @pytest.mark.parametrize("count", [1, 2, 4])
    def test_the_verdict_gives_no_difference(self, runs, tmp_path, count):
        other = make_run(tmp_path, "other", [1] * count, CASES[:count])
        write_comparison([runs[0], other], tmp_path / "few.html")
        text = Page(tmp_path / "few.html").text
        plural = "" if count == 1 else "s"
        assert f"first and other: too few common cases to compare, {count} where at least 5 are needed" in text
        assert f"Comparison of 2 runs over {count} case{plural}" in text
        assert ("The only common case" if count == 1 else f"All {count} common cases") in text
        assert ("Dice by case" in text) is (count > 1)

    def test_a_note_says_how_to_compare_more(self, runs, tmp_path):
        other = make_run(tmp_path, "other", [1] * 2, CASES[:2])
        (note,) = [note for note in compare_runs([runs[0], other]).notes if note.startswith("To compare more")]
        assert f"`splits={str(runs[0] / 'splits.json')!r}`" in note
        assert not any("To compare more" in note for note in compare_runs(runs[:2]).notes)

    def test_extensions_are_told_in_words(self, runs, tmp_path):
        run = Path(shutil.copytree(runs[0], tmp_path / "first"))
        entry = {"after_epochs": 2, "epochs": None, "seconds": 55.0, "from_progress": 0.78, "from_factor": 0.1}
        (run / "manifest.json").write_text(json.dumps({"deconvseg": "0.1.0", "extended": [entry, entry]}))
        write_comparison([run, runs[1]], tmp_path / "extended.html")
        text = Page(tmp_path / "extended.html").text
        assert "extended to 55 s after epoch 2, then to 55 s after epoch 2" in text
        assert "from_progress" not in text


class TestWhatIsCommon:
    def test_other_cases_are_counted_and_named(self, runs, tmp_path):
        other = make_run(tmp_path, "other", [1] * 5, CASES[:5])
        found = compare_runs([runs[0], other])
        assert found.cases == tuple(CASES[:5])
        assert "Left out, because they are not in all runs: 3 cases (case5, case6, case7) of first." in found.notes

    def test_no_common_case(self, runs, tmp_path):
        other = make_run(tmp_path, "other", [1, 1], ["x", "y"])
        with pytest.raises(InputError, match=r"no case in common .*other has 2 cases \(x, y\)"):
            compare_runs([runs[0], other])

    def test_cases_of_another_truth_are_left_out(self, runs, tmp_path):
        other = make_run(tmp_path, "other", [1] * 8)
        pixels = draw(3, 0)
        pixels[0, 0] = 1
        write_label_map(LabelMap(pixels, Geometry.identity(2)), tmp_path / "truth of other" / "case3.png")
        evaluate(
            tmp_path / "truth of other", other / "validation", other / "validation" / "metrics.json", labels=LABELS
        )
        found = compare_runs([runs[0], other])
        assert "case3" not in found.cases
        assert "Left out, because the true masks of the runs differ: 1 case (case3)." in found.notes

    def test_other_files_of_equal_truth_are_told_and_compared(self, runs, tmp_path):
        other = make_run(tmp_path, "other", [1] * 8)
        copy = Path(shutil.copytree(runs[0], tmp_path / "copy"))
        for run, digest in ((copy, "a" * 64), (other, "b" * 64)):
            tree = json.loads((run / "validation" / "metrics.json").read_text())
            file = Path(tree["cases"][2]["truth_file"])
            data = {f"{file.parent.name}/{file.name}": digest, "images/case2.png": "c" * 64}
            (run / "manifest.json").write_text(json.dumps({"deconvseg": "0.1.0", "data": data}))
        found = compare_runs([copy, other])
        assert len(found.cases) == 8
        assert any("voxels of each class: 1 case (case2)." in note for note in found.notes)

    def test_only_common_classes_count(self, runs, tmp_path):
        other = make_run(tmp_path, "other", [1] * 8)
        truth = tmp_path / "truth of other"
        evaluate(truth, other / "validation", other / "validation" / "metrics.json", labels={1: "organ", 2: "tumour"})
        found = compare_runs([runs[0], other])
        assert found.classes == found.columns == ("organ",)
        assert any("Only the common classes are compared, organ" in note for note in found.notes)
        evaluate(truth, other / "validation", other / "validation" / "metrics.json", labels={1: "a", 2: "b"})
        with pytest.raises(InputError, match="no class of the same name: first has organ, lesion"):
            compare_runs([runs[0], other])

    def test_the_only_class_is_the_same_whatever_it_is_called(self, runs, tmp_path):
        other = make_run(tmp_path, "other", [1] * 8)
        again = make_run(tmp_path, "again", [2] * 8)
        for run, names in ((other, {1: "organ"}), (again, {1: "label 1"})):
            truth = tmp_path / f"truth of {run.name}"
            evaluate(truth, run / "validation", run / "validation" / "metrics.json", labels=names)
        found = compare_runs([other, again])
        assert found.classes == ("organ",)
        assert any("other calls it organ; again calls it label 1" in note for note in found.notes)
        assert len(found.cases) == 8

    def test_other_metrics_tolerances_and_policies(self, runs, tmp_path):
        other = make_run(tmp_path, "other", [1] * 8)
        arguments = tmp_path / "truth of other", other / "validation", other / "validation" / "metrics.json"
        evaluate(*arguments, labels=LABELS, tolerance=3.0, metrics="dice,nsd,iou")
        found = compare_runs([runs[0], other])
        assert [metric.key for metric in found.metrics] == ["dsc"]
        assert any("HD95, NSD" in note for note in found.notes)
        evaluate(*arguments, labels=LABELS, empty="drop")
        with pytest.raises(InputError, match="scored by different policies, diagonal, drop"):
            compare_runs([runs[0], other])


class TestWhatIsGiven:
    def test_files_of_metrics_alone(self, runs, tmp_path):
        files = []
        for number, run in enumerate(runs[:2]):
            files.append(tmp_path / f"masks{number}" / "metrics.json")
            shutil.copytree(run / "validation", files[-1].parent)
        found = compare_runs(files)
        assert [entry.name for entry in found.entries] == ["masks0", "masks1"]
        assert found.scores == pytest.approx(compare_runs(runs[:2]).scores)
        assert found.differences == []

    def test_metrics_of_held_out_masks_go_with_their_runs(self, runs):
        files = [run / "validation" / "metrics.json" for run in runs[:2]]
        assert compare_runs(runs[:2], files).cases == tuple(CASES)
        with pytest.raises(InputError, match="2 runs are compared, but 1 files of metrics are given"):
            compare_runs(runs[:2], files[:1])
        with pytest.raises(InputError, match=r"masks made by another run, second, not by .*first; give the metrics in"):
            compare_runs(runs[:2], files[::-1])

    def test_what_cannot_be_compared(self, runs, tmp_path):
        with pytest.raises(InputError, match="two or more runs"):
            compare_runs(runs[:1])
        with pytest.raises(InputError, match="has no validation/metrics.json, so there is nothing to compare"):
            compare_runs([runs[0], tmp_path])
        with pytest.raises(InputError, match="the page is HTML"):
            write_comparison(runs[:2], tmp_path / "compare.json")

    def test_the_same_name_twice(self, runs, tmp_path):
        copy = Path(shutil.copytree(runs[0], tmp_path / "first"))
        names = [entry.name for entry in compare_runs([runs[0], copy]).entries]
        assert names == [f"{runs[0].parent.name}/first", f"{tmp_path.name}/first"]
        assert [entry.name for entry in compare_runs([copy, copy]).entries] == ["first (1)", "first (2)"]


def test_parameters_are_counted_without_reading_them(tmp_path):
    assert count_parameters(tmp_path) is None
    (tmp_path / "weights.safetensors").write_bytes(b"\xff" * 20)
    assert count_parameters(tmp_path) is None
    (tmp_path / "weights.safetensors").write_bytes(b"")
    assert count_parameters(tmp_path) is None


class TestFigure:
    def test_runs_are_drawn_on_the_cases_that_differ_most(self, runs, tmp_path):
        figure = write_network_figure(runs, tmp_path / "new" / "cases.png", cases=1, crops=1)
        assert figure.read_bytes()[:4] == b"\x89PNG"
        again = write_network_figure(runs, tmp_path / "again.png", chosen=["case7"], crops=1, look="masks")
        assert again.stat().st_size != figure.stat().st_size

    def test_an_unknown_case_names_the_nearest(self, runs, tmp_path):
        with pytest.raises(InputError, match="case 'case77' is unknown: did you mean 'case7'"):
            write_network_figure(runs, tmp_path / "x.svg", chosen=["case77"])
