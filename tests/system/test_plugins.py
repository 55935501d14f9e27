"""Installed packages that cannot be imported are named and left out, and the others are known."""

import logging
from pathlib import Path

import pytest

from deconvseg.system import is_loading, load_plugins
from documents import install

GROUP = "deconvseg.of_a_test"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import a_module_that_is_missing", "No module named"),
        ("raise RuntimeError('no\\nluck')", "no luck"),
        ("{}['key']", "'key'"),
        ("raise ValueError", "ValueError"),
        ("def", "invalid syntax"),
    ],
)
def test_a_package_that_fails_is_named_and_the_next_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: str, reason: str
) -> None:
    names = [f"{which}_{abs(hash(code))}" for which in ("broken", "sound")]
    install(tmp_path, names[0], code, GROUP)
    install(tmp_path, names[1], f"from pathlib import Path\nPath({str(tmp_path / 'done')!r}).touch()", GROUP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("deconvseg.system.plugins._loaded", set())
    with caplog.at_level(logging.WARNING, logger="deconvseg"):
        load_plugins(GROUP)
        load_plugins(GROUP)
    (record,) = caplog.records
    assert f"{GROUP}: 'it' of the package {names[0]} cannot be loaded and is left out (" in record.getMessage()
    assert reason in record.getMessage()
    assert "\n" not in record.getMessage()
    assert (tmp_path / "done").exists()
    assert not is_loading()


def test_all_packages_can_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "left_out_package", "raise SystemExit", GROUP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("deconvseg.system.plugins._loaded", set())
    monkeypatch.setenv("DECONVSEG_PLUGINS", "0")
    load_plugins(GROUP)
