"""How much memory a process may still take and has taken, and the errors that say that it ran out."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from deconvseg.errors import DeconvsegError
from deconvseg.ops.native.interface import KernelMemoryError
from deconvseg.system import available_memory, is_out_of_memory, peak_memory, total_memory
from deconvseg.system.memory import control_group_room
from deconvseg.units import parse_bytes

GIB = 2**30


def test_what_is_available_is_no_more_than_the_machine_has() -> None:
    assert 0 < available_memory("cpu") <= total_memory() == psutil.virtual_memory().total


def test_peak_memory_grows_with_what_was_taken_and_never_falls() -> None:
    before = peak_memory()
    assert before >= psutil.Process().memory_info().rss * 0.5
    # More than is looked for: meanwhile the process may give memory back, and Linux pages of files.
    wanted = before - psutil.Process().memory_info().rss + 256 * 2**20
    block = np.ones(wanted, np.uint8)
    assert peak_memory() > before + 60 * 2**20
    del block
    assert peak_memory() > before + 60 * 2**20


@pytest.mark.parametrize("text", ["8G", "800M", "1.5T", "8GiB", "512k"])
def test_memory_is_read_in_multiples_of_1024(text: str) -> None:
    found = {"8G": 8 * GIB, "800M": 800 * 2**20, "1.5T": 1536 * GIB, "8GiB": 8 * GIB, "512k": 2**19}
    assert parse_bytes(text) == found[text]


def test_messages_on_standard_output_are_kept_apart_from_what_libraries_print() -> None:
    script = """
import os
from deconvseg.system import take_over_stdout
messages = take_over_stdout()
print("from Python", flush=True)
os.write(1, b"from elsewhere\\n")
messages.write("a message\\n")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "a message\n"
    assert "from Python\nfrom elsewhere\n" in done.stderr


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("MPS backend out of memory. Tried to allocate 256 bytes on shared pool."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 256 bytes."),
        RuntimeError("could not create a primitive"),
        RuntimeError("std::bad_alloc"),
        KernelMemoryError("selective_scan: not enough memory for its work"),
    ],
)
def test_allocators_and_kernels_say_that_memory_ran_out(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [DeconvsegError("no native kernels"), RuntimeError("expected something else"), ValueError("std::bad_alloc")],
)
def test_other_errors_are_none_of_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_pytorchs_own_refusal_is_known() -> None:
    with pytest.raises(RuntimeError) as refusal:
        torch.empty(2**55)
    assert is_out_of_memory(refusal.value)


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_groups_of_version_2_are_heard_up_to_the_root(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "self": "0::/jobs/one\n",
            "groups/jobs/memory.max": f"{8 * GIB}\n",
            "groups/jobs/memory.current": f"{5 * GIB}\n",
            "groups/jobs/memory.stat": f"anon 1\nactive_file {GIB}\ninactive_file {GIB}\n",
            "groups/jobs/one/memory.max": "max\n",
            "groups/jobs/one/memory.current": "0\n",
            "groups/memory.max": f"{16 * GIB}\n",
            "groups/memory.current": f"{20 * GIB}\n",
        },
    )
    rooms = list(control_group_room(tmp_path / "groups", tmp_path / "self"))
    assert rooms == [5 * GIB, 0]


def test_groups_of_version_1_and_of_a_container_that_does_not_see_its_path(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "self": "5:cpu:/docker/abc\n4:memory,hugetlb:/docker/abc\n",
            "groups/memory/memory.limit_in_bytes": f"{4 * GIB}\n",
            "groups/memory/memory.usage_in_bytes": f"{3 * GIB}\n",
            "groups/memory/memory.stat": f"total_active_file 0\ntotal_inactive_file {GIB}\n",
        },
    )
    assert list(control_group_room(tmp_path / "groups", tmp_path / "self")) == [2 * GIB]


def test_systems_without_groups_have_no_limit(tmp_path: Path) -> None:
    assert list(control_group_room(tmp_path, tmp_path / "self")) == []
