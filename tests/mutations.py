"""Damaged copies of files and JSON documents, and a check that reading them raises no error but our own."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from deconvseg.errors import DeconvsegError

_FACTOR = int(os.environ.get("DECONVSEG_MUTANTS", "1"))
_EXTREMES = (
    *(struct.pack("<B", value) for value in (0, 1, 0x7F, 0x80, 0xFF)),
    *(struct.pack("<H", value) for value in (0, 0x7FFF, 0x8000, 0xFFFF)),
    *(struct.pack("<I", value) for value in (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)),
    *(struct.pack("<f", value) for value in (0.0, -1.0, 1e38, 1e-45, float("inf"), float("nan"))),
    *(struct.pack("<d", value) for value in (1e308, float("nan"))),
)
_WORDS = (
    b"-1",
    b"0",
    b"1e308",
    b"nan",
    b"inf",
    b"99999999999999999999",
    b"2147483648",
    b"",
    b"%d",
    b"\x00",
    b"\xff\xfe",
)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 2**31, 2**63, 2**64, 10**30, 1e308, "", "x", "\x00", "é", "../../x"),
    *([], [1], [[]], ["a", None], {}, {"x": 1}, {"": {}}),
)
# Written into the text, because they are no values that json.dumps would write.
_TOKENS = (
    *("NaN", "Infinity", "-Infinity", "1e999", "-0", "01", "'x'", '"\\ud800"', '"\\u0000"', "9" * 5000),
    *("[" * 5000 + "]" * 5000, '{"a":' * 5000 + "1" + "}" * 5000, '"\t"', "undefined", ""),
)


@dataclass(frozen=True)
class Mutant:
    """A damaged content and what was done to it."""

    name: str
    content: bytes


def mutate_bytes(content: bytes, count: int, *, seed: int = 0, header: int = 400) -> list[Mutant]:
    """``count`` damaged copies: flipped bits, extreme fields, words of a text header, cuts, insertions, moved blocks.

    Half of the places lie in the first ``header`` bytes. The same arguments give the same mutants.
    ``DECONVSEG_MUTANTS`` multiplies the count.
    """
    count *= _FACTOR
    rng = np.random.default_rng(seed)
    kinds = (_flip, _field, _word, _cut, _insert, _swap, _zero)
    return [kinds[number % len(kinds)](content, rng, header) for number in range(count)]


def mutate_json(document: object, count: int, *, seed: int = 0) -> list[Mutant]:
    """``count`` damaged copies of a JSON document: other types, missing and doubled keys, no JSON, no UTF-8.

    ``DECONVSEG_MUTANTS`` multiplies the count.
    """
    count *= _FACTOR
    rng = np.random.default_rng(seed)
    text = json.dumps(document)
    whole = [
        Mutant("empty", b""),
        Mutant("BOM", b"\xef\xbb\xbf" + text.encode()),
        Mutant("UTF-16", text.encode("utf-16")),
        Mutant("invalid UTF-8", text.encode()[:-1] + b"\xff\xfe}"),
        Mutant("invalid UTF-8 in a string", text.encode().replace(b'"', b'"\xc3', 1)),
        Mutant("NUL bytes", bytes(64)),
        Mutant("two documents", (text + text).encode()),
        *(Mutant(f"the whole is {value!r}", json.dumps(value).encode()) for value in _VALUES),
        *(Mutant(f"the whole is {token[:12]}", token.encode()) for token in _TOKENS),
    ]
    places = list(_places(document))
    kinds = (_replace, _replace, _token, _remove, _double, _cut_text)
    return (whole + [kinds[number % len(kinds)](document, places, rng) for number in range(count)])[:count]


def foreign_failures(
    read: Callable[[], object], path: Path, mutants: Sequence[Mutant], *, apart: bool = False, timeout: float = 20
) -> list[str]:
    """What went wrong while ``read`` met each mutant in the place of ``path``, which is put back at the end.

    ``read`` may return or raise a `DeconvsegError` of one line. With ``apart`` it runs in another process, so that a
    crash and a hang (of ``timeout`` seconds) are told too; then it must be picklable, such as a ``partial`` of an
    importable function.
    """
    original = path.read_bytes() if path.exists() else None
    try:
        if apart:
            return list(_read_apart(read, path, mutants, timeout))
        told = ((mutant, _try(read, path, mutant)) for mutant in mutants)
        return [f"{mutant.name}: {fault}" for mutant, fault in told if fault]
    finally:
        if original is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(original)


def _try(read: Callable[[], object], path: Path, mutant: Mutant) -> str:
    path.write_bytes(mutant.content)
    try:
        read()
    except DeconvsegError as error:
        return f"several lines: {error!r}" if "\n" in str(error) else ""
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__module__}.{type(error).__name__}: {error}"
    return ""


def _read_apart(read: Callable[[], object], path: Path, mutants: Sequence[Mutant], timeout: float) -> Iterator[str]:
    context = multiprocessing.get_context("spawn")
    done = 0
    while done < len(mutants):
        ours, theirs = context.Pipe()
        child = context.Process(target=_serve, args=(theirs, read, path, list(mutants[done:])), daemon=True)
        child.start()
        theirs.close()
        try:
            ready = ours.poll(60) and ours.recv()
            assert ready, "the reading process did not start"
            while done < len(mutants):
                if not ours.poll(timeout):
                    yield f"{mutants[done].name}: no end after {timeout:g} s"
                    done += 1
                    break
                fault = ours.recv()
                if fault:
                    yield f"{mutants[done].name}: {fault}"
                done += 1
        except EOFError:
            child.join()
            yield f"{mutants[done].name}: the process died (exit code {child.exitcode})"
            done += 1
        finally:
            child.kill()
            child.join()
            ours.close()


def _serve(told: Connection, read: Callable[[], object], path: Path, mutants: Sequence[Mutant]) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))
    told.send(True)
    for mutant in mutants:
        told.send(_try(read, path, mutant))


def _place(content: bytes, rng: np.random.Generator, header: int) -> int:
    end = min(header, len(content)) if rng.random() < 0.5 else len(content)
    return int(rng.integers(max(1, end)))


def _flip(content: bytes, rng: np.random.Generator, header: int) -> Mutant:
    place, bit = _place(content, rng, header), int(rng.integers(8))
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    return Mutant(f"bit {bit} of byte {place} flipped", bytes(changed))


def _field(content: bytes, rng: np.random.Generator, header: int) -> Mutant:
    value = _EXTREMES[int(rng.integers(len(_EXTREMES)))]
    value = value[::-1] if rng.random() < 0.5 else value
    place = _place(content, rng, header) // len(value) * len(value)
    return Mutant(f"{value.hex()} at byte {place}", content[:place] + value + content[place + len(value) :])


def _word(content: bytes, rng: np.random.Generator, header: int) -> Mutant:
    """One word of a text header replaced, the lines kept."""
    lines = content[:header].split(b"\n")
    number = int(rng.integers(len(lines)))
    words = lines[number].split(b" ")
    place = int(rng.integers(len(words)))
    word = _WORDS[int(rng.integers(len(_WORDS)))]
    old, words[place] = words[place], word
    lines[number] = b" ".join(words)
    name = f"line {number}, word {place}, {old[:24]!r} becomes {word!r}"
    return Mutant(name, b"\n".join(lines) + content[header:])


def _cut(content: bytes, rng: np.random.Generator, header: int) -> Mutant:
    place = _place(content, rng, header)
    return Mutant(f"cut at byte {place}", content[:place])


def _insert(content: bytes, rng: np.random.Generator, header: int) -> Mutant:
    place, length = _place(content, rng, header), int(rng.integers(1, 9))
    return Mutant(f"{length} bytes at {place}", content[:place] + rng.bytes(length) + content[place:])


def _swap(content: bytes, rng: np.random.Generator, header: int) -> Mutant:
    length = int(rng.integers(1, 17))
    first, second = sorted((_place(content, rng, header), _place(content, rng, header)))
    parts = (content[:first], content[second:][:length], content[first:second], content[second + length :])
    return Mutant(f"{length} bytes of {second} moved to {first}", b"".join(parts))


def _zero(content: bytes, rng: np.random.Generator, header: int) -> Mutant:
    place, length = _place(content, rng, header), int(rng.integers(1, 65))
    return Mutant(f"{length} bytes zeroed at {place}", content[:place] + bytes(length) + content[place + length :])


def _places(document: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The keys and indices that lead to every value inside a document."""
    inside = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in inside:
        yield (*path, key)
        yield from _places(value, (*path, key))


