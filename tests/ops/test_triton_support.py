"""What every Triton backend has in common, and their kernels' tests under Triton's interpreter."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from deconvseg.ops import deformable_upsample, ndc_update, triton_support
from deconvseg.ops.deformable_upsample import triton as upsampling
from deconvseg.ops.ndc import triton as deconvolution

installed = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


@pytest.fixture
def missing_triton(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    triton_support.why_no_triton.cache_clear()
    yield
    triton_support.why_no_triton.cache_clear()


@installed
def test_the_kernels_under_the_interpreter():
    # A process of its own: whether Triton interprets or compiles is settled when it is first imported.
    tests = [str(Path(__file__).with_name(f"test_{name}_triton.py")) for name in ("ndc", "deformable_upsample")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_every_backend_says_that_triton_is_missing(missing_triton):
    x, filters = torch.rand(1, 2, 3), torch.rand(2, 1, 3)
    assert "triton is not installed" in deconvolution.decline(x, x, filters)
    features, offsets = torch.rand(1, 2, 3, 3), torch.rand(1, 2, 6, 6)
    assert "triton is not installed" in upsampling.decline(features, offsets, None)
    assert ndc_update(x, x, filters, groups=2).shape == x.shape
    assert deformable_upsample(features, offsets, None, scale=2, receptive_field=1.0).shape == (1, 2, 6, 6)


@installed
def test_an_old_triton_is_named(monkeypatch, missing_triton):
    monkeypatch.setitem(sys.modules, "triton", SimpleNamespace(__version__="3.2.0+git", __spec__=object()))
    assert triton_support.decline(torch.rand(2)) == (
        "triton 3.2.0+git cannot compile the kernels: 3.3 (PyTorch 2.7) or newer can"
    )


@installed
def test_what_cannot_run_is_declined_with_a_reason(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    x = torch.rand(1, 2, 5)
    assert deconvolution.decline(x, x, torch.rand(2, 1, 3)) == "tensors on cpu: Triton's kernels need a GPU"
    assert "different devices: cpu, meta" in deconvolution.decline(x, x.to("meta"), torch.rand(2, 1, 3))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert deconvolution.decline(x, x, torch.rand(2, 1, 3)) is None
    assert deconvolution.decline(x, x.bfloat16(), torch.rand(2, 1, 3)) is None
    assert "torch.float64" in deconvolution.decline(x, x.double(), torch.rand(2, 1, 3))
    assert "kernel size (4,)" in deconvolution.decline(x, x, torch.rand(2, 1, 4))
    assert "1 spatial axes" in upsampling.decline(x, x, None)
    features = torch.rand(1, 2, 3, 3)
    assert upsampling.decline(features, features.half(), features) is None
    assert "torch.float64" in upsampling.decline(features, features, features.double())


def test_offsets_need_64_bits_where_an_element_of_a_sample_lies_beyond_31():
    assert not triton_support.needs_int64(torch.empty(9, 1, 2**31, device="meta"))
    assert triton_support.needs_int64(torch.empty(1, 1, 2**31 + 1, device="meta"))
    assert triton_support.needs_int64(torch.empty(1, 2, 2**31, device="meta")[..., :1])
    assert not triton_support.needs_int64(torch.empty(1, 2, 1, device="meta").expand(1, 2, 2**33))
