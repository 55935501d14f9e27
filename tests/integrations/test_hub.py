"""Runs on the hub, by the hub's own client against a small server of its endpoints on this machine."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import deconvseg
from deconvseg.cli.app import _KEPT, _command, app
from deconvseg.data import read_image
from deconvseg.errors import DeconvsegError, InputError, MissingPackageError
from deconvseg.integrations import push
from deconvseg.integrations.hub.client import explaining
from deconvseg.runs import Run, locate, locating
from hub_server import TOKEN, HubServer
from shared_runs import PATIENTS, copy_with_patients, fold

hub = pytest.importorskip("huggingface_hub", reason="huggingface-hub is not installed")

NAME = "my-group/discs"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub; the client reads these settings from the environment when it is imported."""
    server = HubServer()
    for key, value in {
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_HUB_DISABLE_XET": True,
    }.items():
        monkeypatch.setattr(hub.constants, key, value)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    locating._fetch.cache_clear()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def pushed(server: HubServer, trained: Path) -> HubServer:
    push(trained, NAME, license="cc-by-4.0")
    return server


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    locating._fetch.cache_clear()


def test_what_is_pushed_predicts_as_the_run(pushed: HubServer, trained: Path, discs: Path) -> None:
    image = read_image(discs / "images" / "disc6.png")
    mask = deconvseg.predict(image, f"hf://{NAME}")
    assert mask.pixels.any()
    assert np.array_equal(mask.pixels, deconvseg.predict(image, trained).pixels)
    # A path of the command line has one slash.
    assert locate(Path(f"hf://{NAME}")) == locate(f"hf://{NAME}@main")
    # Nothing but the listed files is downloaded.
    pushed.repositories[NAME]["main"][-1][1]["huge.safetensors"] = b"0"
    locating._fetch.cache_clear()
    assert "huge.safetensors" not in {path.name for path in locate(f"hf://{NAME}").iterdir()}


