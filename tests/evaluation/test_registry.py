"""Metrics by name: a user's own is in every table and file, and what cannot be asked for is refused."""

import csv
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from deconvseg.cli import main
from deconvseg.data import Geometry, LabelMap, write_label_map
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.evaluation import (
    Count,
    EmptyCases,
    Metric,
    evaluate,
    evaluate_masks,
    list_metrics,
    merge_evaluations,
    read_evaluation,
    register_metric,
    unregister_metric,
)
from deconvseg.evaluation.measuring import Measuring
from deconvseg.evaluation.metrics import ALWAYS_MEASURED
from deconvseg.experiments.result import CrossValidation
from deconvseg.reporting import write_report
from documents import code_of, imported, install

DICE = Measuring.choose("dice").infos[0].to_json()
NEW = ("lesion_overlap", "lesion_sizes", "metrics", "empty", "dropped")


def square(stop, shape=(16, 18)):
    pixels = np.zeros(shape, np.uint8)
    pixels[2:stop, 2:stop] = 1
    return pixels


@pytest.fixture
def registering():
    """Take away what a test registers."""
    before = {metric.key for metric in list_metrics()}
    yield register_metric
    for key in {metric.key for metric in list_metrics()} - before:
        unregister_metric(key)


@pytest.fixture
def own(registering):
    """A user's metric with a count, registered for one test."""
    return registering(
        Metric(
            key="volume_ratio",
            title="Volume ratio",
            function=lambda pair: pair.counts[1] / pair.counts[0],
            empty=EmptyCases(both=1.0, missed=0.0, spurious=2.0, undefined=("both empty", "spurious")),
            digits=2,
            better="zero",
            meaning="Volume ratio is the predicted volume over the true one.",
            tally=lambda pair: {Count("larger", "all", "larger"): int(pair.counts[1] > pair.counts[0])},
        )
    )


@pytest.fixture
def folders(tmp_path):
    for name, stops in {"a": (6, 8), "b": (8, 7), "c": (9, 9)}.items():
        for side, stop in zip(("truth", "found"), stops, strict=True):
            write_label_map(LabelMap(square(stop), Geometry.identity(2)), tmp_path / side / f"{name}.png")
    return tmp_path / "truth", tmp_path / "found"


