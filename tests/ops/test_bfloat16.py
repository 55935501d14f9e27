"""Where kernels compute in bfloat16: one rule for all operators of layers."""

from types import SimpleNamespace

import pytest
import torch

from deconvseg.inference.precisions import decide_precision
from deconvseg.ops import native, register_backend, unregister_backend
from deconvseg.ops.backends import choose
from deconvseg.ops.deconver_block.library import BLOCK
from deconvseg.ops.precision import as_computed, layers_compute_in_bfloat16, why_bfloat16_is_slow
from deconvseg.planning.precisions import explain_float32, lowered_precision
from drawn import block_weights


def test_layers_compute_in_bfloat16_under_its_autocast_and_for_its_tensors():
    full, half = torch.zeros(2), torch.zeros(2, dtype=torch.bfloat16)
    assert not layers_compute_in_bfloat16("cpu", (full, None))
    assert layers_compute_in_bfloat16("cpu", (half, None, half))
    assert not layers_compute_in_bfloat16("cpu", (half, full))  # an error of the layers
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            assert layers_compute_in_bfloat16("cpu", (full, half)) == (dtype == torch.bfloat16)


def test_kernels_take_images_in_bfloat16_and_parameters_in_float32():
    full, half = torch.zeros(2), torch.zeros(2, dtype=torch.bfloat16)
    assert all(one is two for one, two in zip(as_computed(full, None, full), (full, None, full), strict=True))
    for tensors in ((half, half, None, half), (full, half, None, full)):
        with torch.autocast("cpu", torch.bfloat16, enabled=tensors[0] is full):
            first, second, missing, weight = as_computed(*tensors, images=2)
        assert first.dtype == second.dtype == torch.bfloat16
        assert (missing, weight.dtype) == (None, torch.float32)


@pytest.mark.parametrize("declares", [True, False])
def test_a_backend_is_asked_in_bfloat16_only_if_it_declares_it(declares):
    kernels = SimpleNamespace(decline=lambda *_: None, **({"BFLOAT16": True} if declares else {}))
    register_backend("deconver_block", "mine", device="cpu", kernels=kernels, priority=1)
    tensors = torch.zeros(1, 16, 4, 4), *block_weights(16, 4, (3, 3), 16, torch.Generator())
    try:
        assert choose(BLOCK, *tensors).computed == "mine"
        with torch.autocast("cpu", torch.bfloat16):
            choice = choose(BLOCK, *tensors)
            assert (choice.computed == "mine in bfloat16") == declares
            assert declares or "no kernel for bfloat16" in choice.declined["mine"]
        with torch.autocast("cpu", torch.float16):
            assert "autocast" in choose(BLOCK, *tensors).declined["mine"]
    finally:
        unregister_backend("deconver_block", "mine")


@pytest.mark.parametrize(
    ("found", "processor", "reason"),
    [
        (native._Loaded(None, None, "not built: run this"), None, "its kernels are not there: not built: run this"),
        (native._Loaded(SimpleNamespace(), "avx2", None), None, "it needs the kernels for AVX-512, "),  # type: ignore[arg-type]
        (native._Loaded(SimpleNamespace(), "avx512", None), "this is a test", "this is a test"),  # type: ignore[arg-type]
        (native._Loaded(SimpleNamespace(), "avx512", None), None, "is not built: run python"),  # type: ignore[arg-type]
    ],
)
def test_why_there_are_no_kernels_for_bfloat16(found, processor, reason, monkeypatch, tmp_path):
    monkeypatch.setattr(native, "_loaded", lambda: found)
    monkeypatch.setattr(native, "why_no_instructions", lambda device: processor)
    monkeypatch.setenv("DECONVSEG_NATIVE_LIBRARY", str(tmp_path / "some.so"))
    missing = native._loaded_for_bfloat16.__wrapped__()
    assert missing.library is None
    assert reason in missing.unavailable


def test_without_its_library_bfloat16_brings_nothing(monkeypatch):
    """Predictions and trainings that ask for it compute in float32 and say why."""
    monkeypatch.setattr(native, "why_no_bfloat16", lambda: "_native_avx512_bf16.so is not built: run this")
    assert why_bfloat16_is_slow("cpu") == "_native_avx512_bf16.so is not built: run this"
    assert why_bfloat16_is_slow("mps") == "bfloat16 is not used on mps"
    assert lowered_precision("bf16", "cpu") == "32"
    told = "in float32, because `precision='bf16'` brings nothing here: _native_avx512_bf16.so is not built: run this"
    assert explain_float32("bf16", "cpu") == f"training {told}"
    decided = decide_precision("bf16", [], "cpu")
    assert (decided.precision, decided.warnings) == ("32", (f"computing {told}",))