def test_it_is_predicted_offline_from_the_cache(
    pushed: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = locate(f"hf://{NAME}")
    pushed.asked.clear()
    offline(monkeypatch)
    assert locate(f"hf://{NAME}") == folder
    assert not pushed.asked
    with pytest.raises(InputError, match="hf://my-group/other: is not in the local cache, and the hub cannot be"):
        locate("hf://my-group/other")
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set, so nothing is sent"):
        push(Run(folder).path, NAME, license="cc-by-4.0")


def test_a_branch_and_a_commit_are_revisions(pushed: HubServer, trained: Path, tmp_path: Path) -> None:
    first = pushed.repositories[NAME]["main"][-1][0]
    again = push(trained, NAME, license="cc-by-4.0", stored="bfloat16", revision="half")
    assert locate(f"hf://{NAME}@half").name == again.commit
    assert locate(f"hf://{NAME}@{first}").name == locate(f"hf://{NAME}").name == first


def test_a_cross_validation_replaces_a_run(pushed: HubServer, trained: Path, tmp_path: Path) -> None:
    push(fold(trained, tmp_path / "cv", 3), NAME, license="mit")
    push(fold(trained, tmp_path / "less", 2), NAME, license="mit")
    names = pushed.files(NAME)
    assert {name.partition("/")[0] for name in names if "/" in name} == {"fold_0", "fold_1"}
    assert "weights.safetensors" not in names
    assert (locate(f"hf://{NAME}") / "fold_1" / "weights.safetensors").is_file()


def test_a_second_push_keeps_the_card_and_files_of_others(pushed: HubServer, trained: Path) -> None:
    files = pushed.repositories[NAME]["main"][-1][1]
    files |= {"README.md": b"mine", "tokenizer.json": b"{}", "fold_7/plan.json": b"{}"}
    push(trained, NAME, license="mit")
    names = pushed.files(NAME)
    assert names["README.md"] == b"mine"
    assert "tokenizer.json" in names
    assert "fold_7/plan.json" not in names
    assert "weights.safetensors" in names
    push(trained, NAME, license="mit", replace_card=True)
    assert b'license: "mit"' in pushed.files(NAME)["README.md"]


@pytest.mark.parametrize("name", ["contract.json", "threshold.json", "fold_0/postprocessing.json"])
def test_a_file_of_a_run_that_is_not_listed_is_refused(pushed: HubServer, name: str) -> None:
    folder = locate(f"hf://{NAME}")
    (folder / "LICENSE").write_text("text")
    locating._fetch.cache_clear()
    assert locate(f"hf://{NAME}") == folder
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("{}")
    locating._fetch.cache_clear()
    with pytest.raises(InputError, match=f"{name} is not listed in its package.json"):
        locate(f"hf://{NAME}")


def test_only_errors_of_the_network_speak_of_the_connection() -> None:
    for lost in (hub.errors.HTTPError("lost"), ConnectionResetError("lost")):
        with pytest.raises(DeconvsegError, match="lost; check the connection"), explaining("a/b"):
            raise lost
    with pytest.raises(DeconvsegError, match="/cache/blob") as raised, explaining("a/b"):
        raise OSError(errno.ENOSPC, "No space left on device", "/cache/blob")
    assert "connection" not in str(raised.value)
    with pytest.raises(ZeroDivisionError), explaining("a/b"):
        _ = 1 / 0


def test_nothing_that_is_sent_names_a_case(server: HubServer, trained: Path, tmp_path: Path) -> None:
    push(copy_with_patients(trained, tmp_path / "run"), NAME, license="cc-by-4.0")
    for name, content in server.files(NAME).items():
        for text in (*PATIENTS, "disc4", "/home/me", "/tmp/me", str(tmp_path)):
            assert text.encode() not in content, (name, text)


def test_the_card_is_one_of_the_hub(pushed: HubServer, trained: Path) -> None:
    text = pushed.files(NAME)["README.md"].decode()
    card = hub.ModelCard(text)
    assert card.data.license == "cc-by-4.0"
    assert card.data.library_name == "deconvseg"
    assert card.data.pipeline_tag == "image-segmentation"
    assert {"medical", "image-segmentation", "monai"} <= set(card.data.tags)
    (dice,) = [result for result in card.data.eval_results if result.metric_type == "dice"]
    summary = json.loads((trained / "validation" / "metrics.json").read_text())["summary"]["classes"]["255"]["dsc"]
    assert dice.metric_value == pytest.approx(summary["mean"], abs=1e-5)
    assert dice.metric_args == {"cases": 2, "ci95": pytest.approx(summary["ci95"], abs=1e-5)}
    assert dice.dataset_name == "discs"
    body = " ".join(text.split())
    for part in (
        f"deconvseg predict -i SCANS -o MASKS -m hf://{NAME}",
        "| cases | 4 train, 2 val, 2 test |",
        "| labels | 255 disc |",
        "Not a medical device",
        "trained on 4 cases of one dataset",
    ):
        assert part in body, part


def test_a_changed_file_is_refused(pushed: HubServer) -> None:
    files = pushed.repositories[NAME]["main"][-1][1]
    files["weights.safetensors"] = files["weights.safetensors"][:-1] + b"0"
    with pytest.raises(InputError, match=r"the SHA-256 of weights\.safetensors is not that of its package\.json"):
        locate(f"hf://{NAME}")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda files: files.pop("weights.safetensors"), "is no model of deconvseg, or not whole"),
        (lambda files: files.pop("package.json"), "is no model of deconvseg, or not whole"),
        (lambda files: files.update({"package.json": b"{}"}), "package.json: name: Field required"),
        (
            lambda files: files.update({"package.json": files["package.json"].replace(b"plan.json", b"../p.json")}),
            "'../p.json' is no file of a model",
        ),
    ],
    ids=["no weights", "another model", "empty", "a name that leaves"],
)
def test_what_push_does_not_write_is_refused(pushed: HubServer, change: Any, error: str) -> None:
    change(pushed.repositories[NAME]["main"][-1][1])
    with pytest.raises(InputError, match=error):
        locate(f"hf://{NAME}")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("hf://my-group/nothing", "hf://my-group/nothing: the hub has no such repository, or it is private"),
        (f"hf://{NAME}@v9", f"hf://{NAME}@v9: has no such branch, tag or commit"),
        ("hf://a/b/c", "hf://a/b/c: .*; give hf://ORG/NAME"),
        ("hf://--", "hf://--: .*; give hf://ORG/NAME"),
    ],
)
def test_a_wrong_name_is_an_error_in_one_line(pushed: HubServer, name: str, error: str) -> None:
    with pytest.raises(InputError, match=error) as raised:
        locate(name)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_an_unreachable_hub_is_an_error_in_one_line(
    server: HubServer, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    )
    with pytest.raises(DeconvsegError, match="is not in the local cache, and the hub cannot be") as raised:
        locate(f"hf://{NAME}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"license": None}, "`license`: give the licence of the weights"),
        ({"license": "CC BY"}, "`license='CC BY'`: give the licence"),
        ({"repository": "discs"}, "`repository='discs'`: give ORG/NAME"),
        ({"repository": "a/../b"}, "give ORG/NAME"),
    ],
)
def test_what_cannot_be_pushed_is_refused_before_anything_is_sent(
    server: HubServer, trained: Path, asked: dict[str, Any], error: str
) -> None:
    with pytest.raises(InputError, match=error):
        push(trained, **{"repository": NAME, "license": "mit"} | asked)
    assert not server.asked


