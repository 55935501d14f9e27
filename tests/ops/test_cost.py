"""The cost formulas of the operators, and who is told."""

import inspect
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from deconvseg.ops import deformable_upsample, ndc_error, ndc_reconstruct, ndc_solve, ndc_update, reassemble
from deconvseg.ops.cost import Cost, counted, is_heard, told_to
from deconvseg.ops.ndc import reference


class Notes:
    """Writes down what it is told."""

    def __init__(self):
        self.calls = []

    def record(self, operator, cost, result):
        self.calls.append((operator, cost))


def cost_of(function, *args, **kwargs):
    notes = Notes()
    with told_to(notes):
        function(*args, **kwargs)
    ((_, cost),) = notes.calls
    return cost


def empty(*shape):
    return torch.empty(shape, device="meta")


@st.composite
def problems(draw):
    size = draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    kernel = [draw(st.sampled_from((1, 3))) for _ in size]
    groups, channels, sources, batch = (draw(st.integers(1, 3)) for _ in range(4))
    shapes = (groups * channels, *size), (groups * sources, *size)
    return *(empty(batch, *shape) for shape in shapes), empty(groups * channels, sources, *kernel), groups


@given(problems())
@settings(deadline=None, max_examples=20)
def test_deconvolution_costs_the_convolutions_of_its_equations(problem):
    x, source, filters, groups = problem
    for function, equation, arguments in (
        (ndc_update, lambda *tensors: reference.update(*tensors, groups, 1e-8), (x, source, filters)),
        (ndc_reconstruct, lambda s, v: reference.reconstruct(s, reference.adjoint_filters(v, groups), groups),
         (source, filters)),
    ):  # fmt: skip
        with FlopCounterMode(display=False) as counter:
            equation(*arguments)
        assert 2 * cost_of(function, *arguments, groups=groups).macs == counter.get_total_flops()


def test_solving_costs_its_updates_and_errors():
    x, source, filters = empty(2, 4, 5, 6), empty(2, 8, 5, 6), empty(4, 2, 3, 3)
    update = cost_of(ndc_update, x, source, filters, groups=4, eps=0.0)
    error = cost_of(ndc_error, x, source, filters, groups=4)
    assert error == Cost(2 * 30 * filters.numel() + x.numel(), x.numel())
    assert cost_of(ndc_solve, x, filters, groups=4, iterations=3) == update * 3 + error * 4
    assert cost_of(ndc_solve, x, filters, groups=4, iterations=0, source=source) == error


@pytest.mark.parametrize(("eps", "operations"), [(0.0, 2), (1e-8, 4)])
def test_an_update_divides_and_multiplies_and_adds_eps(eps, operations):
    x, source, filters = empty(2, 4, 5), empty(2, 8, 5), empty(4, 2, 3)
    assert cost_of(ndc_update, x, source, filters, groups=4, eps=eps).elementwise == operations * source.numel()


@pytest.mark.parametrize("axes", [2, 3])
def test_sampling_costs_the_neighbours_of_each_output_element(axes):
    features, offsets = empty(2, 5, *[3] * axes), empty(2, axes, *[6] * axes)
    outputs, sampled = 2 * 5 * 6**axes, 2 * 6**axes
    options = {"scale": 2, "receptive_field": 2.0}
    cost = cost_of(deformable_upsample, features, offsets, None, **options)
    # Each offset is scaled and added to the grid: one multiply-accumulate more.
    assert cost.macs == outputs * 2**axes + sampled * axes
    weighted = cost_of(deformable_upsample, features, offsets, offsets, **options)
    assert weighted.elementwise - cost.elementwise == offsets.numel()
    base = empty(2, 5, *[6] * axes)
    assert cost_of(deformable_upsample, features, offsets, None, **options, base=base) == cost + Cost(0, outputs)


@pytest.mark.parametrize(("axes", "kernel"), list(itertools.product((2, 3), (1, 3))))
def test_reassembly_costs_the_neighbourhood_of_each_output_element(axes, kernel):
    size = [4, 2, 6][:axes]
    features, weights = empty(2, 5, *[length // 2 for length in size]), empty(2, kernel**axes, *size)
    assert cost_of(reassemble, features, weights, scale=2) == Cost(2 * 5 * math.prod(size) * kernel**axes)


def test_an_operator_is_told_once_as_a_whole():
    @counted(lambda x: Cost(1))
    def inner(x):
        assert not is_heard(notes)
        return x

    @counted(lambda x: Cost(7))
    def outer(x):
        return inner(inner(x))

    notes = Notes()
    with told_to(notes):
        assert is_heard(notes)
        assert outer(3) == 3
        inner_notes = Notes()
        with told_to(inner_notes):
            outer(3)
    assert notes.calls == inner_notes.calls == [("outer", Cost(7))]


def test_nobody_hears_and_no_formula_runs_outside_or_after_an_error():
    def refuse(x):
        raise AssertionError("nobody listens")

    @counted(refuse)
    def operator(x):
        return x

    @counted(refuse)
    def fails(x):
        assert not is_heard(notes)
        raise ArithmeticError

    assert operator(2) == 2
    notes = Notes()
    with told_to(notes):
        with pytest.raises(ArithmeticError):
            fails(2)
        assert is_heard(notes)
    assert notes.calls == []
    assert operator(2) == 2
    assert not is_heard(notes)


@pytest.mark.parametrize(
    "operator", [ndc_update, ndc_error, ndc_solve, ndc_reconstruct, deformable_upsample, reassemble]
)
def test_signatures_and_documentation_are_kept(operator):
    assert operator.__doc__
    assert operator.__name__ in str(operator)
    assert next(iter(inspect.signature(operator).parameters)) in ("x", "source", "features")


def test_compilers_see_the_operator_alone():
    x, source, filters = (torch.rand(shape) for shape in ((1, 4, 5, 6), (1, 8, 5, 6), (4, 2, 3, 3)))
    notes = Notes()
    compiled = torch.compile(ndc_update, backend="eager", fullgraph=True)
    with told_to(notes):
        updated = compiled(x, source, filters, groups=4)
    torch.testing.assert_close(updated, ndc_update(x, source, filters, groups=4))
    assert notes.calls == []
