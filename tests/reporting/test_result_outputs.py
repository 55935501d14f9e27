"""Tables and pages of a result: their numbers against plain references, and their shapes."""

import csv
import re
import shutil
import statistics
import subprocess

import numpy as np
import pytest
from scipy.stats import wilcoxon

from deconvseg.catalog import PUBLISHED_SCORES
from deconvseg.errors import InputError
from deconvseg.reporting import draw_efficiency, published_result, read_results, write_results
from deconvseg.reporting.results import (
    CaseScore,
    FoldScore,
    ResultCell,
    ResultColumn,
    ResultFigure,
    ResultRow,
    TableResult,
)
from deconvseg.reporting.results.latex import render_latex
from deconvseg.reporting.results.markdown import render_markdown
from deconvseg.reporting.results.statistics import BEST, SECOND, case_means, compare_rows, means, rank, summarise
from deconvseg.reporting.results.values import render_csv
from html_pages import Page
from result_tables import make_result

RESULT = make_result()
DICE = RESULT.columns[0]


def cell(values, cases=()):
    folds = tuple(FoldScore(fold=fold, seed=seed, value=value) for (seed, fold), value in values.items())
    return ResultCell(column="d", status="done", folds=folds, cases=cases)


def make(cells, **column):
    rows = tuple(
        ResultRow(key=f"r{place}", title=f"r{place}", model="unet", cells=(each,)) for place, each in enumerate(cells)
    )
    head = ResultColumn(**{"key": "d", "dataset": "x", "metric": "dsc", "title": "DSC"} | column)
    return TableResult(key="k", title="t", columns=(head,), rows=rows)


class TestStatistics:
    def test_mean_and_deviation_are_over_folds_and_seeds(self):
        values = {(seed, fold): 70.0 + 3 * seed + fold**2 for seed in (0, 1) for fold in range(3)}
        found = summarise(cell(values))
        assert found.mean == pytest.approx(statistics.mean(values.values()))
        assert found.sd == pytest.approx(statistics.stdev(values.values()))
        assert found.folds == 6

    def test_one_fold_has_no_deviation_and_a_fold_without_value_does_not_count(self):
        found = summarise(cell({(0, 0): 70.0, (0, 1): None}))
        assert (found.mean, found.sd, found.folds, found.ci95) == (70.0, None, 1, None)

    def test_a_case_of_several_folds_is_its_mean(self):
        cases = tuple(CaseScore(case="a", fold=fold, value=value) for fold, value in enumerate((1.0, 2.0, None, 6.0)))
        assert case_means(cell({(0, 0): 1.0}, cases)) == {"a": 3.0}

    def test_the_interval_is_that_of_resampled_means(self):
        found = summarise(RESULT.rows[0].cells[0])
        values = np.array([case.value for case in RESULT.rows[0].cells[0].cases])
        drawn = np.random.default_rng(5).choice(values, (20_000, len(values))).mean(axis=1)
        assert found.ci95 == pytest.approx(tuple(np.quantile(drawn, (0.025, 0.975))), abs=0.02)
        assert found.case_mean == pytest.approx(values.mean())

    def test_the_best_row_is_the_reference_unless_one_is_named(self):
        (test,) = compare_rows(RESULT, DICE)
        assert (test.row, test.reference) == ("nnunet", "deconver")
        (test,) = compare_rows(RESULT.model_copy(update={"reference": "nnunet"}), DICE)
        assert (test.row, test.reference) == ("deconver", "nnunet")
        # The lower distance is the better one.
        assert compare_rows(RESULT, RESULT.columns[1])[0].reference == "deconver"

    def test_p_is_that_of_wilcoxon_over_common_cases_and_holm_corrects_the_column(self):
        rng = np.random.default_rng(3)
        scores = [[80 + shift + value for value in rng.normal(0, 1, 12)] for shift in (2.0, 0.8, 0.4, 0.0)]
        cells = [
            cell(
                {(0, 0): float(np.mean(row))},
                tuple(CaseScore(case=f"c{n}", value=value) for n, value in enumerate(row)),
            )
            for row in scores
        ]
        # The last row lacks two cases.
        cells[3] = cells[3].model_copy(update={"cases": cells[3].cases[2:]})
        result = make(cells)
        tests = compare_rows(result, result.columns[0])
        expected = [
            wilcoxon(np.subtract(row[skip:], scores[0][skip:])).pvalue
            for row, skip in zip(scores[1:], (0, 0, 2), strict=True)
        ]
        assert [test.difference.p for test in tests] == pytest.approx(expected)
        assert [test.difference.n for test in tests] == [12, 12, 10]
        order = np.argsort(expected)
        holm = np.minimum(np.maximum.accumulate(np.array(expected)[order] * [3, 2, 1]), 1)
        assert np.array([test.difference.p_holm for test in tests])[order] == pytest.approx(holm)


