"""Hook of mkdocs: pages of the repository's root, navigation by patterns, links out of the documentation.

The same Markdown is read on the site and in the repository, so its links are those of files. On the site a link to a
page leads to that page, and any other (to a script, to a folder of results) to the file in the repository.
"""

import logging
import re
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

import yaml
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
#: Files of the repository's root that are pages of the site.
FROM_ROOT = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "UPGRADING.md": "upgrading.md"}
#: The page that stands for a file which the site does not show itself.
INSTEAD = {"README.md": "index.md"}

_log = logging.getLogger("mkdocs.hooks.pages")
_FETCHED = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc=["']?(?:https?:)?//[^>]*>"""
    r"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preconnect|preload|icon))[^>]*\bhref=["']?(?:https?:)?//[^>]*>"""
)
_LINK = re.compile(r"(!?\[[^\]]*\]\()(?![a-z]+:|#|/)([^)\s#]+)(#[^)\s]*)?\)")
_CODE = re.compile(r"(^ *```.*?^ *```)", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Take the repository's address from CITATION.cff, fill the patterns of the navigation in, show formulas."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    config.repo_url = citation["repository-code"]
    config.repo_name = "Repository"
    fence = {"name": "math", "class": "math", "format": _show_math}
    config.mdx_configs["pymdownx.superfences"] = {"custom_fences": [fence]}
    pages = sorted(_shown(config), key=lambda page: _heading(Path(config.docs_dir, page)).lower())
    named = {entry for entry in _leaves(config.nav) if "*" not in entry}
    config.nav = _expand(config.nav, [page for page in pages if page not in named])
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the repository's root."""
    for name, page in FROM_ROOT.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links of a page, outside its code."""
    pages = {file.src_uri for file in files}
    source = PurePosixPath(Path(page.file.abs_src_path or "").relative_to(ROOT).as_posix())

    def rewrite(match: re.Match[str]) -> str:
        target = target_of(match[2], source, page.file.src_uri, pages, config.repo_url or "")
        return f"{match[1]}{target}{match[3] or ''})"

    parts = _CODE.split(indent_lists(markdown))
    parts[::2] = [_LINK.sub(rewrite, text) for text in parts[::2]]
    return "".join(parts)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Warn of what a browser would fetch from elsewhere; ``--strict`` makes an error of it."""
    for tag in _FETCHED.findall(output):
        _log.warning("%s: a browser fetches %s from elsewhere", page.file.src_uri, tag)
    return output


def target_of(link: str, source: PurePosixPath, page: str, pages: set[str], repository: str) -> str:
    """Return where a link leads on the site.

    Args:
        link: the link of the Markdown file, relative to it.
        source: the Markdown file, from the repository's root.
        page: the same file in the documentation, where the site has it.
        pages: all files of the documentation.
        repository: its address.

    """
    path = normpath(str(source.parent / link))
    inside = path.removeprefix("docs/") if path.startswith("docs/") else FROM_ROOT.get(path, INSTEAD.get(path, ""))
    if inside in pages:
        return relpath(inside, str(PurePosixPath(page).parent))
    if not (ROOT / path).exists():
        return link  # mkdocs says that it leads nowhere
    kind = "tree" if (ROOT / path).is_dir() else "blob"
    return f"{repository}/{kind}/main/{path}"


def indent_lists(markdown: str) -> str:
    """Write lists as this Markdown needs them, where that of GitHub needs less.

    What belongs to an item is indented by four spaces, and a blank line comes before a list and before an item that
    follows one of several paragraphs.
    """
    lines: list[str] = []
    in_list = in_fence = paragraphs = False
    shift = 0
    for line in markdown.splitlines():
        text = line.lstrip(" ")
        indent = len(line) - len(text)
        if not in_fence:
            if text and indent == 0:
                is_item = re.match(r"(?:[-*]|\d+\.) ", line) is not None
                if is_item and (paragraphs or not in_list) and lines and lines[-1]:
                    lines.append("")
                in_list, paragraphs = is_item, False
            paragraphs = paragraphs or (in_list and not text)
            shift = 4 - indent if in_list and 0 < indent < 4 else 0
        if text.startswith("```"):
            in_fence = not in_fence
        lines.append(" " * shift + line if text else line)
    return "\n".join(lines) + "\n"


def _show_math(source: str, *_: Any, **__: Any) -> str:
    """Turn a formula into MathML, which browsers show without a script."""
    return f'<div class="math">{convert(source, display="block")}</div>'


def _shown(config: MkDocsConfig) -> list[str]:
    folder = Path(config.docs_dir)
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*.md")]


def _heading(path: Path) -> str:
    found = re.search(r"^# (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else path.stem


def _leaves(entry: Any) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    return [leaf for part in (entry.values() if isinstance(entry, dict) else entry) for leaf in _leaves(part)]


def _expand(entry: Any, pages: list[str]) -> Any:
    """Put the pages that match in place of a pattern."""
    if isinstance(entry, dict):
        return {name: _expand([part] if _is_pattern(part) else part, pages) for name, part in entry.items()}
    if isinstance(entry, str):
        return entry
    filled: list[Any] = []
    for part in entry:
        filled += [page for page in pages if fnmatch(page, part)] if _is_pattern(part) else [_expand(part, pages)]
    return filled


def _is_pattern(entry: Any) -> bool:
    return isinstance(entry, str) and "*" in entry
