"""A colour for each class, the same in drawn images and in curves."""

from __future__ import annotations

Color = tuple[int, int, int]  # red green blue, 0..255

# Any two are at least 0.15 apart in OKLab (tab10: 0.11); all are visible on white and on black.
COLORS: list[Color] = [
    (31, 111, 224), (255, 140, 0), (44, 160, 44), (214, 39, 40), (138, 43, 226), (23, 200, 212),
    (240, 50, 200), (140, 90, 32), (180, 200, 0), (11, 110, 120), (217, 160, 240), (140, 40, 96),
]  # fmt: skip
# How far each further round of the twelve is mixed with white (above 0) or with black (below 0).
SHADES = [0, 0.5, -0.4, 0.25, -0.2, 0.65, -0.55]


def color(label: int) -> Color:
    """The colour of class `label` (0 or more), whatever else is drawn; 84 are different."""
    turn, index = divmod(label, len(COLORS))
    shade = SHADES[turn % len(SHADES)]
    end = 255 if shade > 0 else 0
    red, green, blue = (round(c + (end - c) * abs(shade)) for c in COLORS[index])
    return red, green, blue