class TestRanks:
    def test_ranks_are_of_values_as_printed_and_ties_share_them(self):
        column = ResultColumn(key="d", dataset="x", metric="dsc", title="DSC", digits=1)
        assert rank({"a": 80.04, "b": 80.01, "c": 79.0, "d": 78.0}, column) == {"a": BEST, "b": BEST}
        assert rank({"a": 81.0, "b": 80.04, "c": 79.96, "d": 78.0}, column) == {"a": BEST, "b": SECOND, "c": SECOND}
        assert rank({"a": 81.0}, column) == {}

    @pytest.mark.parametrize(
        ("better", "best", "second"), [("higher", "c", "b"), ("lower", "a", "b"), ("zero", "b", "a")]
    )
    def test_the_direction_is_that_of_the_column(self, better, best, second):
        column = ResultColumn(key="d", dataset="x", metric="dsc", title="DSC", better=better)
        assert rank({"a": -2.0, "b": 1.0, "c": 3.0}, column) == {best: BEST, second: SECOND}

    # The marks of the papers themselves, with those that they miss.
    def test_the_published_ranks_of_table_1_are_those_of_the_paper(self):
        text = render_markdown(published_result("deconver/table-1"))
        assert "**78.16**" in text
        assert all(f"<u>{value}</u>" in text for value in ("77.37", "4.99"))
        assert "**4.89**" in text


def parse_latex(text):
    """The environments, balance of braces and cells of every row, each as often as it spans."""
    bare = re.sub(r"(?<!\\)%.*", "", text)
    stack, depth = [], 0
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", bare):
        if kind == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert not stack
    for character in re.sub(r"\\.", "", bare):
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    assert bare.count("$") % 2 == bare.count(r"\$") % 2
    width = len(re.search(r"\\begin\{tabular\}\{(\w+)\}", bare)[1])
    rows = [line for line in bare.splitlines() if line.endswith(r"\\")]
    for row in rows:
        spans = [int(found) for found in re.findall(r"\\multicolumn\{(\d+)\}", row)]
        assert len(re.split(r"(?<!\\)&", row)) + sum(spans) - len(spans) == width, row
    for first, last in re.findall(r"\\cmidrule\(lr\)\{(\d+)-(\d+)\}", bare):
        assert 1 <= int(first) <= int(last) <= width
    return rows


