"""How numbers are written, and what they allow to say in sentences."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from detector.report.blocks import Cell
from detector.report.story import Difference, Story
from detector.settings.ablation import LOSSES

NONE = "–"
HALF_A_POINT = 0.005
FEWEST_FOR_A_SPREAD = 5  # seeds; of three the true spread may be six times as wide
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
    """A number of any size, in four digits."""
    return f"{value:.4g}".replace("-", "−") if isinstance(value, float) else str(value)


def exact(value: object) -> str:
    """A value of a config, as a person may write it in one."""
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value


def number(text: str, note: str = "") -> Cell:
    """A cell that stands to the right."""
    return Cell(text, note, "number")


def names(found: Sequence[str]) -> str:
    """a, b and c."""
    *first, last = found
    return f"{', '.join(first)} and {last}" if first else last


def told_apart(story: Story) -> list[str]:
    """What the paired tests say of each variant, and what they leave open.

    Like is compared with like: the variants as declared, and then, where both were tuned, each at
    its own best with the baseline at its own.
    """
    others = [v for v in story.declared if v.name != story.baseline]
    declared = {v.name: v.difference for v in others}
    said = _told_apart(story, declared, "")
    if story.variant(story.baseline).tuning is not None:
        tuned = {v.name: v.tuning.difference for v in others if v.tuning is not None}
        said += _told_apart(story, tuned, ", both tuned")
    return said


def _told_apart(story: Story, differences: Mapping[str, Difference | None], both: str) -> list[str]:
    """`both` says what the variants and the baseline have in common, after a comma."""
    tested = {name: d for name, d in differences.items() if d and d.p_holm is not None}
    said = [_apart(story, name, d, both) for name, d in tested.items() if d.told_apart]
    nearly = [name for name, d in tested.items() if d.told_apart_alone and not d.told_apart]
    same = [name for name, d in tested.items() if not d.told_apart_alone]
    open_ = [name for name in differences if name not in tested]
    if nearly:
        said.append(
            f"Told apart from {story.baseline}{both} by a test of its own, but not after Holm's "
            f"correction for {len(tested)} tests: {names(nearly)}. More seeds would settle it."
        )
    if same:
        said.append(
            f"Not told apart from {story.baseline}{both}: {names(same)}. That is no proof that "
            "they are equal: every difference inside their intervals goes with these runs."
        )
    if open_:
        said.append(
            f"Not tested{both}: {names(open_)}. A test needs two seeds that both the variant and "
            f"{story.baseline} have finished{both}."
        )
    return said


def _apart(story: Story, name: str, difference: Difference, both: str) -> str:
    direction = "above" if difference.mean > 0 else "below"
    size = figure(abs(difference.mean))
    have, all_ = len(difference.values), len(story.seeds)
    few = f"; over {have} of {all_} seeds, for the others have no figure" if have < all_ else ""
    return (
        f"{name} lies {size} of {story.metric} {direction} {story.baseline}{both} "
        f"({interval(difference.interval, sign='+')}; p {probability(difference.p_holm)} after "
        f"Holm's correction{few})."
    )


def power(story: Story) -> list[str]:
    """Which of the variants these seeds could tell apart by half a point, and how many could.

    Of the declared ones; nothing where the metric is a loss, which has no points. That a few seeds
    are enough is not said, for they do not say how far they spread.
    """
    if story.metric in LOSSES:
        return []
    known = [
        (v.name, len(v.difference.values), v.difference.seeds_for_half_a_point)
        for v in story.declared
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
        said += [_seen(have, seen)] if seen and have >= FEWEST_FOR_A_SPREAD else []
    return said


def _blind(have: int, blind: Sequence[tuple[str, int]]) -> str:
    (least, first), *_, (most, last) = sorted((need, name) for name, need in [*blind, blind[0]])
    takes = names([f"{need} seeds for {name}" for name, need in blind])
    if len(blind) > FEW:
        takes = f"between {least} seeds (for {first}) and {most} (for {last})"
    guess = "a guess" if len(blind) == 1 else "guesses"
    return (
        f"With {have} seeds a difference of half a point ({HALF_A_POINT}) would be seen less than "
        f"four times out of five in {_some([name for name, _ in blind])}: given the spread of "
        f"these differences that would take {takes} ({guess} from {have}, for one test, before "
        "Holm's correction)."
    )


def _some(found: Sequence[str]) -> str:
    return names(found) if len(found) <= FEW else f"{len(found)} variants"


def _seen(have: int, seen: Sequence[tuple[str, int]]) -> str:
    enough = _some([f"{name} ({need} would do)" for name, need in seen])
    return (
        f"With {have} seeds a difference of half a point ({HALF_A_POINT}) would be seen at least "
        f"four times out of five in {enough}, if their differences spread as these {have} do, by "
        "one test, before Holm's correction."
    )
