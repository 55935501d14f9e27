"""What the files around the package say of it and of one another: versions, markers, targets, workflows."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from deconvseg._version import __version__

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest itself needs it there

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def workflow(path: Path) -> dict[Any, Any]:
    document: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in workflow(path)["jobs"].items():
            yield f"{path.name}: {name}", job


def table(heading: str) -> list[str]:
    """First cells, without backquotes, of the table in CONTRIBUTING.md whose first column has this head."""
    lines = iter((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines())
    assert any(line.startswith(f"| {heading} |") for line in lines)
    assert next(lines).startswith("|---")
    rows = []
    for line in lines:
        if not line.startswith("|"):
            return rows
        rows += re.findall(r"`([^`]*)`", line.split("|")[1])
    return rows


def test_the_supported_pythons_are_the_same_everywhere() -> None:
    said = project()
    allowed = SpecifierSet(said["project"]["requires-python"])
    assert [f"3.{minor}" for minor in range(30) if f"3.{minor}.5" in allowed] == PYTHONS
    classified = [name.rpartition(" ")[2] for name in said["project"]["classifiers"] if ":: Python :: 3." in name]
    assert classified == PYTHONS
    assert said["tool"]["mypy"]["python_version"] == PYTHONS[0]
    matrix = workflow(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]["suite"]["strategy"]["matrix"]
    assert matrix["python"] == PYTHONS
    ends = [f"cp{version.replace('.', '')}-*" for version in (PYTHONS[0], PYTHONS[-1])]
    assert said["tool"]["cibuildwheel"]["build"].split() == ends


def test_the_citation_has_the_version_and_the_addresses_of_the_package() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    said = project()["project"]
    assert citation["version"] == __version__
    assert citation["license"] == said["license"]
    assert citation["repository-code"] == said["urls"]["Source"]
    assert citation["url"] == said["urls"]["Documentation"]


def test_constrained_versions_are_allowed_ones() -> None:
    said = project()["project"]
    asked = [Requirement(line) for line in said["dependencies"]]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for pin in (Requirement(line) for line in lines if line and not line.startswith("#")):
        (version,) = (part.version for part in pin.specifier)
        for requirement in asked:
            assert requirement.name != pin.name or version in requirement.specifier, f"{pin} of {requirement}"


def test_every_marker_and_every_target_is_described() -> None:
    markers = [line.partition(":")[0] for line in project()["tool"]["pytest"]["ini_options"]["markers"]]
    assert table("marker") == markers
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (targets,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert sorted(table("target")) == sorted(f"make {target}" for target in targets.split())


def test_every_action_is_pinned_by_commit_with_its_version_beside_it() -> None:
    for path in WORKFLOWS:
        for line in path.read_text(encoding="utf-8").splitlines():
            if "uses: " in line and "uses: ./" not in line:
                assert re.search(r"uses: [\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), f"{path.name}: {line}"


def test_workflows_may_read_the_repository_and_a_job_says_what_more_it_may() -> None:
    for path in WORKFLOWS:
        said = workflow(path)
        assert said["permissions"] == {"contents": "read"}, path.name
        assert "concurrency" in said, path.name
        assert "secrets." not in path.read_text(encoding="utf-8"), path.name
    more = {name: set(job["permissions"]) for name, job in jobs() if "permissions" in job}
    assert more == {
        "docs.yml: deploy": {"pages", "id-token"},
        "release.yml: publish": {"id-token"},
        "release.yml: page": {"contents"},
    }


def test_every_job_ends_by_itself_and_leaves_no_credentials_behind() -> None:
    for name, job in jobs():
        assert "uses" in job or job["timeout-minutes"] <= 60, name
        for step in job.get("steps", []):
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False, name


def test_files_that_the_workflows_call_are_there() -> None:
    for path in WORKFLOWS:
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"(?<![\w/])(?:-r |-c |\./)?((?:\.ci|\.github|tests)/[\w./-]+|constraints\.txt)", text):
            assert (ROOT / name).exists(), f"{path.name}: {name}"
        for target in re.findall(r"run: make ([\w-]+)", text):
            assert f"make {target}" in table("target"), f"{path.name}: {target}"


def test_the_tools_of_the_workflows_are_pinned() -> None:
    lines = (ROOT / ".github" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    for line in lines:
        assert line.startswith("#") or re.fullmatch(r"[\w.-]+==[\d.]+", line), line


@pytest.mark.parametrize("name", ["bug", "dataset", "feature"])
def test_a_form_asks_with_commands_that_there_are(name: str) -> None:
    from typer.main import get_command

    from deconvseg.cli.app import app

    def known(command: Any, words: list[str]) -> bool:
        options = {option for parameter in command.params for option in parameter.opts}
        for index, word in enumerate(words):
            if word in getattr(command, "commands", {}):
                return known(command.commands[word], words[index + 1 :])
            if word.startswith("--") and word not in options:
                return False
        return not hasattr(command, "commands") or "..." in words

    text = (ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text(encoding="utf-8")
    commands = re.findall(r"`deconvseg ([^`]*)`", text)
    assert commands or name == "feature"
    for command in commands:
        assert known(get_command(app), command.split()), command
    ids = [field["id"] for field in yaml.safe_load(text)["body"] if "id" in field]
    assert len(ids) == len(set(ids))