class TestTexts:
    @pytest.mark.parametrize("key", sorted(PUBLISHED_SCORES))
    def test_every_table_of_the_papers_is_well_formed_latex(self, key):
        text = render_latex(published_result(key))
        rows = parse_latex(text)
        assert text.isascii()
        assert len(rows) == len(PUBLISHED_SCORES[key].rows) + (3 if PUBLISHED_SCORES[key].columns else 1)

    def test_a_table_for_latex_is_never_wider_than_the_line(self):
        lines = render_latex(published_result("deconver/table-2")).splitlines()
        box = next(place for place, line in enumerate(lines) if line.startswith(r"\sbox0{\begin{tabular}"))
        end = lines.index(r"\end{tabular}}")
        assert box < end
        assert lines[end + 1] == r"\resizebox{\ifdim\wd0>\linewidth\linewidth\else\wd0\fi}{!}{\usebox0}"

    @pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
    def test_latex_typesets_every_table_within_the_line(self, tmp_path):
        tables = [render_latex(published_result(key)) for key in sorted(PUBLISHED_SCORES)]
        preamble = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}"
        (tmp_path / "tables.tex").write_text("\n".join([preamble, *tables, r"\end{document}"]))
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
        assert done.returncode == 0, done.stdout
        assert "Overfull" not in done.stdout

    def test_special_characters_are_escaped(self):
        odd = r"50 % & $x_1$ {a} \b ~ ^ # ä 漢 <|>"
        result = RESULT.model_copy(update={"title": odd})
        text = render_latex(result)
        parse_latex(text)
        assert r"50 \% \& \$x\_1\$ \{a\} \textbackslash{}b \textasciitilde{} \textasciicircum{} \# ä ?" in text
        head = render_markdown(result).splitlines()[0]
        assert head == r"# 50 % & $x\_1$ {a} \\b ~ ^ \# ä 漢 \<\|\>"

    def test_scores_marks_and_what_is_missing_are_in_all_tables(self):
        markdown, latex = render_markdown(RESULT), render_latex(RESULT)
        mean, sd = (
            summarise(RESULT.cell("deconver", "glas/dsc")).mean,
            summarise(RESULT.cell("deconver", "glas/dsc")).sd,
        )
        assert f"**{mean:.2f} ± {sd:.2f}**" in markdown
        assert rf"\textbf{{{mean:.2f} $\pm$ {sd:.2f}}}" in latex
        assert "| steps | 8,500 | 40 |" in markdown
        assert "steps 40 (paper: 8,500)" in latex
        assert "| UNETR | FIVES, DSC (%) | not run | not asked for |" in markdown
        heads = next(line for line in markdown.splitlines() if line.startswith("| network"))
        rows = [line for line in markdown.splitlines() if line.startswith(("| nnU-Net", "| Deconver"))]
        assert {line.count(" | ") for line in rows} == {heads.count(" | ")}

    def test_csv_has_a_row_for_each_fold_with_all_digits(self):
        rows = list(csv.DictReader(render_csv(RESULT).splitlines()))
        assert len(rows) == 2 * 3 * 5 + 3
        found = [float(row["value"]) for row in rows if row["row"] == "nnunet" and row["metric"] == "hd95"]
        assert found == [score.value for score in RESULT.cell("nnunet", "glas/hd95").folds]
        assert [row["reason"] for row in rows if row["status"] != "done"] == ["out of memory in fold 2"] * 2 + [
            "not asked for"
        ]
        assert {row["cases"] for row in rows if row["status"] == "done"} == {"4"}
        assert {row["undefined"] for row in rows if row["status"] == "done"} == {"0"}
        assert {row["parameters"] for row in rows if row["row"] == "unetr"} == {"91225313", "91815137"}

    def test_cases_without_a_value_are_counted(self):
        cell = RESULT.cell("nnunet", "glas/hd95")
        cases = tuple(score.model_copy(update={"value": None}) if score.fold == 1 else score for score in cell.cases)
        changed = cell.model_copy(update={"cases": cases})
        rows = tuple(
            row.model_copy(update={"cells": tuple(changed if one == cell else one for one in row.cells)})
            for row in RESULT.rows
        )
        result = RESULT.model_copy(update={"rows": rows})
        found = list(csv.DictReader(render_csv(result).splitlines()))
        assert [row["undefined"] for row in found if row["row"] == "nnunet" and row["metric"] == "hd95"] == list(
            "04000"
        )
        (line,) = [
            line for line in render_markdown(result).splitlines() if line.startswith("| GlaS, HD95 (pixel) | nnU-Net")
        ]
        assert " | 16 of 20 | " in line

    def test_names_of_versions_and_commands_cannot_leave_their_place(self):
        odd = RESULT.model_copy(update={"notes": ("a\nb | c <script>",), "command": "x\x1b[31m"})
        text = render_markdown(odd)
        assert r"\<script\>" in text
        assert "\x1b" not in text


