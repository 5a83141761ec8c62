"""Activations from operations that XLA turns into vector code on CPUs: sin^2 and ELU.

`jnp.sin` and `jnp.expm1` run there one number at a time, and take a fifth of the time of a whole
network. These forms are bound by memory alone. Both reduce their argument to a short interval by
multiples of a constant, which is split into parts so that nothing is lost (Cody and Waite), where
a polynomial takes over: least squares with the largest deviation evened out.

Networks run them dozens of times on few shapes: `jax.jit` traces each shape once, which halves the
time that tracing a network takes. XLA sees through the call.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

# pi/2 to 60 bits, in parts short enough that a multiple of the first two is exact in float32.
HALF_PI_PARTS = (
    float.fromhex("0x1.92p+0"),
    float.fromhex("0x1.fbp-12"),
    float.fromhex("0x1.5110b4p-22"),
)
# sin(r) / r as a polynomial in r^2, highest power first: to 3.1e-9 on [-pi/4, pi/4].
SIN_COEFFICIENTS = (
    -0.0001950402197621393,
    0.00833203687493422,
    -0.16666650699197194,
    0.9999999969263413,
)

SNAKE_EPSILON = 1e-9

# ln 2 to 36 bits, likewise.
LN_2_PARTS = (float.fromhex("0x1.63p-1"), float.fromhex("-0x1.bd0106p-13"))
# (exp(r) - 1) / r as a polynomial in r, highest power first: to 5e-10 on [-ln(2)/2, ln(2)/2].
EXPM1_COEFFICIENTS = (
    1.98992762e-04,
    1.39336435e-03,
    8.33329848e-03,
    4.16664650e-02,
    1.66666667e-01,
    0.5,
    1.0,
)
# exp(-64) - 1 is -1 in float32, and 2^-93, the power that it takes, is one of its numbers.
LOWEST = -64.0


@jax.jit
def sin_squared(angle):
    """sin(angle)^2 of float32 [...], within [0, 1].

    For angles up to 10,000 to 1.5e-7, on average to 1.7e-8, a little better than with jnp.sin; far
    beyond, where float32 angles are more than a turn apart, it means as little as jnp.sin's does.

    The angle is reduced to [-pi/4, pi/4]; odd multiples of pi/2 turn sin^2 into 1 - sin^2.
    """
    square, _, is_odd = _sine_of_reduced(angle)
    return jnp.clip(jnp.where(is_odd, 1 - square, square), 0, 1)


def _sin_squared_and_slope(angle):
    """sin(angle)^2, and its derivative sin(2 angle), of float32 [...]."""
    square, sine, is_odd = _sine_of_reduced(angle)
    doubled = 2 * sine * jnp.sqrt(1 - square)  # sin(2 r), where cos(r) is positive
    return jnp.where(is_odd, 1 - square, square), jnp.where(is_odd, -doubled, doubled)


def _sine_of_reduced(angle):
    """(sin(r)^2, sin(r), whether n is odd), where angle = r + n pi/2 and |r| <= pi/4."""
    quarter_turns = jnp.round(angle * (2 / math.pi))
    square = (reduced := _without(angle, quarter_turns, HALF_PI_PARTS)) * reduced
    sine = reduced * _polynomial(SIN_COEFFICIENTS, square)
    return sine * sine, sine, quarter_turns != 2 * jnp.floor(quarter_turns / 2)


@jax.custom_vjp
def snake(signal, alpha):
    """x + sin(alpha x)^2 / (alpha + 1e-9) of float32 [..., C], alpha [C] (Ziyin et al. 2020).

    It can be differentiated backwards, not forwards: alpha's gradient, which automatic
    differentiation makes a sum over computations, takes XLA seven times as long on a CPU as this.
    """
    return signal + sin_squared(alpha * signal) / (alpha + SNAKE_EPSILON)


def _snake_forwards(signal, alpha):
    return snake(signal, alpha), (signal, alpha)


@jax.jit
def _snake_backwards(inputs, cotangent):
    signal, alpha = inputs
    square, slope = _sin_squared_and_slope(alpha * signal)
    inverse = 1 / (alpha + SNAKE_EPSILON)
    of_signal = cotangent * (1 + slope * (alpha * inverse))
    of_alpha = cotangent * (signal * slope - square * inverse) * inverse
    rows = of_alpha.reshape(-1, of_alpha.shape[-1])
    # A product, since XLA would compute all of the above within the sum, one number at a time.
    ones = jnp.ones(len(rows), rows.dtype)
    return of_signal, jnp.matmul(ones, rows, precision=lax.Precision.HIGHEST)


snake.defvjp(_snake_forwards, _snake_backwards)


@jax.jit
def elu(signal):
    """x where x > 0, else exp(x) - 1, of float32 [...], to 5e-8, and to 1.2e-7 of its value.

    exp(x) - 1 is 2^n (exp(r) - 1) + (2^n - 1), where x = n ln 2 + r and |r| <= ln(2)/2.
    """
    exponent = jnp.maximum(jnp.where(signal > 0, 0, signal), LOWEST)
    doublings = jnp.round(exponent * (1 / math.log(2)))
    reduced = _without(exponent, doublings, LN_2_PARTS)
    bits = (doublings.astype(jnp.int32) + 127) << 23  # of the float32 2^n
    power = lax.bitcast_convert_type(bits, jnp.float32)
    falling = power * (reduced * _polynomial(EXPM1_COEFFICIENTS, reduced)) + (power - 1)
    return jnp.where(signal > 0, signal, falling)


def _without(value, multiples, parts):
    """value - multiples * sum(parts), part by part."""
    for part in parts:
        value = value - multiples * part
    return value


def _polynomial(coefficients, x):
    """By Horner's rule, highest power first."""
    result, *rest = coefficients
    for coefficient in rest:
        result = result * x + coefficient
    return result