def _choose(document: object, places: list[tuple[Any, ...]], rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """A copy of the document, the object or list in it that holds a chosen place, and its key there."""
    copy = json.loads(json.dumps(document))
    path = places[int(rng.integers(len(places)))]
    holder = copy
    for key in path[:-1]:
        holder = holder[key]
    return copy, holder, path[-1]


def _replace(document: object, places: list[tuple[Any, ...]], rng: np.random.Generator) -> Mutant:
    copy, holder, key = _choose(document, places, rng)
    holder[key] = _VALUES[int(rng.integers(len(_VALUES)))]
    return Mutant(f"{key} is {holder[key]!r}", json.dumps(copy).encode())


def _token(document: object, places: list[tuple[Any, ...]], rng: np.random.Generator) -> Mutant:
    copy, holder, key = _choose(document, places, rng)
    token = _TOKENS[int(rng.integers(len(_TOKENS)))]
    holder[key] = "@token@"
    return Mutant(f"{key} is {token[:12]}", json.dumps(copy).replace('"@token@"', token).encode())


def _remove(document: object, places: list[tuple[Any, ...]], rng: np.random.Generator) -> Mutant:
    copy, holder, key = _choose(document, places, rng)
    del holder[key]
    return Mutant(f"without {key}", json.dumps(copy).encode())


def _double(document: object, places: list[tuple[Any, ...]], rng: np.random.Generator) -> Mutant:
    copy, holder, key = _choose(document, places, rng)
    if isinstance(holder, list):
        holder.append(holder[key])
        return Mutant(f"element {key} twice", json.dumps(copy).encode())
    value = holder[key]
    holder["@twice@"] = value
    return Mutant(f"{key} twice", json.dumps(copy).replace('"@twice@"', json.dumps(key)).encode())


def _cut_text(document: object, places: list[tuple[Any, ...]], rng: np.random.Generator) -> Mutant:
    text = json.dumps(document).encode()
    place = int(rng.integers(len(text)))
    return Mutant(f"cut at {place}", text[:place])