class TestPage:
    def test_the_page_shows_scores_and_loads_nothing(self, tmp_path):
        files = write_results(RESULT, tmp_path)
        assert [file.name for file in files] == ["result.json", "table.md", "table.tex", "table.csv", "table.html"]
        page = Page(tmp_path / "table.html")
        assert "6 of 9 cells measured, in 5 folds; 2 failed and 1 not run." in page.text
        assert "This is not the paper's setting" in page.text
        assert "out of memory in fold 2" in page.text
        assert all(picture["src"].startswith("data:") for picture in page.pictures)
        assert len(page.pictures) == 2
        assert "default-src 'none'" in page.source
        best = summarise(RESULT.cell("deconver", "fives/dsc"))
        assert f"<b>{best.mean:.2f} ± {best.sd:.2f}</b>" in page.source
        assert len(page.ids) == len(set(page.ids))

    def test_a_figure_outside_the_folder_is_not_shown(self, tmp_path):
        (tmp_path / "secret.png").write_bytes(b"content")
        for name in ("../secret.png", str(tmp_path / "secret.png")):
            figure = ResultFigure(name="Cost", file=name)
            write_results(RESULT.model_copy(update={"figures": (figure,)}), tmp_path / "table")
            assert len(Page(tmp_path / "table" / "table.html").pictures) == 2
        (tmp_path / "table" / "own.png").write_bytes(b"content")
        own = RESULT.model_copy(update={"figures": (ResultFigure(name="Cost", file="own.png"),)})
        write_results(own, tmp_path / "table")
        assert len(Page(tmp_path / "table" / "table.html").pictures) == 3

    def test_titles_are_escaped(self, tmp_path):
        write_results(RESULT.model_copy(update={"title": "<script>x</script>"}), tmp_path)
        assert "<script>x" not in (tmp_path / "table.html").read_text()

    def test_every_published_table_can_be_written(self, tmp_path):
        for key in ("deconver/table-2", "dtc/table-5", "dtc/table-7", "isles26/table-1"):
            write_results(published_result(key), tmp_path / key)
            assert read_results(tmp_path / key) == published_result(key)


class TestPublished:
    def test_every_published_score_is_in_its_result(self):
        for key, table in PUBLISHED_SCORES.items():
            result = published_result(key)
            for row in table.rows:
                for column, score in row.scores.items():
                    found = result.cell(row.key, column).published
                    assert (found.value, found.sd) == (score.value, score.sd)

    def test_an_unknown_table_names_the_nearest(self):
        with pytest.raises(InputError, match="deconver/table-1"):
            published_result("deconver/table1")


class TestEfficiency:
    def test_both_panels_of_figure_3_have_the_published_networks(self):
        left, right = draw_efficiency(published_result("deconver/table-1")).axes
        sizes = [tuple(np.round(place, 2)) for c in left.collections for place in np.asarray(c.get_offsets())]
        assert sizes == [
            (22.4, 76.76), (75.9, 76.85), (133.2, 73.74), (62.2, 76.58), (7.5, 76.73), (10.5, 78.16), (11.0, 77.37),
        ]  # fmt: skip
        costs = [tuple(np.round(place, 2)) for c in right.collections for place in np.asarray(c.get_offsets())]
        assert costs[0] == (3423.5, 76.76)
        assert {text.get_text() for text in left.texts} == {
            row.title for row in PUBLISHED_SCORES["deconver/table-1"].rows
        }

    def test_measured_points_are_at_the_exact_size(self):
        left, right = draw_efficiency(RESULT, "fives/dsc").axes
        mean = means(RESULT, RESULT.columns[2])["deconver"]
        for axes, size in ((left, 20.794785), (right, 490.70)):
            places = [tuple(place) for c in axes.collections for place in np.asarray(c.get_offsets())]
            assert any(place == pytest.approx((size, mean)) for place in places)
            assert len(axes.lines) == 2

    def test_a_table_without_sizes_has_no_figure(self):
        assert draw_efficiency(published_result("dtc/table-6")) is None
        assert draw_efficiency(published_result("dtc/table-7")) is None
