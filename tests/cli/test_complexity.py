"""``deconvseg complexity``."""

import json
import sys

import pytest

from deconvseg.cli import main


@pytest.fixture
def complexity(monkeypatch, capsys):
    """Run the command in this process: exit code, output, errors."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["deconvseg", "complexity", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


@pytest.mark.slow  # test_published_rows_have_their_true_cost of tests/models counts each row, without its training
def test_every_published_row_stands_beside_what_is_true(complexity):
    code, out, _ = complexity()
    assert code == 0
    for text in ("Table I:", "Table III:", "Table 7", "nnU-Net", "607.0", "707.4", "40.13", "Factorizer"):
        assert text in out


def test_a_page_beside_the_tables_has_a_picture_and_names_no_folder(complexity, tmp_path):
    code, out, err = complexity("--model", "deconver", "--preset", "isles22", "-o", tmp_path / "page.md")
    assert code == 0
    assert "Table I:" in out
    assert (tmp_path / "page.png").exists()
    # The page may be shared.
    command = "deconvseg complexity --model deconver --preset isles22 -o page.md"
    assert command in (tmp_path / "page.md").read_text()
    assert "page.png" in err


def test_a_size_alone_leaves_the_tables_of_other_images_out(complexity):
    code, out, err = complexity("--model", "deconver", "--model", "unet", "--size", "32x32", "--json")
    assert code == 0
    assert [table["title"].split(":")[0] for table in json.loads(out)] == [
        "Deconver, Table III", "DTC, Table 7", "DTC, Tables 1 and 2", "Other upsampling in the U-Net of DTC, Table 7",
    ]  # fmt: skip
    assert "left out" in err
    assert "Table II:" in err


def test_json_has_exact_numbers(complexity):
    code, out, _ = complexity("--model", "unet", "--json")
    assert code == 0
    table, *_ = json.loads(out)
    assert [network["parameters"] for network in table["networks"]] == [17_262_977, 17_293_825, 17_444_777, 17_627_473]


def test_any_setting_can_be_counted_and_timed(complexity):
    code, out, err = complexity(
        "--model", "deconver", "--set", "in_channels=1", "--set", "out_channels=1", "--set", "spatial_dims=2",
        "--set", "widths=[4,8]", "--size", "16x24", "--latency", "-d", "cpu", "--json",
    )  # fmt: skip
    assert code == 0
    ((network,),) = [table["networks"] for table in json.loads(out)]
    assert network["input_shape"] == [1, 1, 16, 24]
    assert network["seconds"] > 0
    assert "threads" in err


def test_a_preset_with_a_setting_is_counted_at_its_own_size(complexity):
    _, out, _ = complexity("--preset", "isles22", "--set", "ratio=2", "--json")
    ((network,),) = [table["networks"] for table in json.loads(out)]
    assert network["parameters"] == 8_660_993
    assert network["flops_per_voxel"] / 1e3 == pytest.approx(533.86, abs=0.005)


def test_a_model_asked_for_by_name_of_which_nothing_was_measured_is_an_error(complexity):
    """UNETR was built for 64x64x64 there; in a table with others it is a row without figures."""
    asked = ["--preset", "isles22", "--size", "32x32x32"]
    code, out, err = complexity(*asked, "--model", "unetr", "--model", "segresnet")
    assert code == 1
    assert "UNETR" in out
    assert "left out, because it accepts only 64x64x64: UNETR" in err
    assert err.strip().splitlines()[-1][8:].startswith(" error: no measurement of unetr; ")
    code, out, err = complexity(*asked)
    assert code == 0
    assert "Not measured" in out
    assert "error" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "isles"], "preset 'isles' is unknown: did you mean 'isles26' or 'isles22'"),
        (["--model", "unett"], "model 'unett' is unknown: did you mean 'unet'"),
        (["--size", "64,64"], "--size 64,64: give positive numbers with x between them, such as 64x64x64 or 256x256"),
        (["--size", "0x64"], "--size 0x64"),
        (["--preset", "glas", "--size", "50x50"], "pad to (64, 64)"),
        (["--preset", "glas", "--size", "64"], "size 64: the papers have no table for glas with that number of axes"),
        (["--set", "ratio"], "give KEY=VALUE"),
        (["--preset", "glas", "--set", "ratios=2"], "argument 'ratios' is unknown: did you mean 'ratio'"),
        (["--set", "in_channels=1"], "no size is given: add --size"),
        (["--latency", "-d", "abacus"], "--device abacus"),
        (["-d", "abacus"], "--device abacus: only --latency runs networks on a device; add it"),
        (["-o", "page.png"], "page.png: the page is Markdown; give a name that ends in .md"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(complexity, arguments, message):
    code, _, err = complexity(*arguments)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("size", ["16x24", "8x16x8"])
def test_the_number_of_axes_follows_from_the_size(complexity, size):
    code, out, _ = complexity(
        "--model", "deconver", "--set", "in_channels=1", "--set", "out_channels=1", "--set", "widths=[4,8]", "--size",
        size, "--json",
    )  # fmt: skip
    assert code == 0
    (table,) = json.loads(out)
    assert table["size"] == [int(length) for length in size.split("x")]
    assert table["networks"][0]["parameters"] > 0
