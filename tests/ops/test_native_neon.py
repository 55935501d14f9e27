"""The NEON kernels: compiled for another machine, and run on an emulated one, as none of the real kind is at hand."""

import ctypes
import shutil
import struct
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from deconvseg.ops.deformable_upsample import native, reference
from deconvseg.ops.native.build import Compiler, find_compiler
from tolerance import assert_near

SYSTEM = Path("/usr/aarch64-linux-gnu")  # where Debian's cross compiler keeps the target's C library

# Calls one function of a library with what stands on its standard input, and writes back what the call left.
DRIVER = r"""
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

int64_t read_number() {
    int64_t number = 0;
    return std::fread(&number, sizeof number, 1, stdin) == 1 ? number : 0;
}

int main(int, char** arguments) {
    void* library = dlopen(arguments[1], RTLD_NOW);
    if (library == nullptr) return std::fprintf(stderr, "%s\n", dlerror()), 2;
    using Kernel = int (*)(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
                           int64_t, int64_t, int64_t, int64_t, int64_t, int64_t);
    const auto kernel = reinterpret_cast<Kernel>(dlsym(library, arguments[2]));
    int64_t a[16] = {};
    std::vector<std::vector<char>> buffers;
    buffers.reserve(16);
    const int64_t count = read_number();
    for (int64_t i = 0; i < count; ++i) {
        const int64_t bytes = read_number();  // or -1: a number follows
        if (bytes < 0) {
            a[i] = read_number();
            continue;
        }
        buffers.emplace_back(bytes);
        if (std::fread(buffers.back().data(), 1, bytes, stdin) != static_cast<size_t>(bytes)) return 3;
        a[i] = reinterpret_cast<int64_t>(buffers.back().data());
    }
    if (kernel(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15]))
        return 4;
    for (const auto& buffer : buffers) std::fwrite(buffer.data(), 1, buffer.size(), stdout);
    return 0;
}
"""


@pytest.fixture(scope="module")
def compiler() -> Compiler:
    if shutil.which("aarch64-linux-gnu-g++") is None:
        pytest.skip("no aarch64-linux-gnu-g++ here (apt install g++-aarch64-linux-gnu)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXX", "aarch64-linux-gnu-g++")
        return find_compiler()


@pytest.fixture(scope="module")
def library(compiler: Compiler, built_library: Callable[[Compiler, str, Sequence[str]], Path]) -> Path:
    # Not optimised, because the compiler's consent and right results are wanted here, and not speed.
    return built_library(compiler, "neon", ["-O0"])


@pytest.fixture
def emulated(library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let calls of the kernels go to an emulated processor."""
    if shutil.which("qemu-aarch64") is None or not SYSTEM.is_dir():
        pytest.skip("no qemu-aarch64 here (apt install qemu-user)")
    source, driver = tmp_path / "driver.cpp", tmp_path / "driver"
    source.write_text(DRIVER)
    subprocess.run(["aarch64-linux-gnu-g++", "-std=c++17", source, "-ldl", "-o", driver], check=True)

    def call(function: str, *arguments: Tensor | ctypes.Array | ctypes.c_int64 | None) -> None:
        sent = [struct.pack("q", len(arguments))]
        for argument in arguments:
            if isinstance(argument, Tensor):
                sent.append(struct.pack("q", 4 * argument.numel()) + memory_of(argument).numpy().tobytes())
            elif isinstance(argument, ctypes.Array):
                sent.append(struct.pack("q", ctypes.sizeof(argument)) + bytes(argument))
            else:
                sent.append(struct.pack("qq", -1, argument.value if argument else 0))
        command = ["qemu-aarch64", "-L", SYSTEM, driver, library, function]
        answer = subprocess.run(command, input=b"".join(sent), capture_output=True, check=False)
        assert answer.returncode == 0, answer.stderr.decode()
        position = 0
        for argument in arguments:
            if isinstance(argument, Tensor):
                values = torch.frombuffer(
                    bytearray(answer.stdout), dtype=torch.float32, offset=position, count=argument.numel()
                )
                memory_of(argument).copy_(values)
                position += 4 * argument.numel()
            elif isinstance(argument, ctypes.Array):
                position += ctypes.sizeof(argument)

    monkeypatch.setattr(native, "call", call)
    monkeypatch.setattr(native, "pointer", lambda tensor: tensor)


def memory_of(tensor: Tensor) -> Tensor:
    """The elements of a dense tensor in the order of memory."""
    return tensor.as_strided((tensor.numel(),), (1,))


def test_every_kernel_compiles_for_neon(library: Path) -> None:
    machine_of_elf = int.from_bytes(library.read_bytes()[18:20], "little")
    assert machine_of_elf == 183  # EM_AARCH64


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("size", [(9, 11), (5, 3, 6)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_deformable_upsampling_on_an_emulated_processor_agrees_with_the_reference(
    size: tuple[int, ...], channels_last: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    scaled, scale = [2 * length for length in size], (2,) * len(size)
    features, grad = (torch.randn(3, 21, *shape, generator=generator) for shape in (size, scaled))
    if channels_last:
        features, grad = (tensor.movedim(1, -1).contiguous().movedim(-1, 1) for tensor in (features, grad))
    # A move of less than a quarter of a pixel keeps the samples, 1/4 beside the centres, from crossing whole pixels.
    offsets = torch.rand(3, len(size), *scaled, generator=generator) * 0.4 - 0.2
    weights = torch.rand(offsets.shape, generator=generator)

    def by_reference(dtype: torch.dtype) -> list[Tensor]:
        leaves = [tensor.to(dtype, copy=True).requires_grad_() for tensor in (features, offsets, weights)]
        out = reference.sample(leaves[0], reference.positions(leaves[1], leaves[2], size, scale, 4.0))
        return [out.detach(), *torch.autograd.grad(out, leaves, grad.to(dtype))]

    out = native.forward(features, offsets, weights, scale, 4.0)
    gradients = native.backward(grad, features, offsets, weights, scale, 4.0)
    found = [out, *(gradient for gradient in gradients if gradient is not None)]
    assert_near(found, by_reference(torch.float32), by_reference(torch.float64))
