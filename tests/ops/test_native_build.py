"""How the native kernels are compiled, packed into a wheel, and found again."""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

import deconvseg
from deconvseg.ops import native
from deconvseg.ops.native import build
from deconvseg.ops.native.build import (
    INSTRUCTION_SETS,
    BuildError,
    Compiler,
    find_compiler,
    machine_name,
)

ROOT = Path(deconvseg.__file__).parents[2]
KERNELS = Path("src/deconvseg/ops/native")
SOURCES = ("src/deconvseg/ops/ndc/native.cpp", "src/deconvseg/ops/conv/bfloat16.cpp")


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    try:
        return find_compiler()
    except BuildError as error:
        pytest.skip(str(error))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """What a wheel is made from, with one small operator in place of all."""
    if not (ROOT / "hatch_build.py").exists():
        pytest.skip("the package is installed without its project")
    root = tmp_path / "project"
    ignored = shutil.ignore_patterns("__pycache__", "native.cpp", "bfloat16.cpp", "_native_*", ".build-*")
    shutil.copytree(ROOT / "src", root / "src", ignore=ignored)
    for name in (
        "pyproject.toml",
        "hatch_build.py",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "CITATION.cff",
        ".gitignore",
    ):
        shutil.copy(ROOT / name, root / name)
    for name in SOURCES:
        (root / name).write_text('extern "C" int deconvseg_seven() { return 7; }\n')
    return root


def pack(project: Path, target: str = "wheel", **environment: str) -> tuple[Path, str]:
    """Build a distribution; return it and what was said."""
    pytest.importorskip("hatchling")
    folder = project / "dist"
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", folder],
        cwd=project, env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (made,) = folder.iterdir()
    return made, done.stdout + done.stderr


def libraries(names: Iterable[str]) -> set[str]:
    return {Path(name).name.split(".")[0] for name in names if Path(name).name.startswith("_native_")}


def compile_by_script(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, project / KERNELS / "build.py", *arguments]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


def script(path: Path, *lines: str) -> str:
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return str(path)


def test_there_is_one_library_for_each_instruction_set_of_the_target_and_the_best_is_loaded(
    compiler: Compiler, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    assert compile_by_script(project, "--output", str(folder)).returncode == 0
    sets = INSTRUCTION_SETS[compiler.machine]
    assert libraries(path.name for path in folder.iterdir()) == {f"_native_{name}" for name in sets}
    capability = torch.backends.cpu.get_cpu_capability()
    if compiler.machine != machine_name(platform.machine()) or (capability == "DEFAULT" and "avx2" in sets):
        pytest.skip(f"this processor ({platform.machine()}, {capability}) runs none of them")
    monkeypatch.setattr(build, "HERE", project / KERNELS)
    found = native._find(folder, platform.machine(), capability)
    assert found.unavailable is None
    assert found.instruction_set == {"AVX512": "avx512", "AVX2": "avx2"}.get(capability, "neon")
    assert found.library is not None
    assert found.library.deconvseg_seven() == 7


def test_a_wheel_carries_the_libraries_and_the_tag_of_its_platform(compiler: Compiler, project: Path) -> None:
    wheel, said = pack(project)
    assert wheel.stem.split("-")[2:4] == ["py3", "none"]
    assert not wheel.stem.endswith("any")
    assert "manylinux" not in wheel.stem
    names = zipfile.ZipFile(wheel).namelist()
    assert libraries(names) == {f"_native_{name}" for name in INSTRUCTION_SETS[compiler.machine]}
    assert "deconvseg/ops/native/build.py" in names
    assert "deconvseg/ops/native/simd.h" in names
    assert "left out" not in said


@pytest.mark.parametrize(
    ("target", "tag"), [("11.0", "macosx_11_0_arm64"), ("12.3", "macosx_12_0_arm64"), ("13", "macosx_13_0_arm64")]
)
def test_a_wheel_of_macos_is_for_the_version_that_the_compiler_is_told(
    monkeypatch: pytest.MonkeyPatch, target: str, tag: str
) -> None:
    pytest.importorskip("hatchling")
    if not (ROOT / "hatch_build.py").exists():
        pytest.skip("the package is installed without its project")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setenv("MACOSX_DEPLOYMENT_TARGET", target)
    assert hook._platform() == tag


def test_an_editable_installation_has_the_libraries_beside_their_sources(compiler: Compiler, project: Path) -> None:
    pytest.importorskip("editables")
    pack(project, "wheel:editable")
    built = libraries(path.name for path in (project / KERNELS).iterdir())
    assert built == {f"_native_{name}" for name in INSTRUCTION_SETS[compiler.machine]}


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"PATH": "", "CXX": ""}, "no C++17 compiler found"),
        ({"CXX": "no-such-compiler"}, "CXX=no-such-compiler: not found"),
        ({"DECONVSEG_NATIVE": "0"}, "DECONVSEG_NATIVE=0"),
    ],
)
def test_without_a_compiler_a_wheel_is_pure_python_and_says_why(project: Path, environment, reason: str) -> None:  # type: ignore[no-untyped-def]
    (project / KERNELS / "_native_avx2.so").write_bytes(b"left over from an earlier build")
    wheel, said = pack(project, **environment)
    assert wheel.stem.endswith("py3-none-any")
    assert not libraries(zipfile.ZipFile(wheel).namelist())
    (line,) = (line for line in said.splitlines() if "native kernels left out" in line)
    assert reason in line


