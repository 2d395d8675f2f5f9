"""Decimals as text, and decimals that a float wrote: its noise is no part of the number.

A sender that computes in floats (Pine, JavaScript, Python) writes 154.00000000000003 where it means 154. Taken at its
word, a stop-loss there is a whole tick away from where it was meant.
"""

from __future__ import annotations

from decimal import Context, Decimal

_FLOAT_DIGITS = 15  # every decimal of so many digits survives a float unchanged (DBL_DIG); noise is in what comes after
_MEANT_DIGITS = 12  # no price and no size is meant to more significant digits
_COARSE, _EXACT = Context(prec=_MEANT_DIGITS), Context(prec=60)
NOISE = Decimal("1E-13")  # what some hundred roundings of a float add up to, as a share of the number


def decimal_text(value: Decimal) -> str:
    """Return a finite decimal as plain digits: no exponent, no trailing zeros, no minus zero.

    >>> [decimal_text(Decimal(text)) for text in ("1.20", "1E+4", "0.0", "100")]
    ['1.2', '10000', '0', '100']
    """
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def without_noise(number: Decimal) -> Decimal:
    """Return the number that was meant where a float wrote it, else the number itself.

    A number is noisy if it has 15 significant digits or more, reads as a float is printed, and lies next to one of
    at most 12 digits. What has fewer digits was meant as written, 154.003 as much as 154.

    >>> [str(without_noise(Decimal(text))) for text in ("154.00000000000003", "0.30000000000000004", "154.003")]
    ['154', '0.3', '154.003']
    """
    if len(number.normalize(_EXACT).as_tuple().digits) < _FLOAT_DIGITS or not _is_of_a_float(number):
        return number
    meant = _COARSE.create_decimal(number).normalize(_EXACT)
    if abs(number - meant) > number * NOISE:
        return number
    return meant.quantize(Decimal(1)) if meant == meant.to_integral_value() else meant


def _is_of_a_float(number: Decimal) -> bool:
    """True if a float prints like this, in its shortest form or with more decimals."""
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)  # noqa: S101 for the type checker: it is finite
    return Decimal(float(number)).quantize(Decimal(1).scaleb(exponent), context=_EXACT) == number
