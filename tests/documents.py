"""Code of the documentation, which the tests run as it stands there."""

import importlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def code_of(page: str) -> str:
    """The first block of Python of a page of the documentation."""
    found = re.search(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


@contextmanager
def imported(page: str, module: str, folder: Path) -> Iterator[None]:
    """Import the code of a page as a module of that name, for the time of the block."""
    (folder / f"{module}.py").write_text(code_of(page), encoding="utf-8")
    sys.path.insert(0, str(folder))
    try:
        importlib.import_module(module)
        yield
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop(module, None)


def install(folder: Path, module: str, code: str, group: str) -> None:
    """Put a module and its metadata into a folder, as ``pip install --target`` does, with itself as an entry point."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(code, encoding="utf-8")
    metadata = folder / f"{module}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(f"[{group}]\nit = {module}\n", encoding="utf-8")
