"""The harness of mutants finds what it is for: foreign errors, errors of several lines, crashes and hangs."""

import json
from functools import partial
from pathlib import Path

import chores
from deconvseg.errors import InputError
from mutations import Mutant, foreign_failures, mutate_bytes, mutate_json


def test_mutants_are_many_and_the_same_each_time():
    content = bytes(range(256)) * 4
    mutants = mutate_bytes(content, 70, seed=3)
    assert mutants == mutate_bytes(content, 70, seed=3)
    assert mutants != mutate_bytes(content, 70, seed=4)
    assert len({mutant.content for mutant in mutants}) > 60
    assert all(mutate_json({"a": [1, {"b": 2}]}, 200)[n].content is not None for n in range(200))


def test_a_foreign_error_is_told(tmp_path: Path):
    path = tmp_path / "file.json"
    path.write_text('{"a": 1}')
    told = foreign_failures(lambda: json.loads(path.read_bytes()), path, mutate_json({"a": 1}, 60))
    assert any("RecursionError" in line for line in told)
    assert any("UnicodeDecodeError" in line for line in told)
    assert path.read_text() == '{"a": 1}'


def test_our_own_error_of_one_line_passes(tmp_path: Path):
    def refuse(text: str) -> None:
        raise InputError(text)

    mutant = [Mutant("any", b"")]
    assert foreign_failures(partial(refuse, "one line"), tmp_path / "x", mutant) == []
    assert "several lines" in foreign_failures(partial(refuse, "two\nlines"), tmp_path / "x", mutant)[0]


def test_a_crash_and_a_hang_are_told_and_the_others_go_on(tmp_path: Path):
    path = tmp_path / "x"
    mutants = [Mutant("fine", b"fine"), Mutant("crash", b"crash"), Mutant("hang", b"hang"), Mutant("other", b"other")]
    told = foreign_failures(partial(chores.misbehave, path), path, mutants, apart=True, timeout=1)
    assert [line.split(":")[0] for line in told] == ["crash", "hang", "other"]
    assert "exit code -11" in told[0]
    assert "KeyError" in told[2]
