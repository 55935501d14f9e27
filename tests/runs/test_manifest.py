"""What a manifest tells of how a run was made."""

import sys

import pytest

from deconvseg.runs import describe_environment, shorten_path


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("/home/alice/data/ds", "ds"),
        ("../alice/ds/", "ds"),
        ("--plan=/home/alice/plan.json", "--plan=plan.json"),
        ("-o/home/alice/run", "-orun"),
        ("--epochs", "--epochs"),
        ("-o", "-o"),
        ("recipe.learning_rate=1e-4", "recipe.learning_rate=1e-4"),
        ("plan.json", "plan.json"),
    ],
)
def test_paths_in_a_command_are_cut_to_their_last_name(argument: str, shown: str) -> None:
    assert shorten_path(argument) == shown


def test_a_manifest_has_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/opt/alice/bin/deconvseg", "train", "/home/alice/my data", "-o", "/tmp/run"])
    assert describe_environment()["command"] == "deconvseg train 'my data' -o run"