def test_a_wrong_token_is_an_error_that_names_it(
    server: HubServer, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(InputError, match=r"the token may not write to it \(HTTP 401\); set HF_TOKEN"):
        push(trained, NAME, license="mit")


def test_a_dry_run_sends_nothing(server: HubServer, trained: Path, tmp_path: Path) -> None:
    push(trained, NAME, license="mit", dry_run=tmp_path / "model")
    assert not server.asked
    assert (tmp_path / "model" / "README.md").is_file()
    assert deconvseg.load_network(tmp_path / "model", device="cpu").out_channels == 2
    with pytest.raises(InputError, match="exists already"):
        push(trained, NAME, license="mit", dry_run=tmp_path / "model")


def test_the_command_says_that_a_dry_run_sent_nothing(trained: Path, tmp_path: Path) -> None:
    arguments = ["hub", "push", str(trained), NAME, "--license", "mit", "--dry-run", str(tmp_path / "model")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert f"nothing was sent to hf://{NAME}" in done.stdout
    assert done.stdout.splitlines()[-1] == str(tmp_path / "model")
    assert "push again" in _KEPT[_command(arguments)]


def test_without_the_client_the_error_names_the_extra(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    locating._fetch.cache_clear()
    for call in (lambda: locate("hf://a/b"), lambda: push(trained, NAME, license="mit")):
        with pytest.raises(MissingPackageError, match=r"pip install 'deconvseg\[hub\]'"):
            call()


@pytest.mark.slow
def test_the_commands_follow_the_environment(server: HubServer, trained: Path, discs: Path, tmp_path: Path) -> None:
    """Endpoint, token and cache are those of the client's own variables."""
    environment = os.environ | {
        "HF_ENDPOINT": server.url,
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
    }

    def run(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
        command = [shutil.which("deconvseg") or "deconvseg", *map(str, arguments)]
        return subprocess.run(command, env=environment | more, capture_output=True, text=True, check=False)

    done = run("hub", "push", trained, NAME, "--license", "cc0-1.0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{server.url}/{NAME}"
    predict = ("predict", "-i", discs / "images", "-m", f"hf://{NAME}", "-d", "cpu")
    assert run(*predict, "-o", tmp_path / "online").returncode == 0
    server.shutdown()
    done = run(*predict, "-o", tmp_path / "offline", "--jobs", "2", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    for mask in sorted((tmp_path / "online").glob("*.png")):
        assert mask.read_bytes() == (tmp_path / "offline" / mask.name).read_bytes()
    assert len(list((tmp_path / "offline").glob("*.png"))) == 8
