"""How numbers and values are written on the page."""

from __future__ import annotations

import json

NONE = "–"


def decimal(value: float | None, *, sign: str = "") -> str:
    """Three decimals; a dash for None, and a proper minus."""
    if value is None:
        return NONE
    text = f"{value:{sign}.3f}"
    # what rounds to zero has no sign: "-0.000" would claim a direction
    return text[1:] if float(text) == 0 and text[0] in "+-" else text.replace("-", "−")


def interval(ends: tuple[float, float] | None, *, sign: str = "") -> str:
    """From one end to the other; nothing for None."""
    return "" if ends is None else " to ".join(decimal(end, sign=sign) for end in ends)


def probability(p: float | None) -> str:
    """A p-value; the smallest are named by a bound."""
    return "< 0.001" if p is not None and p < 0.001 else decimal(p)


def percent(share: float | None) -> str:
    """A share 0..1 with a decimal below ten percent."""
    if share is None:
        return NONE
    return f"{100 * share:.1f} %" if share < 0.0995 else f"{100 * share:.0f} %"


def four_digits(value: float | None) -> str:
    """A float of any size in four significant digits; an integer in all."""
    if value is None:
        return NONE
    return f"{value:.4g}".replace("-", "−") if isinstance(value, float) else str(value)


def counted(number: float, one: str, many: str = "") -> str:
    """The number and its noun, in the plural but for 1; `many` where that is not `one` and an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def yaml_value(value: object) -> str:
    """A value of a config, as a person may write it in one."""
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value


FILTERS = {
    function.__name__: function
    for function in (decimal, interval, probability, percent, four_digits, counted, yaml_value)
}