def test_a_broken_compiler_does_not_stop_an_installation(compiler: Compiler, project: Path, tmp_path: Path) -> None:
    answers = 'if [ "$1" = -dumpmachine ]; then exec c++ -dumpmachine; fi'
    broken = script(tmp_path / "broken-c++", answers, "echo 'ld: error: out of paper' >&2; exit 1")
    wheel, said = pack(project, CXX=broken)
    assert wheel.stem.endswith("py3-none-any")
    assert said.count("out of paper") == len(INSTRUCTION_SETS[compiler.machine])


def test_one_instruction_set_that_fails_leaves_the_other(compiler: Compiler, project: Path, tmp_path: Path) -> None:
    if compiler.machine != "x86_64":
        pytest.skip("this machine has one instruction set")
    refuse = 'case "$*" in *-mavx512f*) echo "error: unrecognized option -mavx512f" >&2; exit 1;; esac'
    wheel, said = pack(project, CXX=script(tmp_path / "old-c++", refuse, 'exec c++ "$@"'))
    assert libraries(zipfile.ZipFile(wheel).namelist()) == {"_native_avx2"}
    assert "left out: avx512: error: unrecognized option -mavx512f" in said


def test_a_source_distribution_has_the_sources_and_no_library(project: Path) -> None:
    (project / KERNELS / "_native_avx2.so").write_bytes(b"left over from an earlier build")
    archive, _ = pack(project, "sdist")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    needed = ("abi.cpp", "simd.h", "parallel.h", "exports.map", "build.py")
    assert {"hatch_build.py", *(f"{KERNELS.as_posix()}/{name}" for name in needed)} <= names
    assert not libraries(names)


def test_a_failed_compilation_shows_everything_the_compiler_said(
    compiler: Compiler, project: Path, tmp_path: Path
) -> None:
    for name in SOURCES:
        (project / name).write_text("int broken( { }\nint worse) ;\n")
    done = compile_by_script(project, "--output", str(tmp_path))
    assert done.returncode == 1
    assert "native.cpp:1:" in done.stderr
    assert "native.cpp:2:" in done.stderr
    assert "-std=c++17" in done.stderr
    assert not libraries(path.name for path in tmp_path.iterdir())


def test_without_a_compiler_the_build_fails_unless_it_is_optional(project: Path) -> None:
    for arguments, code in (([], 1), (["--optional"], 0)):
        done = compile_by_script(project, *arguments, PATH="", CXX="")
        assert done.returncode == code
        assert "apt install g++" in done.stderr


