"""Compile the native kernels: one shared library for each instruction set of the target machine.

``python -m deconvseg.ops.native.build`` writes them next to this file. ``CXX`` names the compiler, ``CXXFLAGS`` adds to
its flags. The target machine is the compiler's, so ``CXX=aarch64-linux-gnu-g++ python -m deconvseg.ops.native.build
--output DIR`` cross-compiles. This file uses only the standard library, because ``hatch_build.py`` runs it before
anything is installed.
"""

import argparse
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent

_AVX512 = ("-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq", "-mfma", "-mavx2")
# Best first. The library of BFLOAT16 has the kernels for bfloat16 only, which run beside those of AVX-512: float32 has
# the same bits on every processor with AVX-512, and the other kernels are not compiled twice.
BFLOAT16 = "avx512_bf16"
INSTRUCTION_SETS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {
        BFLOAT16: (*_AVX512, "-mavx512bf16"),
        "avx512": _AVX512,
        "avx2": ("-mavx2", "-mfma"),
    },
    "aarch64": {"neon": ()},
}
SUFFIX = {"linux": ".so", "darwin": ".dylib", "windows": ".dll"}
HOW_TO_INSTALL = "apt install g++ (Debian, Ubuntu), dnf install gcc-c++ (Fedora) or xcode-select --install (macOS)"

_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-pthread", "-ffp-contract=fast", "-fno-math-errno", "-DNDEBUG", "-Wall")


class BuildError(Exception):
    """The kernels cannot be compiled; the first line is the reason, the rest is the compiler's output."""

    @property
    def first_line(self) -> str:
        """The reason in one line."""
        return str(self).partition("\n")[0]


class Compiler(NamedTuple):
    """A C++ compiler and its target."""

    command: tuple[str, ...]
    machine: str
    system: str

    def __str__(self) -> str:
        return f"{shlex.join(self.command)} for {self.machine} {self.system}"


def machine_name(name: str) -> str:
    """Return the canonical name of a machine: ``x86_64`` for amd64, ``aarch64`` for arm64."""
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name.lower(), name.lower())


def library_path(folder: Path, instruction_set: str, system: str) -> Path:
    """Return the path of the library for an instruction set."""
    return folder / f"_native_{instruction_set}{SUFFIX[system]}"


def find_compiler() -> Compiler:
    """Return a C++ compiler that takes GCC's options: ``$CXX``, or the first of c++, g++ and clang++."""
    named = shlex.split(os.environ.get("CXX", ""))
    for command in [named] if named else [["c++"], ["g++"], ["clang++"]]:
        if shutil.which(command[0]) is None:
            continue
        asked = subprocess.run([*command, "-dumpmachine"], capture_output=True, text=True, check=False)
        if asked.returncode == 0:
            return Compiler(tuple(command), *_target(asked.stdout.strip()))
    if named:
        raise BuildError(f"CXX={shlex.join(named)}: not found, or it does not take GCC's options")
    raise BuildError(f"no C++17 compiler found (c++, g++, clang++): {HOW_TO_INSTALL}")


def _target(triple: str) -> tuple[str, str]:
    """Return the machine and system of a target triple, such as x86_64-linux-gnu or arm64-apple-darwin23."""
    systems = {"linux": "linux", "darwin": "darwin", "mingw": "windows"}
    system = next((name for word, name in systems.items() if word in triple), "")
    machine = machine_name(triple.partition("-")[0])
    if not system or machine not in INSTRUCTION_SETS:
        raise BuildError(f"there are no native kernels for {triple}: PyTorch computes instead")
    return machine, system


