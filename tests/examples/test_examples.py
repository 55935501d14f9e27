import os
import subprocess
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
def test_example_runs(script: str, line: str, tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / script), *([str(tmp_path)] if script == "scans_to_masks.py" else [])]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert line in done.stdout


def test_every_example_is_tested() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"one_layer.py", "scans_to_masks.py", "upgrade_a_unet.py"}
