"""The native kernels in libraries that stop at a wrong address, an undefined operation, a race or a broken contract.

All are built without NDEBUG, so that the assertions of parallel.h hold in every test that runs with them.
"""

import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from deconvseg.ops import native
from deconvseg.ops.native.build import (
    BFLOAT16,
    HERE,
    INSTRUCTION_SETS,
    BuildError,
    Compiler,
    find_compiler,
    library_path,
    machine_name,
)

TESTS = Path(__file__).parent
SANITIZERS = "address,bounds,shift,signed-integer-overflow,integer-divide-by-zero,float-cast-overflow"
CHECKED = ("-O1", "-g1", "-fno-omit-frame-pointer", "-UNDEBUG")
FLAGS = (*CHECKED, f"-fsanitize={SANITIZERS}", "-fno-sanitize-recover=all")
RACES = (*CHECKED, "-fsanitize=thread")


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    try:
        found = find_compiler()
    except BuildError as error:
        pytest.skip(str(error))
    if found.machine != machine_name(platform.machine()) or found.system != "linux":
        pytest.skip(f"{found}: the sanitizer is loaded before Python on Linux only")
    return found


def preloaded(compiler: Compiler, *names: str) -> str:
    """The libraries that must be loaded before all others."""
    found = []
    for name in names:
        asked = [*compiler.command, f"-print-file-name={name}"]
        found.append(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
        if not Path(found[-1]).is_absolute():
            pytest.skip(f"{compiler} has no {name}")
    return " ".join(found)


@pytest.fixture(scope="module")
def sanitizer(compiler: Compiler) -> str:
    """The address sanitizer; the second library because PyTorch's exceptions pass the first."""
    return preloaded(compiler, "libasan.so", "libstdc++.so")


@pytest.fixture(scope="module")
def thread_sanitizer(compiler: Compiler) -> str:
    found = preloaded(compiler, "libtsan.so")
    done = run(found, Path(), "-c", "")
    if done.returncode != 0:
        pytest.skip(f"the thread sanitizer does not start here: {done.stderr.strip().splitlines()[0]}")
    return found


def run(sanitizer: str, library: Path, *command: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "LD_PRELOAD": sanitizer,
        "ASAN_OPTIONS": "detect_leaks=0",  # Python itself leaves memory behind
        "TSAN_OPTIONS": "ignore_noninstrumented_modules=1 exitcode=66",  # PyTorch's own threads are not our subject
        "DECONVSEG_NATIVE_LIBRARY": str(library),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, *map(str, command)], env=environment, capture_output=True, text=True, check=False
    )


# A team in which each worker reads what another one wrote; meets, allocates or shares too often as it is told to.
TEAM = """
#include "parallel.h"
using namespace deconvseg;
extern "C" int deconvseg_team(int meets, int allocates, int steps) {
    int written[4] = {}, read[4] = {};
    run_team(4, [&](const Worker& worker) {
        if (worker.count != 4) return;
        written[worker.index] = worker.index + 1;
        if (meets) worker.meet();
        read[worker.index] = written[(worker.index + 1) % 4];
        if (allocates == 1) Buffer memory(16);
        if (allocates == 2) std::vector<int> memory(meets);
        for (int i = 0; i < steps; ++i) worker.share(8, [](int64_t) {});
    });
    return read[0];
}
"""


@pytest.fixture(scope="module")
def team(compiler: Compiler, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, tuple[str, ...]], Path]:
    """Compile the team with some flags."""
    folder = tmp_path_factory.mktemp("team")
    (folder / "team.cpp").write_text(TEAM)

    def build(name: str, flags: tuple[str, ...]) -> Path:
        library = folder / f"{name}.so"
        command = [*compiler.command, "-std=c++17", "-pthread", *flags, f"-I{HERE}", "-fPIC", "-shared"]
        command += [
            '-DDECONVSEG_INSTRUCTION_SET="any"',
            '-DDECONVSEG_SOURCES="any"',
            f"-Wl,--version-script={HERE / 'exports.map'}",
        ]
        subprocess.run([*command, folder / "team.cpp", HERE / "abi.cpp", "-o", library], check=True)
        return library

    return build


