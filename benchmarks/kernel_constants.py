"""Fit the constants of the native kernels: the polynomials of ops/native/exp.h and gelu.h.

``python benchmarks/kernel_constants.py`` prints each array as it stands there, and the largest relative error of its
fit. A fit is the polynomial whose largest error is smallest (Remez's algorithm), in double precision, rounded to
float32 at the end. tests/ops/test_native_constants.py holds the headers to it and measures errors in ulp.
"""

from collections.abc import Callable
from math import factorial
from typing import TypeAlias

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy.special import erf, erfcx

Reals: TypeAlias = NDArray[np.float64]
Function: TypeAlias = Callable[[Reals], Reals]

HALF_LOG_2 = np.log(2) / 2
# t = 1 / (1 + GELU_SCALE |x|), the variable of the tail's polynomial, up to where the tail ends in float32.
GELU_SCALE, GELU_END = 0.21, 13.5
# Up to here the distribution function and the slope of GELU are polynomials in bfloat16; beyond, they are 0 or 1.
GELU_MIDDLE_END, SLOPE_END = 4.25, 4.5
_POINTS = 20001


def minimax(function: Function, weight: Function, begin: float, end: float, degree: int) -> tuple[Reals, float]:
    """Return the coefficients, the highest power first, for which max |weight (polynomial - function)| is smallest.

    And that maximum.
    """
    x = np.linspace(begin, end, _POINTS)
    basis = chebyshev.chebvander((2 * x - begin - end) / (end - begin), degree)
    # A weight of 0, as at the middle of an interval, leaves the sign of the error open.
    values, weights = function(x), np.maximum(weight(x), 1e-14)
    count = degree + 2
    reference = np.round((1 - np.cos(np.pi * np.arange(count) / (count - 1))) / 2 * (_POINTS - 1)).astype(int)
    while True:
        alternating = (-1.0) ** np.arange(count) / weights[reference]
        system = np.concatenate([basis[reference], alternating[:, None]], axis=1)
        coefficients = np.linalg.solve(system, values[reference])[:-1]
        error = weights * (basis @ coefficients - values)
        # The extremes between the changes of sign; where there are too many, the smaller outer one goes.
        pieces = np.split(np.arange(_POINTS), np.flatnonzero(np.diff(np.sign(error))) + 1)
        extremes = [int(piece[np.argmax(np.abs(error[piece]))]) for piece in pieces]
        while len(extremes) > count:
            del extremes[0 if abs(error[extremes[0]]) < abs(error[extremes[-1]]) else -1]
        if len(extremes) < count or np.array_equal(extremes, reference):
            break
        reference = np.array(extremes)
    power = chebyshev.Chebyshev(coefficients, domain=[begin, end]).convert(kind=np.polynomial.Polynomial)
    return np.asarray(power.coef[::-1], float), float(np.abs(error).max())


def _exp_rest(r: Reals) -> Reals:
    """(e^r - 1 - r) / r^2, whose series needs no division by a small number."""
    return np.asarray(sum(r**k / factorial(k + 2) for k in range(20)))


def _artanh_rest(s: Reals) -> Reals:
    """(artanh(u) / u - 1) / s for s = u^2."""
    return np.asarray(sum(s**k / (2 * k + 3) for k in range(40)))


def _gelu_tail(t: Reals) -> Reals:
    """(1 - Phi(x)) exp(x^2 / 2) / t, Phi being the normal distribution function, for t = 1 / (1 + GELU_SCALE x)."""
    return np.asarray(erfcx((1 / t - 1) / GELU_SCALE / np.sqrt(2)) / 2 / t)


def _odd_part(function: Function, end: float) -> Function:
    """((f(x) - 1/2) / x - 1/2 / end) / (u - end^2) for u = x^2: what remains once f(0) = 1/2 and f(end) = 1 are set."""

    def rest(u: Reals) -> Reals:
        # The quotients have limits at both ends of the interval, where they are 0 / 0.
        u = np.clip(u, 1e-9, end**2 - 1e-7)
        x = np.sqrt(u)
        return np.asarray(((function(x) - 0.5) / x - 0.5 / end) / (u - end**2))

    return rest


def _whole(rest: Reals, end: float) -> Reals:
    """The polynomial of (f(x) - 1/2) / x in x^2 from that of its remaining part."""
    polynomial = np.polymul(rest, [1, -(end**2)])
    polynomial[-1] += 0.5 / end
    return np.asarray(polynomial, float)


def _normal(x: Reals) -> Reals:
    return np.asarray((1 + erf(x / np.sqrt(2))) / 2)


def _slope(x: Reals) -> Reals:
    return np.asarray(_normal(x) + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi))


def fits() -> dict[str, tuple[Reals, float]]:
    """Return each array's coefficients, the highest power first, and the relative error of the function made of it."""
    exp, exp_error = minimax(_exp_rest, lambda r: r * r / np.exp(r), -HALF_LOG_2, HALF_LOG_2, 4)
    artanh, artanh_error = minimax(_artanh_rest, lambda s: s / (1 + s * _artanh_rest(s)), 0, 1 / 9, 3)
    tail, tail_error = minimax(_gelu_tail, lambda t: 1 / _gelu_tail(t), 1 / (1 + GELU_SCALE * GELU_END), 1, 8)
    end, slope_end = GELU_MIDDLE_END, SLOPE_END
    middle, middle_error = minimax(_odd_part(_normal, end), lambda u: u * (end**2 - u), 0, end**2, 7)
    slope, slope_error = minimax(
        _odd_part(_slope, slope_end), lambda u: np.sqrt(u) * (slope_end**2 - u), 0, slope_end**2, 8
    )
    return {
        # e^r = 1 + r + r^2 (...)
        "kExp": (np.append(exp, [1, 1]), exp_error),
        # artanh(u) = u (1 + u^2 (...))
        "kArtanh": (artanh, artanh_error),
        "kGeluTail": (tail, tail_error),
        # Absolute errors, of gelu and of its slope.
        "kGeluMiddle": (_whole(middle, end), middle_error),
        "kGeluSlope": (_whole(slope, slope_end), slope_error),
    }


def main() -> None:
    """Print the arrays."""
    for name, (coefficients, error) in fits().items():
        terms = ", ".join(f"{np.float32(value)!s}f" for value in coefficients)
        print(f"constexpr float {name}[] = {{{terms}}};  // {error:.1e}")


if __name__ == "__main__":
    main()