class TestAUsersMetric:
    def test_is_in_the_table_of_the_command_and_in_every_file(self, own, folders, tmp_path, monkeypatch, capsys):
        command = ["deconvseg", "evaluate", "-g", str(folders[0]), "-p", str(folders[1]), "-o", str(tmp_path / "run")]
        monkeypatch.setattr(sys, "argv", [*command, "--metrics", "volume_ratio"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        expected = np.mean([36 / 16, 25 / 36, 1.0])
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split("  ")[0] == "class"
        assert "Volume ratio" in lines[0]
        assert f"{expected:.2f}" in lines[1]
        assert "HD95" not in lines[0]
        place = lines.index("Volume ratio: counts of all cases together")
        assert [line.split() for line in lines[place + 1 : place + 3]] == [["class", "larger"], ["label", "1", "1"]]

        record = json.loads((tmp_path / "run" / "metrics.json").read_text())
        assert [metric["key"] for metric in record["metrics"]] == ["dsc", "volume_ratio"]
        assert record["summary"]["mean"]["volume_ratio"]["mean"] == pytest.approx(expected)
        assert record["summary"]["mean"]["volume_ratio"]["totals"] == {"larger": 1}
        for name, columns in {"metrics": {"volume_ratio", "larger"}, "summary": {"volume_ratio_with_truth"}}.items():
            with (tmp_path / "run" / f"{name}.csv").open(newline="") as stream:
                assert columns <= set(next(csv.reader(stream)))
        summary = json.loads((tmp_path / "run" / "summary.json").read_text())
        assert summary["foreground_mean"]["Volume ratio"] == pytest.approx(expected)
        page = write_report(tmp_path / "run", evaluations=[tmp_path / "run" / "metrics.json"]).read_text("utf-8")
        for text in ("<span>Volume ratio → 0</span>", own.meaning, "<th>larger</th>", f"{expected:.2f}"):
            assert text in page

    def test_its_files_are_read_where_it_is_not_registered(self, own, folders, tmp_path):
        written = evaluate(*folders, tmp_path / "run" / "metrics.json", metrics=["dice", "Volume ratio"])
        unregister_metric(own.key)
        with pytest.raises(InputError, match="metric 'volume_ratio' is unknown"):
            evaluate(*folders, metrics="volume_ratio")
        read = read_evaluation(tmp_path / "run" / "metrics.json")
        assert read.to_json(tmp_path / "run") == written.to_json(tmp_path / "run")
        page = write_report(tmp_path / "run", evaluations=[tmp_path / "run" / "metrics.json"]).read_text("utf-8")
        assert "<span>Volume ratio → 0</span>" in page

    def test_folds_have_its_spread(self, own, folders, tmp_path):
        labels = {1: "disc"}
        parts = [
            evaluate(folders[0] / f"{n}.png", folders[1] / f"{n}.png", labels=labels, metrics="all") for n in "abc"
        ]
        folds = {fold: (name,) for fold, name in enumerate("abc")}
        found = CrossValidation(tmp_path, merge_evaluations(parts), folds, {}).spread()["mean"]
        assert found["volume_ratio"]["fold_means"] == pytest.approx([36 / 16, 25 / 36, 1.0])
        assert set(found) >= {metric.key for metric in list_metrics() if metric.key not in ALWAYS_MEASURED} | {"dsc"}

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            (lambda pair: math.nan, "Broken is nan, which is not a finite number: fix the function of the metric"),
            (
                lambda pair: np.float32("inf"),
                "Broken is inf, which is not a finite number: fix the function of the metric",
            ),
            (lambda pair: None, "Broken: the metric's function: TypeError: must be real number, not NoneType"),
            (lambda pair: 1 // 0, "Broken: the metric's function: ZeroDivisionError: integer"),
            (lambda pair: [].index("a\nb"), "Broken: the metric's function: ValueError: "),
        ],
    )
    def test_what_is_no_number_is_a_problem_of_its_case(self, registering, folders, function, message):
        registering(Metric("broken", "Broken", function, EmptyCases(0.0, 0.0, 0.0)))
        found = evaluate(*folders, metrics="broken")
        assert found.cases == ()
        assert [problem.partition(message)[0] for problem in found.problems] == ["a: ", "b: ", "c: "]
        assert all(len(problem.splitlines()) == 1 for problem in found.problems)

    def test_scalars_of_numpy_are_numbers_of_the_files(self, registering, folders, tmp_path):
        tally = {Count("pieces", "all", "pieces"): np.int64(2)}
        empty, value = EmptyCases(0.0, 0.0, 0.0), np.float32(0.5)
        registering(Metric("scalar", "Scalar", lambda pair: value, empty, tally=lambda pair: tally))
        written = evaluate(*folders, tmp_path / "metrics.json", metrics="scalar")
        assert written.cases[0].metrics[1]["scalar"] == 0.5
        assert read_evaluation(tmp_path / "metrics.json").to_json(tmp_path) == written.to_json(tmp_path)
        assert written.summary["mean"]["scalar"]["totals"] == {"pieces": 6}

    @pytest.mark.parametrize(
        ("tally", "message"),
        [
            (
                lambda pair: {Count("parts", "all", "parts"): 2.5},
                "the metric's tally: TypeError: 'float' object cannot",
            ),
            (lambda pair: {}[0], "the metric's tally: KeyError: 0"),
            (lambda pair: {Count("tp", "all", "tp"): 1}, "a metric counts in the column 'tp', which is taken"),
            (lambda pair: {Count("iou", "all", "iou"): 1}, "two of the metrics have a column 'iou'"),
        ],
    )
    def test_what_is_no_count_is_refused(self, registering, folders, tally, message):
        registering(Metric("broken", "Broken", lambda pair: 0.5, EmptyCases(0.0, 0.0, 0.0), tally=tally))
        with pytest.raises(DeconvsegError, match=message):
            evaluate(*folders, metrics="broken")

    def test_columns_of_counts_are_the_same_for_all_masks(self, registering, folders):
        registering(
            Metric(
                *("broken", "Broken", lambda pair: 0.5, EmptyCases(0.0, 0.0, 0.0)),
                tally=lambda pair: {Count(f"from_{pair.status}", "all", "n"): 1},
            )
        )
        message = "Broken: the metric's tally must give the same columns for all masks"
        assert evaluate(*folders, metrics="broken").problems == tuple(f"{name}: {message}" for name in "abc")


PAGE = "how-to/add-a-metric.md"


class TestThePage:
    def test_its_metric_is_measured(self, registering, folders, tmp_path):
        with imported(PAGE, "centre_distance_of_the_page", tmp_path):
            found = evaluate(*folders, metrics=["dice", "centre distance"])
        # A square of 4 against one of 6, from the same corner.
        assert found.cases[0].metrics[1]["centre_distance"] == pytest.approx(math.hypot(1, 1))
        row = evaluate_masks(square(5), 0 * square(5), {1: "a"}, spacing=(1, 2), metrics="centre_distance")[1]
        assert row["centre_distance"] == pytest.approx(math.hypot(16, 36))

    def test_an_installed_one_is_known_to_the_command_line(self, folders, tmp_path):
        install(tmp_path / "site", "centre_distance", code_of(PAGE), "deconvseg.metrics")
        command = ["evaluate", "-g", *map(str, (folders[0], "-p", folders[1])), "--metrics", "dice,centre_distance"]
        done = subprocess.run(
            [sys.executable, "-P", "-c", "from deconvseg.cli import main; main()", *command],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), *sys.path])},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "Centre distance (pixels)" in done.stdout.splitlines()[0]

    def test_it_is_gone_when_it_is_taken_away(self):
        with pytest.raises(InputError, match="metric 'centre_distance' is unknown"):
            unregister_metric("centre_distance")