def call_team(sanitizer: str, library: Path, *arguments: int) -> subprocess.CompletedProcess[str]:
    return run(
        sanitizer, library, "-c", f"import ctypes; print(ctypes.CDLL({str(library)!r}).deconvseg_team(*{arguments}))"
    )


def test_a_meeting_publishes_what_was_written_and_its_lack_is_a_race(team, thread_sanitizer: str) -> None:
    library = team("races", RACES)
    done = call_team(thread_sanitizer, library, 1, 0, 60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")
    done = call_team(thread_sanitizer, library, 0, 0, 0)
    assert done.returncode == 66
    assert "WARNING: ThreadSanitizer: data race" in done.stderr


def test_a_checked_library_aborts_where_a_worker_breaks_the_contract(team) -> None:
    library = team("checked", CHECKED)
    assert call_team("", library, 1, 0, 64).stdout == "2\n"
    for arguments, broken in (((1, 1, 0), "working"), ((1, 2, 0), "operator new"), ((1, 0, 65), "Tasks::kSteps")):
        done = call_team("", library, *arguments)
        assert broken in done.stderr
        assert done.returncode == -signal.SIGABRT


@pytest.mark.slow
def test_no_kernel_has_a_race(
    compiler: Compiler, thread_sanitizer: str, built_library: Callable[[Compiler, str, Sequence[str]], Path]
) -> None:
    library = built_library(compiler, list(INSTRUCTION_SETS[compiler.machine])[-1], RACES)
    done = run(thread_sanitizer, library, TESTS.parent / "every_kernel.py")
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    assert len(done.stdout.splitlines()) == 14
    assert "ThreadSanitizer" not in done.stderr


@pytest.fixture
def beside_avx512(tmp_path: Path) -> Callable[[Path], Path]:
    """Put a library for bfloat16 into a folder with the ordinary one for AVX-512, which is returned."""
    if reason := native.why_no_bfloat16():
        pytest.skip(reason)

    def place(library: Path) -> Path:
        ordinary = library_path(tmp_path, "avx512", "linux")
        shutil.copy(library_path(HERE, "avx512", "linux"), ordinary)
        shutil.copy(library, library_path(tmp_path, BFLOAT16, "linux"))
        return ordinary

    return place


@pytest.mark.slow
def test_no_kernel_for_bfloat16_has_a_race(
    compiler: Compiler, thread_sanitizer: str, built_library: Callable[..., Path], beside_avx512: Callable[[Path], Path]
) -> None:
    library = beside_avx512(built_library(compiler, BFLOAT16, RACES))
    done = run(thread_sanitizer, library, TESTS.parent / "every_kernel.py", "bfloat16")
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    kernels = {"block of 2 axes", "block of 3 axes", "transposed convolution", "join", "normalisation"}
    kernels |= {f"Winograd convolution by {kernel}" for kernel in ((3, 3, 3), (1, 3, 3))}
    assert set(done.stdout.splitlines()) == {f"{name} in bfloat16" for name in kernels}
    assert "ThreadSanitizer" not in done.stderr


@pytest.mark.slow
def test_the_kernels_for_bfloat16_read_and_write_only_their_tensors(
    compiler: Compiler, sanitizer: str, built_library: Callable[..., Path], beside_avx512: Callable[[Path], Path]
) -> None:
    library = beside_avx512(built_library(compiler, BFLOAT16, FLAGS))
    tests = sorted(TESTS.glob("test_*_bfloat16.py"))
    done = run(sanitizer, library, "-m", "pytest", "-q", "-s", "-x", "-p", "no:cacheprovider", *tests)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    assert " passed" in done.stdout
    assert " skipped" not in done.stdout


@pytest.mark.slow
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


@pytest.mark.slow
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
