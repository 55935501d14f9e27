import os

import pytest
import torch

from deconvseg.errors import InputError
from deconvseg.system import choose_device, count_cores, processor_name, usable_cores


def test_cores_are_those_that_the_process_is_bound_to() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("no affinity on this system")
    bound = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(bound)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, bound)


def test_the_machines_processors_are_at_least_its_cores() -> None:
    assert count_cores() == os.cpu_count()
    assert 1 <= (count_cores(physical=True) or 1) <= (count_cores() or 1)


def test_the_processor_has_a_name_in_one_line() -> None:
    assert len(processor_name().splitlines()) == 1


def test_the_processors_name_tells_the_vectors_that_pytorch_finds() -> None:
    found = torch.backends.cpu.get_cpu_capability()
    if found not in {"AVX2", "AVX512"} or "ATEN_CPU_CAPABILITY" in os.environ:
        pytest.skip(f"PyTorch uses {found} here")
    assert processor_name().replace("-", "").rstrip(")").split(" ")[-1].startswith(found)
    assert "family" in processor_name()
    assert "model" in processor_name()


def test_auto_is_cuda_or_the_cpu() -> None:
    assert choose_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["tpu", "cpu:1", "cuda:9", "cuda:x"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}.*: not available here; choose one of auto, cpu"):
        choose_device(name)