class TestRegistering:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"key": "hd95", "title": "x"}, "the name 'hd95' is taken"),
            ({"key": "x", "title": "Dice"}, "the name 'dice' is taken"),
            ({"key": "status", "title": "x"}, "the name 'status' is taken"),
            ({"key": "Not a key", "title": "x"}, "lower-case letters"),
            ({"key": "dsc_with_truth", "title": "x"}, "does not end in _with_truth or _dropped"),
            ({"key": "with_truth", "title": "x"}, "the name 'with_truth' is taken"),
            ({"key": "classes", "title": "x"}, "the name 'classes' is taken"),
            ({"key": "x", "title": "x", "empty": EmptyCases(0.0, "diagonal", 1.0)}, "the image's diagonal is a length"),
            ({"key": "x", "title": "x", "empty": EmptyCases(0.0, "diagnal", 1.0)}, "gives 'diagnal' for empty masks"),
            ({"key": "x", "title": "x", "empty": EmptyCases(math.nan, 0.0, 1.0)}, "gives nan for empty masks"),
            (
                {"key": "x", "title": "x", "empty": EmptyCases(0.0, 0.0, 0.0, undefined=("both_empty",))},
                "undefined case 'both_empty' is unknown: did you mean 'both empty'",
            ),
            ({"key": "x", "title": "x", "unit": "mm"}, "unit is 'mm'; give one of '', 'length'"),
            ({"key": "x", "title": "x", "better": "up"}, "better is 'up'; give one of 'higher', 'lower', 'zero'"),
            (
                {"key": "x", "title": "x", "options": ("tolerence",)},
                "option 'tolerence' is unknown: did you mean 'tol",
            ),
            ({"key": "x", "title": "x", "digits": -1}, "has -1 digits; give 0 to 9"),
            ({"key": "x", "title": "a, b"}, "the title 'a, b' cannot be named in a list"),
        ],
    )
    def test_names_and_lengths_are_checked(self, own, changes, message):
        with pytest.raises(InputError, match=message):
            register_metric(Metric(**{"function": lambda pair: 0.0, "empty": EmptyCases(0.0, 0.0, 0.0), **changes}))

    def test_two_metrics_with_one_column_are_not_measured_together(self, own):
        tally = own.tally
        register_metric(Metric("other", "Other", lambda pair: 0.0, EmptyCases(0.0, 0.0, 0.0), tally=tally))
        with pytest.raises(InputError, match="two of the metrics have a column 'larger'"):
            evaluate_masks(square(5), square(6), {1: "a"}, spacing=(1, 1), metrics="other,volume_ratio")


