"""The process that measures: started once for all these tests, because it loads what a training loads."""

import platform
import shutil
import signal
from collections.abc import Iterator

import pytest

from deconvseg.errors import DeconvsegError
from deconvseg.planning import StepCost, StepMeter
from deconvseg.planning.trial import explain_end, measure

CONFIG = {"in_channels": 1, "out_channels": 2, "spatial_dims": 2, "widths": [16, 32], "kernel_size": 3}
MIB = 2**20


@pytest.fixture(scope="module")
def meter() -> Iterator[StepMeter]:
    with StepMeter("cpu") as made:
        yield made


def test_a_larger_batch_takes_more_and_the_base_stays(meter: StepMeter) -> None:
    one, many = (meter("deconver", CONFIG, (256, 256), batch, regions=False) for batch in (1, 8))
    assert one is not None
    assert many is not None
    assert one.base == pytest.approx(many.base, rel=0.05)
    assert one.base < one.inference <= one.memory
    assert many.memory > one.memory + 50 * MIB
    assert many.seconds > 2 * one.seconds
    assert one.parameters == many.parameters > 0


def test_regions_and_several_levels_are_measured_too(meter: StepMeter) -> None:
    config = {**CONFIG, "deep_supervision_heads": 1}
    assert meter("deconver", config, (32, 32), 1, regions=True) is not None


@pytest.mark.skipif(platform.system() != "Linux", reason="memory is limited on Linux alone")
def test_a_step_that_needs_more_memory_than_allowed_is_answered_and_harms_nobody(meter: StepMeter) -> None:
    meter.memory = 600 * MIB
    assert meter("deconver", CONFIG, (1024, 1024), 8, regions=False) is None
    meter.memory = None
    assert meter("deconver", CONFIG, (32, 32), 1, regions=False) is not None


def test_a_network_that_fails_is_named_and_the_next_is_measured(meter: StepMeter) -> None:
    with pytest.raises(DeconvsegError, match=r"a training step of deconver failed .*pad to \(34, 34\)"):
        meter("deconver", CONFIG, (33, 33), 1, regions=False)
    assert meter("deconver", CONFIG, (32, 32), 1, regions=False) is not None


@pytest.mark.skipif(shutil.which("true") is None, reason="needs a program that ends at once")
def test_a_process_that_has_ended_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", shutil.which("true"))
    with StepMeter("cpu") as broken, pytest.raises(DeconvsegError, match="the process that times training steps ended"):
        broken("deconver", CONFIG, (32, 32), 1, regions=False)


def test_costs_scale_with_voxels_but_not_the_weights() -> None:
    cost = StepCost(seconds=0.5, base=100, memory=100 + 16 * 10 + 40, inference=100 + 4 * 10 + 8, parameters=10)
    twice = cost.scaled(4.0, inference=2.0)
    assert twice == StepCost(seconds=2.0, base=100, memory=260 + 160, inference=140 + 16, parameters=10)


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        (-signal.SIGKILL, ("short", "its process was ended by SIGKILL")),
        (-signal.SIGABRT, ("short", "its process was ended by SIGABRT")),
        (-signal.SIGSEGV, ("error", "its process was ended by SIGSEGV")),
        (3, ("error", "its process ended with exit code 3")),
    ],
)
def test_only_ends_that_memory_explains_are_taken_for_short_memory(code: int, answer: tuple) -> None:
    [(key, text)] = explain_end(code).items()
    assert (key, text.partition(";")[0]) == answer


@pytest.mark.gpu
def test_a_candidate_on_a_gpu_is_not_charged_for_the_one_before() -> None:
    def memory(side: int) -> int:
        return measure("deconver", CONFIG, (side, side), 1, "cuda", regions=False, threads=1, recipe={})["memory"]

    small = memory(64)
    assert memory(512) > small
    assert memory(64) == pytest.approx(small, rel=0.05)
