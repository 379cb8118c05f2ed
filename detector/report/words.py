"""How numbers are written, and what they allow to say in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from detector.report.blocks import Cell
from detector.report.story import Difference, Story, Variant

NONE = "–"
HALF_A_POINT = 0.005
FEW = 4  # variants that a sentence on power names; a table has the others


def figure(value: float | None, *, sign: str = "") -> str:
    """Three decimals; a dash for None, and a proper minus."""
    if value is None:
        return NONE
    text = f"{value:{sign}.3f}"
    return text[1:] if float(text) == 0 and text[0] in "+-" else text.replace("-", "−")


def interval(ends: tuple[float, float] | None, *, sign: str = "") -> str:
    """From one end to the other; nothing for None."""
    return "" if ends is None else " to ".join(figure(end, sign=sign) for end in ends)


def probability(p: float | None) -> str:
    """A p-value; the smallest are named by a bound."""
    return "< 0.001" if p is not None and p < 0.001 else figure(p)


def percent(share: float | None) -> str:
    """A share 0..1 with a decimal below ten percent."""
    if share is None:
        return NONE
    return f"{100 * share:.1f} %" if share < 0.0995 else f"{100 * share:.0f} %"


def general(value: object) -> str:
    """A value of a config, or a number of any size."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    return str(value)


def number(text: str, note: str = "") -> Cell:
    """A cell that stands to the right."""
    return Cell(text, note, "number")


def names(found: Sequence[str]) -> str:
    """a, b and c."""
    *first, last = found
    return f"{', '.join(first)} and {last}" if first else last


def told_apart(story: Story) -> list[str]:
    """What the paired tests say of each variant, and what they leave open."""
    compared = [(v, v.difference) for v in story.variants if v.difference is not None]
    said = [_apart(story, v, d) for v, d in compared if d.told_apart]
    same = [v.name for v, d in compared if d.p_holm is not None and not d.told_apart]
    open_ = [v.name for v in story.variants if v.name != story.baseline and not _tested(v)]
    if same:
        said.append(
            f"Not told apart from {story.baseline}: {names(same)}. That is no proof that they are "
            "equal: every difference inside their intervals goes with these runs."
        )
    if open_:
        said.append(
            f"Not tested: {names(open_)}. A test needs two seeds that both the variant and "
            f"{story.baseline} have finished."
        )
    return said


def _tested(variant: Variant) -> bool:
    return variant.difference is not None and variant.difference.p_holm is not None


def _apart(story: Story, variant: Variant, difference: Difference) -> str:
    direction = "above" if difference.mean > 0 else "below"
    size = figure(abs(difference.mean))
    return (
        f"{variant.name} lies {size} of {story.metric} {direction} {story.baseline} "
        f"({interval(difference.interval, sign='+')}; p {probability(difference.p_holm)} after "
        "Holm's correction)."
    )


def power(story: Story) -> list[str]:
    """Which of the variants these seeds could tell apart by half a point, and how many could."""
    known = [
        (v.name, len(v.difference.values), v.difference.seeds_for_half_a_point)
        for v in story.variants
        if v.difference and v.difference.seeds_for_half_a_point and len(v.difference.values) > 1
    ]
    if not known:
        return ["How many seeds a difference of half a point would take cannot be said: no "
                "variant has differences that spread over two seeds or more."]  # fmt: skip
    said = []
    for have in sorted({n for _, n, _ in known}):
        blind = [(name, need) for name, n, need in known if n == have and need > have]
        seen = [(name, need) for name, n, need in known if n == have and need <= have]
        said += [_blind(have, blind)] if blind else []
        said += [_seen(have, seen)] if seen else []
    return said


def _blind(have: int, blind: Sequence[tuple[str, int]]) -> str:
    (least, first), *_, (most, last) = sorted((need, name) for name, need in [*blind, blind[0]])
    takes = names([f"{need} seeds for {name}" for name, need in blind])
    if len(blind) > FEW:
        takes = f"between {least} seeds (for {first}) and {most} (for {last})"
    guess = "a guess" if len(blind) == 1 else "guesses"
    return (
        f"With {have} seeds a difference of half a point ({HALF_A_POINT}) cannot be seen in "
        f"{_some([name for name, _ in blind])}: given the spread of these differences it would "
        f"take {takes} to see it four times out of five ({guess} from {have})."
    )


def _some(found: Sequence[str]) -> str:
    return names(found) if len(found) <= FEW else f"{len(found)} variants"


def _seen(have: int, seen: Sequence[tuple[str, int]]) -> str:
    enough = _some([f"{name} ({need} would do)" for name, need in seen])
    return (
        f"With {have} seeds a difference of half a point ({HALF_A_POINT}) would be seen at least "
        f"four times out of five in {enough}, if their differences spread as these {have} do."
    )
