"""The hook of the site: where links lead, and lists as its Markdown needs them."""

import importlib.util
from pathlib import Path, PurePosixPath
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    for package in ("mkdocs", "yaml", "latex2mathml"):
        pytest.importorskip(package, reason="the extra docs is not installed")
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "docs" / "site" / "pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("link", "source", "page", "target"),
    [
        ("../how-to/export.md", "docs/results/cpu.md", "results/cpu.md", "../how-to/export.md"),
        ("docs/how-to/export.md", "CONTRIBUTING.md", "contributing.md", "how-to/export.md"),
        ("../../CONTRIBUTING.md", "docs/explanation/losses.md", "explanation/losses.md", "../contributing.md"),
        ("examples", "CONTRIBUTING.md", "contributing.md", "https://host/tree/main/examples"),
        ("../../Makefile", "docs/results/cpu.md", "results/cpu.md", "https://host/blob/main/Makefile"),
        ("nowhere.md", "docs/results/cpu.md", "results/cpu.md", "nowhere.md"),
    ],
)
def test_a_link_leads_to_the_page_or_into_the_repository(
    hook: ModuleType, link: str, source: str, page: str, target: str
) -> None:
    pages = {"how-to/export.md", "results/cpu.md", "contributing.md"}
    assert hook.target_of(link, PurePosixPath(source), page, pages, "https://host") == target


def test_lists_show_as_in_the_repository(hook: ModuleType) -> None:
    import markdown

    text = "Three steps:\n1. one\n\n   more of one\n2. two\n   goes on\n\n   ```sh\n   ls\n   ```\n3. three\n"
    shown = markdown.markdown(hook.indent_lists(text), extensions=["fenced_code"])
    assert shown.count("<li>") == 3
    assert shown.count("<ol>") == 1
    code = "```\n  kept as it is\n```\n"
    assert hook.indent_lists(code) == code


def test_what_a_browser_would_fetch_from_elsewhere_is_found(hook: ModuleType) -> None:
    assert hook._FETCHED.findall('<script src="https://host/a.js"></script><link href="//host/a.css" rel="stylesheet">')
    assert not hook._FETCHED.findall('<a href="https://host/">x</a><script src="../a.js"></script>')
