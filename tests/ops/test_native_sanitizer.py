"""The tests of the native kernels, run with a library that stops at a wrong address or an undefined operation."""

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from deconvseg.ops.native.build import (
    INSTRUCTION_SETS,
    BuildError,
    Compiler,
    find_compiler,
    machine_name,
)

TESTS = Path(__file__).parent
SANITIZERS = "address,bounds,shift,signed-integer-overflow,integer-divide-by-zero,float-cast-overflow"
FLAGS = ("-O1", "-g1", "-fno-omit-frame-pointer", f"-fsanitize={SANITIZERS}", "-fno-sanitize-recover=all")


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    try:
        found = find_compiler()
    except BuildError as error:
        pytest.skip(str(error))
    if found.machine != machine_name(platform.machine()) or found.system != "linux":
        pytest.skip(f"{found}: the sanitizer is loaded before Python on Linux only")
    return found


@pytest.fixture(scope="module")
def sanitizer(compiler: Compiler) -> str:
    """The libraries that must be loaded before all others; the second because PyTorch's exceptions pass the first."""
    found = []
    for name in ("libasan.so", "libstdc++.so"):
        asked = [*compiler.command, f"-print-file-name={name}"]
        found.append(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
        if not Path(found[-1]).is_absolute():
            pytest.skip(f"{compiler} has no {name} for the address sanitizer")
    return " ".join(found)


def run(sanitizer: str, library: Path, *command: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "LD_PRELOAD": sanitizer,
        "ASAN_OPTIONS": "detect_leaks=0",  # Python itself leaves memory behind
        "DECONVSEG_NATIVE_LIBRARY": str(library),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, *map(str, command)], env=environment, capture_output=True, text=True, check=False
    )


def test_the_sanitizer_sees_a_write_out_of_bounds(compiler: Compiler, sanitizer: str, tmp_path: Path) -> None:
    source, library = tmp_path / "wrong.cpp", tmp_path / "wrong.so"
    source.write_text('extern "C" void wrong(float* to, long at) { to[at] = 1; }')
    subprocess.run([*compiler.command, *FLAGS, "-fPIC", "-shared", source, "-o", library], check=True)
    code = (
        "import ctypes, torch, sys\n"
        f"torch.empty(16); wrong = ctypes.CDLL({str(library)!r}).wrong\n"
        "memory = torch.empty(16); wrong(ctypes.c_void_p(memory.data_ptr()), ctypes.c_long(int(sys.argv[1])))"
    )
    assert run(sanitizer, library, "-c", code, 15).returncode == 0
    done = run(sanitizer, library, "-c", code, 16)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr


def test_the_kernels_read_and_write_only_their_tensors(
    compiler: Compiler, sanitizer: str, built_library: Callable[[Compiler, str, Sequence[str]], Path]
) -> None:
    instruction_set = list(INSTRUCTION_SETS[compiler.machine])[-1]
    library = built_library(compiler, instruction_set, FLAGS)
    which = "from deconvseg.ops import native; print(native.instruction_set(), native.unavailable())"
    assert run(sanitizer, library, "-c", which).stdout.split() == [instruction_set, "None"]
    tests = sorted(path for kind in ("test_*_native.py", "test_deconver_block.py") for path in TESTS.glob(kind))
    # Without capture, which would swallow what the sanitizer says as it stops the process.
    done = run(sanitizer, library, "-m", "pytest", "-q", "-s", "-x", "-p", "no:cacheprovider", *tests)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    assert " passed" in done.stdout
    assert " skipped" not in done.stdout
