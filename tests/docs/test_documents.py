import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

FIGURES = Path(__file__).parents[2] / "docs" / "figures"


def test_drawn_figures_are_what_their_script_draws(tmp_path: Path) -> None:
    for script in FIGURES.glob("*.py"):
        shutil.copy(script, tmp_path)
    # The script imports the files beside it, which PYTHONSAFEPATH forbids; the command line sets that in its process.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    subprocess.run([sys.executable, str(tmp_path / "draw.py")], check=True, cwd=tmp_path, env=environment)
    drawn = {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")}
    assert drawn.keys() == {"network.svg", "block.svg", "dtc.svg"}
    assert all((FIGURES / name).read_bytes() == content for name, content in drawn.items())


def test_every_link_of_the_documents_leads_somewhere() -> None:
    root = FIGURES.parents[1]
    for document in [*root.glob("*.md"), *root.glob("docs/**/*.md")]:
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / link).exists(), f"{document.name}: {link}"
