"""Exponential, logarithm, tanh and error function in float32, as polynomials that the compiler turns into vectors.

The C library's functions are called for one number at a time. These round each number in the same way wherever it
stands in an array, to within two units in the last place. NaN stays NaN, and infinities have their limits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mindfl.lite.ops.registry import helper

_F = np.float32
_ZERO, _HALF, _ONE, _TWO = _F(0), _F(0.5), _F(1), _F(2)
_NO_FLOOR = _F(-np.inf)
#: adding it rounds a float32 to a whole number, which then stands in the lowest bits
_ROUNDING = _F(3 << 22)
_ROUNDING_BITS = np.int32(0x4B400000)
_BIAS, _FRACTION = np.int32(127), np.int32(23)
_PER_LN2 = _F(1.44269504)
_LN2_HIGH, _LN2_LOW = _F(0.693359375), _F(-2.12194440e-4)
_LOWEST, _HIGHEST = _F(-104.0), _F(89.0)
_E2, _E3, _E4 = _F(5.0000001201e-1), _F(1.6666665459e-1), _F(4.1665795894e-2)
_E5, _E6, _E7 = _F(8.3334519073e-3), _F(1.3981999507e-3), _F(1.9875691500e-4)


@helper
def floor(relu: int) -> Any:
    """Return the lower bound of a product: 0 for a ReLU behind it."""
    return _ZERO if relu else _NO_FLOOR


@helper
def power_of_two(exponent: Any) -> Any:
    """2**exponent for an int32 from -126 to 127."""
    return np.int32((exponent + _BIAS) << _FRACTION).view(np.float32)


@helper
def exponential(x: Any) -> Any:
    """e**x."""
    z = _F(_HIGHEST if x > _HIGHEST else x)
    z = _F(_LOWEST if z < _LOWEST else z)
    shifted = _F(z * _PER_LN2 + _ROUNDING)
    whole = _F(shifted - _ROUNDING)
    r = _F(_F(z - whole * _LN2_HIGH) - whole * _LN2_LOW)
    p = ((((_E7 * r + _E6) * r + _E5) * r + _E4) * r + _E3) * r + _E2
    exponent = np.int32(_F(shifted).view(np.int32) - _ROUNDING_BITS)
    part = np.int32(exponent >> np.int32(1))
    return (p * (r * r) + r + _ONE) * power_of_two(part) * power_of_two(np.int32(exponent - part))


_SMALLEST, _SHIFT, _SHIFT_BITS = _F(2.0**-126), _F(2.0**24), _F(24)
_ROOT_HALF = _F(0.70710678)
_MANTISSA, _HALF_BITS, _EXPONENT_OF_HALF = np.int32(0x007FFFFF), np.int32(0x3F000000), np.int32(126)
_INFINITY, _NAN = _F(np.inf), _F(np.nan)
_L0, _L1, _L2 = _F(7.0376836292e-2), _F(-1.1514610310e-1), _F(1.1676998740e-1)
_L3, _L4, _L5 = _F(-1.2420140846e-1), _F(1.4249322787e-1), _F(-1.6668057665e-1)
_L6, _L7, _L8 = _F(2.0000714765e-1), _F(-2.4999993993e-1), _F(3.3333331174e-1)


@helper
def logarithm(x: Any) -> Any:
    """Natural logarithm: minus infinity at 0, NaN below."""
    tiny = x < _SMALLEST
    scaled = _F(x * _SHIFT if tiny else x)
    bits = _F(scaled).view(np.int32)
    exponent = _F(np.int32((bits >> _FRACTION) - _EXPONENT_OF_HALF)) - (_SHIFT_BITS if tiny else _ZERO)
    m = np.int32((bits & _MANTISSA) | _HALF_BITS).view(np.float32)
    low = m < _ROOT_HALF
    exponent = _F(exponent - _ONE if low else exponent)
    z = _F(_F(m + m if low else m) - _ONE)
    s = z * z
    p = (((((((_L0 * z + _L1) * z + _L2) * z + _L3) * z + _L4) * z + _L5) * z + _L6) * z + _L7) * z + _L8
    y = p * (z * s) + exponent * _LN2_LOW - _HALF * s
    y = _F(z + y + exponent * _LN2_HIGH)
    y = y if x < _INFINITY else x
    y = y if x > _ZERO else (-_INFINITY if x == _ZERO else _NAN)
    return _F(y)


@helper
def sigmoid(x: Any) -> Any:
    """1/(1 + e**-x)."""
    return _ONE / (_ONE + exponential(-x))


_T0, _T1, _T2 = _F(-5.70498872745e-3), _F(2.06390887954e-2), _F(-5.37397155531e-2)
_T3, _T4, _FEW = _F(1.33314422036e-1), _F(-3.33332819422e-1), _F(0.625)


@helper
def hyperbolic_tangent(x: Any) -> Any:
    """tanh: a polynomial where x is small, else 1 - 2/(e**(2|x|) + 1) with the sign of x."""
    size = _F(-x if x < _ZERO else x)
    far = _F(_ONE - _TWO / (exponential(size + size) + _ONE))
    s = x * x
    near = _F(((((_T0 * s + _T1) * s + _T2) * s + _T3) * s + _T4) * s * x + x)
    return _F(near if size < _FEW else (-far if x < _ZERO else far))


_ERF_END = _F(4.0)
_A1, _A3, _A5, _A7 = (
    _F(-1.60960333262415e-02),
    _F(-2.95459980854025e-03),
    _F(-7.34990630326855e-04),
    _F(-5.69250639462346e-05),
)
_A9, _A11, _A13 = _F(-2.10102402082508e-06), _F(2.77068142495902e-08), _F(-2.72614225801306e-10)
_B0, _B2, _B4 = _F(-1.42647390514189e-02), _F(-7.37332916720468e-03), _F(-1.68282697438203e-03)
_B6, _B8 = _F(-2.13374055278905e-04), _F(-1.45660718464996e-05)


@helper
def error_function(x: Any) -> Any:
    """erf, a quotient of polynomials (to within four units in the last place)."""
    z = _F(_ERF_END if x > _ERF_END else x)
    z = _F(-_ERF_END if z < -_ERF_END else z)
    s = z * z
    top = (((((_A13 * s + _A11) * s + _A9) * s + _A7) * s + _A5) * s + _A3) * s + _A1
    return z * top / ((((_B8 * s + _B6) * s + _B4) * s + _B2) * s + _B0)
