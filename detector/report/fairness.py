"""Sections on fairness: what else differed between the variants, and what was tuned."""

from __future__ import annotations

from detector.report.blocks import Block, Cell, Section, Table, missing
from detector.report.story import Story, Tuning, Variant
from detector.report.words import (
    NONE,
    exact,
    figure,
    general,
    interval,
    number,
    percent,
    probability,
)

CONFOUNDERS = {
    "clipped_share": "steps with a clipped gradient",
    "classification_over_box": "classification loss / box loss",
    "divisor": "divisor of the classification loss",
    "gradient_norm": "gradient norm",
    "score_threshold": "score threshold",
}


def fairness(story: Story) -> Section:
    """Confounders, and tuning where anything was tuned."""
    tuned = [(v, v.tuning) for v in story.variants if v.tuning]
    blocks: list[Block] = [_confounders(story)]
    if tuned:
        blocks += [_choices(story, tuned), _trials(story, tuned)]
    return Section("fairness", "Is the comparison fair?", blocks)


def _confounders(story: Story) -> Block:
    found = [v for v in story.variants if v.confounders]
    if not found:
        return missing("Confounders", "results.json lists none.")
    return Table(
        title="What differs between the variants beside what they are named after",
        head=("variant", *CONFOUNDERS.values()),
        rows=tuple((Cell(v.name), *(_confounder(v, name) for name in CONFOUNDERS)) for v in found),
        care="Means over the last half of the training and over seeds; losses with their weights, "
        "the gradient norm of all parameters before clipping. Where a row differs much from the "
        "baseline's, a part of its difference in the results may come from this.",
    )


def _confounder(variant: Variant, name: str) -> Cell:
    value = variant.confounders.get(name)
    if value is None:
        return number(NONE)
    return number(percent(value) if name == "clipped_share" else general(value))


def _choices(story: Story, tuned: list[tuple[Variant, Tuning]]) -> Table:
    return Table(
        title="What was tuned, and what it changed",
        head=("variant", "chosen of what was tried", "lead", f"{story.metric} untuned",
              f"{story.metric} tuned", "difference, both tuned", "p", "p (Holm)"),
        rows=tuple(_choice(story, variant, found) for variant, found in tuned),
        care="Values were chosen by the first seed alone, on images set aside from the training "
        "set and never on those that are reported. Lead: of the best combination over the second "
        "best; one within what seeds alone move (std of the results) is no reason to prefer it, "
        "and the optimum is flat there. At an edge a value that was not tried may be better. The "
        f"last columns compare with {story.baseline} at its own best; Holm's p is corrected over "
        "these rows.",
    )  # fmt: skip


def _choice(story: Story, variant: Variant, found: Tuning) -> tuple[Cell, ...]:
    tuned = story.variant(found.tuned_variant) if found.tuned_variant else None
    difference = found.difference
    return (
        Cell(variant.name),
        Cell("\n".join(_chosen(found, key) for key in found.keys), style="code"),
        number(figure(found.lead)),
        number(figure(variant.mean), interval(variant.interval)),
        number(figure(tuned.mean), interval(tuned.interval)) if tuned else _same(found),
        number(figure(difference.mean, sign="+"), interval(difference.interval, sign="+"))
        if difference
        else number(NONE),
        number(probability(difference.p if difference else None)),
        number(probability(difference.p_holm if difference else None)),
    )


def _same(found: Tuning) -> Cell:
    """Of a variant that no tuned one stands beside."""
    return number("the same" if found.chosen else NONE)


def _chosen(found: Tuning, key: str) -> str:
    tried = ", ".join(exact(value) for value in found.keys[key])
    best = exact(found.chosen[key]) if found.chosen else "none, all diverged or are undefined"
    edge = ", at an edge" if key in found.at_edge else ""
    return f"{key}: {best} (of {tried}{edge})"


def _trials(story: Story, tuned: list[tuple[Variant, Tuning]]) -> Table:
    return Table(
        title=f"{story.metric} of each combination on the images set aside for tuning",
        head=("variant", "combination", story.metric),
        rows=tuple(
            (
                Cell(variant.name),
                Cell(name, style="code"),
                number("diverged or undefined" if value is None else figure(value)),
            )
            for variant, found in tuned
            for name, value in found.values.items()
        ),
        care="One seed each, on fewer training images than the results: not to be compared with "
        "them.",
    )
