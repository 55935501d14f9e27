"""The constants of the native kernels are those that their script fits; the errors of the functions made of them."""

import ctypes
import importlib.util
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import special

from deconvseg.ops import native
from deconvseg.ops.native.build import HERE, INSTRUCTION_SETS, BuildError, find_compiler, machine_name

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kernel_constants.py"
SOURCE = """
#include "gelu.h"
using namespace deconvseg;
#define EACH(name, expression) extern "C" void name(const float* from, float* to, long count) { \\
    for (long i = 0; i < count; i += kLanes) { const vec a = load(from + i); store(to + i, expression); } }
EACH(exponential, exp(a))
EACH(softened, softplus(a))
EACH(sigmoid, logistic(a).value)
EACH(activated, gelu(a))
EACH(slope, gelu_slope(a))
EACH(activated_in_bfloat16, gelu_for_bfloat16(a))
EACH(slope_in_bfloat16, gelu_slope_for_bfloat16(a))
"""


@pytest.fixture(scope="module")
def fits():
    spec = importlib.util.spec_from_file_location("kernel_constants", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("header", ["exp.h", "gelu.h"])
def test_the_headers_have_the_constants_that_the_script_fits(fits, header):
    text = (HERE / header).read_text()
    arrays = re.findall(r"constexpr float (\w+)\[\] = \{([^}]*)\};", text)
    assert arrays
    for name, values in arrays:
        coefficients, _ = fits.fits()[name]
        assert [np.float32(value.strip().removesuffix("f")) for value in values.split(",")] == list(
            coefficients.astype(np.float32)
        )
    assert header == "exp.h" or f"kGeluScale = {fits.GELU_SCALE}f" in text


@pytest.mark.parametrize(("name", "bound"), [("kExp", 3.1e-9), ("kArtanh", 4.5e-9), ("kGeluTail", 1.4e-8)])
def test_no_polynomial_of_the_degree_fits_better_than_the_script_s(fits, name, bound):
    """A minimax error touches its maximum once more than there are coefficients, with signs in turn."""
    coefficients, error = fits.fits()[name]
    assert error <= bound
    begin, end, truth, weight, fixed = {
        "kExp": (-fits.HALF_LOG_2, fits.HALF_LOG_2, np.exp, lambda r: np.exp(-r), 2),
        "kArtanh": (1e-9, 1 / 9, fits._artanh_rest, lambda s: s / (1 + s * fits._artanh_rest(s)), 0),
        "kGeluTail": (1 / (1 + 0.21 * 13.5), 1, fits._gelu_tail, lambda t: 1 / fits._gelu_tail(t), 0),
    }[name]
    x = np.linspace(begin, end, 40001)
    errors = weight(x) * (np.polyval(coefficients, x) - truth(x))
    np.testing.assert_allclose(np.abs(errors).max(), error, rtol=1e-3)
    extremes = np.sign(errors[np.abs(errors) > 0.999 * error])
    assert 1 + np.count_nonzero(np.diff(extremes)) == len(coefficients) - fixed + 1


@pytest.fixture(scope="module")
def functions(tmp_path_factory) -> Callable[[str, np.ndarray], np.ndarray]:
    """The functions of the headers, compiled for this processor."""
    try:
        compiler = find_compiler()
    except BuildError as error:
        pytest.skip(str(error))
    instruction_set = native.instruction_set()
    if instruction_set is None or compiler.machine not in INSTRUCTION_SETS or compiler.system != "linux":
        pytest.skip(f"{compiler} makes nothing that runs here: {native.unavailable()}")
    folder = tmp_path_factory.mktemp("functions")
    (folder / "functions.cpp").write_text(SOURCE)
    flags = ["-std=c++17", "-O2", "-fPIC", "-shared", "-ffp-contract=fast", "-fno-math-errno", f"-I{HERE}"]
    flags += INSTRUCTION_SETS[machine_name(compiler.machine)][instruction_set]
    subprocess.run([*compiler.command, *flags, folder / "functions.cpp", "-o", folder / "functions.so"], check=True)
    library = ctypes.CDLL(str(folder / "functions.so"))

    def call(name, values):
        given = np.resize(values.astype(np.float32), -(-len(values) // 16) * 16)
        made = np.empty_like(given)
        pointers = (array.ctypes.data_as(ctypes.c_void_p) for array in (given, made))
        getattr(library, name)(*pointers, ctypes.c_long(len(given)))
        return made[: len(values)]

    return call


def ulp_between(found, truth):
    return np.abs(found.astype(float) - truth) / np.spacing(np.abs(truth).astype(np.float32)).astype(float)


X = np.linspace(-12, 12, 200_001).astype(np.float32)
FUNCTIONS = {
    "exponential": (np.linspace(-87.3, 88, 400_001), np.exp, 1),
    "softened": (np.linspace(-80, 80, 400_001), lambda x: np.logaddexp(0, x), 3),
    "sigmoid": (np.linspace(-80, 80, 400_001), special.expit, 3),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_in_ulp(functions, name):
    values, truth, bound = FUNCTIONS[name]
    values = values.astype(np.float32)
    assert ulp_between(functions(name, values), truth(values.astype(float))).max() <= bound


def test_gelu_and_its_slope_are_as_near_as_float32_at_one(functions):
    """Near its zeros a sum of the order of one cannot have a small relative error: errors are in ulp of 1, times x."""
    x = X.astype(float)
    normal = special.ndtr(x)
    unit = np.spacing(np.float32(1))
    found = functions("activated", X)
    assert np.all(np.abs(found - x * normal) <= 2.5 * unit * np.maximum(np.abs(x), 2**-20))
    slope = normal + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    assert np.abs(functions("slope", X) - slope).max() <= 2.5 * unit


def test_gelu_and_its_slope_in_bfloat16_are_far_below_its_rounding(fits, functions):
    x = X.astype(float)
    normal = special.ndtr(x)
    assert np.abs(functions("activated_in_bfloat16", X) - x * normal).max() <= 6e-5
    slope = normal + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    assert np.abs(functions("slope_in_bfloat16", X) - slope).max() <= 2.5e-4
    assert max(fits.fits()["kGeluMiddle"][1], fits.fits()["kGeluSlope"][1]) <= 7e-5


def test_the_ends_of_the_range(functions):
    ends = np.array([-np.inf, -100, 100, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(functions("exponential", ends), [0, 0, np.inf, np.inf, np.nan])
    np.testing.assert_array_equal(functions("activated", ends[1:]), [0, 100, np.inf, np.nan])