def build(folder: Path, compiler: Compiler) -> dict[str, Path | BuildError]:
    """Compile the operators' sources for each instruction set; a failure does not affect the others."""
    sets = INSTRUCTION_SETS[compiler.machine]
    jobs = max(1, (os.cpu_count() or 1) // len(sets))

    def attempt(instruction_set: str) -> Path | BuildError:
        try:
            return build_library(folder, compiler, instruction_set, jobs=jobs)
        except BuildError as error:
            return error

    with ThreadPoolExecutor(len(sets)) as pool:
        return dict(zip(sets, pool.map(attempt, sets), strict=True))


def build_library(
    folder: Path, compiler: Compiler, instruction_set: str, extra: Sequence[str] = (), *, jobs: int | None = None
) -> Path:
    """Build the library for one instruction set, with ``extra`` flags last and ``jobs`` compilations at a time.

    It consists of the operators' ``native.cpp``, or of their ``bfloat16.cpp`` for :data:`BFLOAT16`.
    """
    library = library_path(folder, instruction_set, compiler.system)
    flags = [*shlex.split(os.environ.get("CXXFLAGS", "")), *_FLAGS, f'-DDECONVSEG_INSTRUCTION_SET="{instruction_set}"']
    flags.append(f'-DDECONVSEG_SOURCES="{source_version(instruction_set)}"')
    flags += [*INSTRUCTION_SETS[compiler.machine][instruction_set], f"-I{HERE}", *extra]
    sources = _sources(instruction_set)
    folder.mkdir(parents=True, exist_ok=True)
    # Renamed when complete, so that no process loads an incomplete library.
    with tempfile.TemporaryDirectory(prefix=".build-", dir=folder) as scratch:
        objects = [f"{scratch}/{source.parent.name}.o" for source in sources]
        commands = [
            [*compiler.command, *flags, "-c", str(source), "-o", made]
            for source, made in zip(sources, objects, strict=True)
        ]
        with ThreadPoolExecutor(jobs or os.cpu_count()) as pool:
            list(pool.map(_run, commands))
        linked = Path(scratch) / library.name
        _run([*compiler.command, *flags, "-shared", *objects, *_link_flags(compiler), "-o", str(linked)])
        linked.replace(library)
    return library


def source_version(instruction_set: str) -> str:
    """Return a hash of a library's sources, the headers that they include, and the flags of its instruction set.

    The library holds that of its compilation, so that Python never calls a function whose arguments have changed.
    """
    found: dict[Path, bytes] = {}
    queue = _sources(instruction_set)
    while queue:
        path = queue.pop().resolve()
        if path not in found and path.is_file():
            found[path] = path.read_bytes()
            for name in re.findall(rb'^#include "(.+)"', found[path], re.MULTILINE):
                beside = path.parent / os.fsdecode(name)
                queue.append(beside if beside.is_file() else HERE / os.fsdecode(name))
    chosen = [sets[instruction_set] for sets in INSTRUCTION_SETS.values() if instruction_set in sets]
    digest = hashlib.sha256(repr((instruction_set, *chosen, _FLAGS)).encode())
    for path in sorted(found):
        digest.update(path.relative_to(HERE.parent.resolve()).as_posix().encode())
        digest.update(found[path])
    return digest.hexdigest()[:16]


def has_sources() -> bool:
    """Return whether the sources are there; a frozen application has the libraries alone."""
    return (HERE / "abi.cpp").is_file()


def _sources(instruction_set: str) -> list[Path]:
    name = "bfloat16.cpp" if instruction_set == BFLOAT16 else "native.cpp"
    return [HERE / "abi.cpp", *sorted(HERE.parent.glob(f"*/{name}"))]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.splitlines() or [f"exit code {done.returncode}"]
        reason = next((line for line in lines if "error" in line), lines[0])
        raise BuildError("\n".join([reason, shlex.join(command), *lines]))


def _link_flags(compiler: Compiler) -> list[str]:
    """Return flags that export only the kernels and, if possible, link the C++ library statically for portability."""
    if compiler.system == "darwin":
        return ["-Wl,-exported_symbol,_deconvseg_*"]
    if compiler.system == "windows":
        return ["-static"]
    flags = [f"-Wl,--version-script={HERE / 'exports.map'}"]
    archive = subprocess.run(
        [*compiler.command, "-print-file-name=libstdc++.a"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return [*flags, "-static-libstdc++", "-static-libgcc"] if Path(archive).is_absolute() else flags


def main() -> int:
    """Build the libraries and print the results; return 1 if a build failed."""
    parser = argparse.ArgumentParser(prog="python -m deconvseg.ops.native.build", description="Compile the kernels.")
    parser.add_argument("--output", type=Path, default=HERE, metavar="DIR", help="output folder (default: the package)")
    parser.add_argument("--optional", action="store_true", help="succeed even without a compiler")
    arguments = parser.parse_args()
    try:
        compiler = find_compiler()
    except BuildError as error:
        print(error, file=sys.stderr)
        return 0 if arguments.optional else 1
    print(compiler)
    try:
        built = build(arguments.output, compiler)
    except OSError as error:
        print(f"{arguments.output}: {error.strerror}; build as a user who may write there", file=sys.stderr)
        return 1
    for instruction_set, result in built.items():
        print(f"{instruction_set}: {result}", file=sys.stderr if isinstance(result, BuildError) else sys.stdout)
    return 1 if any(isinstance(result, BuildError) for result in built.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
