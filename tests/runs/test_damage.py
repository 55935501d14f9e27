"""Damaged files of a run are refused by name; nothing else is raised, whatever was done to them."""

import json
import shutil
from pathlib import Path

import pytest

from deconvseg.errors import InputError
from deconvseg.runs import Run
from deconvseg.training import TrainOptions, resume_options
from deconvseg.training.checkpoint import SafetensorsCheckpointIO, completed_epochs
from mutations import Mutant, foreign_failures, mutate_bytes, mutate_json

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def run(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    copy = tmp_path_factory.mktemp("damaged") / "run"
    shutil.copytree(trained, copy, ignore=shutil.ignore_patterns("validation"))
    return Run(copy)


@pytest.mark.parametrize("name", ["manifest.json", "splits.json", "config.json", "plan.json"])
def test_damaged_documents_raise_our_own_error(run: Run, name: str) -> None:
    def read() -> None:
        run.load_weights()
        assert run.splits.keys() == {"train", "val", "test"}
        run.threads_differ()
        resume_options(TrainOptions("data"), run)

    read()  # undamaged, it raises nothing
    path = run.path / name
    mutants = mutate_json(json.loads(path.read_text()), 60, seed=1)
    assert not foreign_failures(read, path, mutants)


def test_damaged_rows_of_metrics_raise_our_own_error(run: Run) -> None:
    path = run.path / "metrics.jsonl"
    row = json.loads(path.read_text().splitlines()[0])
    mutants = mutate_json(row, 80) + mutate_bytes(path.read_bytes(), 80)
    assert not foreign_failures(lambda: [row["epoch"] + 1 for row in run.metrics], path, mutants)
    path_text = path.read_text()
    for line, error in (("[]", "line 1"), ('{"epoch": true}', "line 1"), ('{"epoch": 0, "val_dice": "x"}', "line 1")):
        path.write_text(line + "\n")
        with pytest.raises(InputError, match=rf"metrics\.jsonl: {error} is not a row of metrics"):
            _ = run.metrics
    path.write_text(path_text)


def test_a_loss_that_is_not_a_number_is_a_row(run: Run) -> None:
    path = run.path / "metrics.jsonl"
    content = path.read_text()
    path.write_text('{"epoch": 0, "train_loss": NaN, "val_dice": null}\n')
    assert run.metrics[0]["val_dice"] is None
    path.write_text(content)


def test_damaged_weights_and_resume_states_raise_our_own_error(run: Run) -> None:
    weights, state = run.path / "weights.safetensors", run.resume_file
    assert not foreign_failures(run.load_weights, weights, mutate_bytes(weights.read_bytes(), 40))
    content = state.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    mutants = mutate_bytes(content, 40, header=3000) + [
        Mutant(mutant.name, len(mutant.content).to_bytes(8, "little") + mutant.content + content[8 + length :])
        for mutant in mutate_json(header, 40)
    ]
    read = SafetensorsCheckpointIO().load_checkpoint
    assert not foreign_failures(lambda: (read(state), completed_epochs(state)), state, mutants)


def test_any_flipped_bit_of_a_resume_state_is_told(run: Run) -> None:
    content = bytearray(run.resume_file.read_bytes())
    tensors = 8 + int.from_bytes(content[:8], "little")
    for place in (tensors, (tensors + len(content)) // 2, len(content) - 1):
        content[place] ^= 1
        run.resume_file.write_bytes(content)
        with pytest.raises(InputError, match="its content does not match its checksum"):
            completed_epochs(run.resume_file)
        content[place] ^= 1
    run.resume_file.write_bytes(content)
    assert completed_epochs(run.resume_file) == 4
