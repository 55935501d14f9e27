"""The reference of the site shows every public name once, on the page of its module."""

import re
from pathlib import Path

import pytest

from public_face import REFERENCE, page_of, public_modules, public_names


def shown(page: Path) -> list[str]:
    """The paths that a page shows in full."""
    return re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_public_module_has_a_page() -> None:
    pages = {path for path in REFERENCE.glob("*.md") if path.name != "index.md"}
    assert pages == {page_of(module) for module in public_modules()}
    index = (REFERENCE / "index.md").read_text(encoding="utf-8")
    assert all(f"[{module}]({page_of(module).name})" in index for module in public_modules())


@pytest.mark.parametrize("module", public_modules())
def test_a_page_has_every_name_of_its_module(module: str) -> None:
    page = page_of(module)
    linked = re.findall(r"\[`(\w+)`\]\[deconvseg\.[\w.]+\]", page.read_text(encoding="utf-8"))
    listed = [path.rpartition(".")[2] for path in shown(page)] + linked
    names = [name.name for name in public_names(module)]
    assert sorted(listed) == sorted(names), (
        f"docs/reference/{page.name}: put `::: {module}.NAME` under a heading for "
        f"{sorted(set(names) - set(listed))}, take {sorted(set(listed) - set(names))} out"
    )


def test_what_a_page_links_is_shown_elsewhere() -> None:
    everywhere = [path for module in public_modules() for path in shown(page_of(module))]
    assert len(everywhere) == len(set(everywhere))
    for module in public_modules():
        for target in re.findall(r"\[`\w+`\]\[(deconvseg\.[\w.]+)\]", page_of(module).read_text(encoding="utf-8")):
            assert target in everywhere
