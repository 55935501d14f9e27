"""What the tests of the native kernels share."""

import ctypes
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from deconvseg.ops import native
from deconvseg.ops.native import interface
from deconvseg.ops.native.build import HERE, Compiler, build_library


@pytest.fixture(scope="session")
def built_library(pytestconfig: pytest.Config) -> Callable[[Compiler, str, Sequence[str]], Path]:
    """Build a library with extra flags; as that takes longer than the tests, keep it until a source changes."""
    sources = sorted(path for kind in ("*/*.cpp", "*/*.h", "*/build.py") for path in HERE.parent.glob(kind))

    def built(compiler: Compiler, instruction_set: str, flags: Sequence[str]) -> Path:
        version = b"\0".join([*(path.read_bytes() for path in sources), str(compiler).encode(), str(flags).encode()])
        assert pytestconfig.cache is not None
        kind = hashlib.sha256(str(flags).encode()).hexdigest()[:8]
        folder = pytestconfig.cache.mkdir(f"native-{instruction_set}-{kind}")
        library = folder / f"{hashlib.sha256(version).hexdigest()[:16]}.so"
        if not library.exists():
            for old in folder.glob("*.so"):
                old.unlink()
            build_library(folder, compiler, instruction_set, flags).replace(library)
        return library

    return built


def libraries() -> list[Path]:
    """The library that this processor uses, and those for lesser ones."""
    if named := os.environ.get("DECONVSEG_NATIVE_LIBRARY"):
        return [Path(named)]
    runs = {"avx512": ["avx512", "avx2"], None: []}
    names = runs.get(native.instruction_set(), [native.instruction_set()])
    return [path for name in names for path in Path(native.__file__).parent.glob(f"_native_{name}.*")]


@pytest.fixture(params=libraries(), ids=lambda path: path.stem, scope="module")
def each_library(request: pytest.FixtureRequest) -> Iterator[None]:
    """Compute with each of the libraries that this processor runs."""
    loaded = ctypes.CDLL(str(request.param))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interface, "library", lambda: loaded)
        yield