@pytest.mark.parametrize(
    ("machine", "capability", "reason"),
    [
        ("riscv64", "DEFAULT", "there are none for riscv64: PyTorch computes"),
        ("x86_64", "DEFAULT", "need AVX2, and PyTorch finds DEFAULT here"),
        ("AMD64", "NO AVX", "need AVX2, and PyTorch finds NO AVX here"),
        ("x86_64", "AVX2", "not built: run python -m deconvseg.ops.native.build"),
        ("arm64", "DEFAULT", "not built: run python -m deconvseg.ops.native.build"),
    ],
)
def test_why_there_are_no_kernels_is_said_in_one_line(
    compiler: Compiler, tmp_path: Path, machine: str, capability: str, reason: str
) -> None:
    found = native._find(tmp_path, machine, capability)
    assert found.library is None
    assert found.instruction_set is None
    assert found.unavailable is not None
    assert reason in found.unavailable
    assert "\n" not in found.unavailable


def test_without_a_compiler_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    why = native._find(tmp_path, "x86_64", "AVX2").unavailable
    assert why is not None
    assert "apt install g++" in why
    assert why.endswith("then run python -m deconvseg.ops.native.build")


def test_a_library_of_another_version_is_refused(
    compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if compiler.machine != machine_name(platform.machine()):
        pytest.skip("the compiler builds for another machine")
    other = "".join(
        f'extern "C" const char* deconvseg_{function}() {{ return "{text}"; }}\n'
        for function, text in (("instruction_set", "avx2"), ("sources", "0123456789abcdef"))
    )
    for name, source in (
        ("other", other),
        ("older", 'extern "C" int deconvseg_abi_version() { return 7; }'),
        ("foreign", 'extern "C" int something_else() { return 1; }'),
    ):
        (tmp_path / f"{name}.cpp").write_text(source)
        library = tmp_path / f"{name}.so"
        subprocess.run([*compiler.command, "-shared", "-fPIC", tmp_path / f"{name}.cpp", "-o", library], check=True)
        found = native._load(library)
        assert found.library is None
        told = f"{name}.so was compiled from other sources than those of this version"
        assert found.unavailable == f"{told}: run python -m deconvseg.ops.native.build"
        # Of a package without sources, the libraries are those that it was packed with.
        with monkeypatch.context() as absent:
            absent.setattr(build, "HERE", tmp_path / "nothing")
            assert (native._load(library).unavailable is None) == (name == "other")


def test_the_version_of_the_sources_is_that_of_all_that_a_library_is_compiled_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ops = tmp_path / "ops"
    shutil.copytree(build.HERE.parent, ops, ignore=shutil.ignore_patterns("__pycache__", "_native_*", "*.py"))
    original = {name: build.source_version(name) for name in INSTRUCTION_SETS["x86_64"]}
    monkeypatch.setattr(build, "HERE", ops / "native")
    assert {name: build.source_version(name) for name in original} == original
    assert len(set(original.values())) == len(original)
    # Which versions a change of a file changes: those of the libraries that include it, also by another header.
    for file, changed in (
        ("native/simd.h", {"avx512_bf16", "avx512", "avx2"}),
        ("conv/native.cpp", {"avx512", "avx2"}),
        ("conv/bfloat16.cpp", {"avx512_bf16"}),
        ("native/abi.cpp", {"avx512_bf16", "avx512", "avx2"}),
    ):
        text = (ops / file).read_text()
        (ops / file).write_text(f"{text}// changed\n")
        assert {name for name in original if build.source_version(name) != original[name]} == changed
        (ops / file).write_text(text)


def test_a_file_that_is_no_library_is_refused(tmp_path: Path) -> None:
    (tmp_path / "half.so").write_bytes(b"\x7fELF")
    found = native._load(tmp_path / "half.so")
    assert found.library is None
    assert "half.so cannot be loaded" in str(found.unavailable)
