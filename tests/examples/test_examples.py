import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("one_layer.py", "logits: (2, 3, 32, 48)"),
        ("scans_to_masks.py", "mean Dice after a few steps"),
        ("upgrade_a_unet.py", "upcat_1.upsample: dtc beside UpSample"),
    ],
)
def test_example_runs(
    script: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(tmp_path)] if script == "scans_to_masks.py" else []
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    assert line in capsys.readouterr().out


def test_every_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"one_layer.py", "scans_to_masks.py", "upgrade_a_unet.py"}