class TestChoosing:
    def test_dice_leads_and_the_order_is_that_of_the_table(self, folders):
        found = evaluate(*folders, metrics=["assd", "HD95"])
        assert [metric.key for metric in found.metrics] == ["dsc", "hd95", "assd"]
        assert "nsd" not in found.cases[0].metrics[1]
        assert found.cases[0].metrics[1]["iou"] == pytest.approx(16 / 36)
        assert [metric.key for metric in evaluate(*folders).metrics] == ["dsc", "hd95", "hd95_defined", "nsd"]
        everything = evaluate(*folders, metrics="all")
        assert [metric.key for metric in everything.metrics] == [metric.key for metric in list_metrics()]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"metrics": "dice,hd59"}, "metric 'hd59' is unknown: did you mean 'hd95'"),
            ({"metrics": "sensitivty"}, "did you mean 'sensitivity'"),
            ({"metrics": ""}, "no metric is named: choose from dice, iou, hd95, hd95_defined, nsd, assd"),
            ({"metrics": []}, "no metric is named"),
            ({"metrics": "all,hd59"}, "metric 'hd59' is unknown"),
            (
                {"metrics": "dice", "tolerance": 2.0},
                "`tolerance` is given, but only NSD depends on it: add it to `metrics`, or leave `tolerance` out",
            ),
            ({"lesion_overlap": 0.1}, "`lesion_overlap` is given, but only Lesion F1 depends on it"),
            ({"lesion_sizes": (1, 2)}, "`lesion_sizes` is given, but only Lesion F1 depends on it"),
            ({"metrics": "lesion_f1", "lesion_sizes": (2, 1)}, "ascending order"),
            ({"tolerance": -1.0}, "tolerance must be a distance of 0 or more"),
            ({"empty": "brat"}, "did you mean 'brats'"),
        ],
    )
    def test_what_cannot_be_asked_for(self, folders, options, message):
        with pytest.raises(InputError, match=message):
            evaluate(*folders, **options)

    def test_the_command_names_its_flag(self, folders, monkeypatch, capsys):
        command = ["deconvseg", "evaluate", "-g", str(folders[0]), "-p", str(folders[1]), "--metrics", "dice"]
        monkeypatch.setattr(sys, "argv", [*command, "--tolerance", "2"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert "--tolerance is given, but only NSD depends on it: add it to --metrics" in capsys.readouterr().err

    def test_the_command_reads_sizes(self, folders, tmp_path, monkeypatch, capsys):
        command = ["deconvseg", "evaluate", "-g", str(folders[0]), "-p", str(folders[1]), "--metrics", "lesion_f1"]
        for text, code in (("10,40", 0), ("ten", 2)):
            monkeypatch.setattr(sys, "argv", [*command, "--lesion-sizes", text, "--lesion-overlap", "0.5"])
            with pytest.raises(SystemExit) as ended:
                main()
            assert int(ended.value.code or 0) == code
            out, err = capsys.readouterr()
            if code:
                assert "--lesion-sizes ten: give numbers with commas between them" in err
            else:
                rows = [line.split() for line in out.splitlines() if line.startswith("label 1, ")]
                assert [row[2:] for row in rows] == [
                    ["below", "10", "0", "0", "0", "–"],
                    ["10", "to", "40", "2", "0", "1", "0.800"],
                    ["from", "40", "1", "0", "0", "1.000"],
                ]


class TestEarlierFiles:
    def test_a_file_that_names_no_metrics_has_the_three_of_then(self, folders, tmp_path):
        written = evaluate(*folders, tmp_path / "metrics.json", metrics="dice,hd95,nsd")
        tree = json.loads((tmp_path / "metrics.json").read_text())
        (tmp_path / "metrics.json").write_text(json.dumps({key: tree[key] for key in tree if key not in NEW}))
        read = read_evaluation(tmp_path / "metrics.json")
        assert read.to_json(tmp_path) == written.to_json(tmp_path)
        assert merge_evaluations([read]).summary == merge_evaluations([written]).summary

    def test_one_without_the_metric_beside_another_is_merged_with_a_new_one(self, folders):
        former, new = (
            evaluate(folders[0] / f"{name}.png", folders[1] / f"{name}.png", labels={1: "disc"}, metrics=metrics)
            for name, metrics in (("a", "dice,hd95,nsd"), ("b", None))
        )
        merged = merge_evaluations([former, new])
        assert [metric.key for metric in merged.metrics] == ["dsc", "hd95", "nsd"]
        assert merge_evaluations([new, former]).summary == merged.summary
        with pytest.raises(InputError, match="evaluations with metrics"):
            merge_evaluations([former, evaluate(*folders, labels={1: "disc"}, metrics="dice,hd95")])

    @pytest.mark.parametrize("empty", ["diagonal", "drop"])
    def test_a_value_is_missing_only_where_the_policy_drops_it(self, folders, tmp_path, empty):
        evaluate(*folders, tmp_path / "metrics.json", empty=empty)
        tree = json.loads((tmp_path / "metrics.json").read_text())
        row = tree["cases"][0]["classes"]["1"]
        row["hd95"] = None
        (tmp_path / "metrics.json").write_text(json.dumps(tree))
        with pytest.raises(InputError, match="hd95 is None"):
            read_evaluation(tmp_path / "metrics.json")
        row["status"] = "missed"
        (tmp_path / "metrics.json").write_text(json.dumps({**tree, "empty": "drop"}))
        assert read_evaluation(tmp_path / "metrics.json").cases[0].mean["hd95"] is None

    @pytest.mark.faults
    @pytest.mark.parametrize(
        "damage",
        [
            {"metrics": 3},
            {"metrics": [{"key": "dsc"}]},
            {"metrics": ["dsc"]},
            {"metrics": []},
            {"metrics": [{**DICE, "key": "nsd"}]},
            {"metrics": [{**DICE, "digits": -1}]},
            {"metrics": [{**DICE, "digits": "3"}]},
            {"metrics": [{**DICE, "empty": {"both empty": {}, "missed": 0, "spurious": 0}}]},
            {"metrics": [{**DICE, "empty": {"both empty": 1.0}}]},
            {"metrics": [{**DICE, "counts": [{"column": "lost", "group": "all", "name": "lost"}]}]},
            {"empty": "other"},
            {"lesion_sizes": ["a"]},
            {"lesion_overlap": "x"},
        ],
    )
    def test_damaged_entries_are_refused(self, folders, tmp_path, damage):
        evaluate(*folders, tmp_path / "metrics.json")
        tree = json.loads((tmp_path / "metrics.json").read_text())
        (tmp_path / "metrics.json").write_text(json.dumps({**tree, **damage}))
        with pytest.raises(InputError, match="not a metrics.json of version 1, or incomplete"):
            read_evaluation(tmp_path / "metrics.json")
