"""The section on fairness: what else differed between the variants, and what was tuned."""

from __future__ import annotations

from detector.report.blocks import Block, Cell, PageSection, Table, missing
from detector.report.folder import AblationFolder, ReportedVariant
from detector.report.numbers import (
    NONE,
    decimal,
    difference_cells,
    four_digits,
    interval,
    number_cell,
    percent,
    yaml_value,
)

CONFOUNDERS = {
    "clipped_share": "steps with a clipped gradient",
    "classification_over_box": "classification loss / box loss",
    "divisor": "divisor of the classification loss",
    "gradient_norm": "gradient norm",
    "score_threshold": "score threshold",
}


def fairness_section(ablation: AblationFolder) -> PageSection:
    """Confounders, and tuning where anything was tuned."""
    blocks: list[Block] = [_confounders(ablation)]
    if any(variant.tuning for variant in ablation.variants):
        blocks += [_chosen_values(ablation), _trials(ablation)]
    return PageSection("fairness", "Is the comparison fair?", blocks)


def _confounders(ablation: AblationFolder) -> Block:
    variants = [v for v in ablation.variants if v.confounders]
    if not variants:
        return missing("Confounders", "results.json lists none.")
    return Table(
        title="What differs between the variants beside what they are named after",
        head=("variant", *CONFOUNDERS.values()),
        rows=tuple((Cell(v.name), *(_confounder(v, key) for key in CONFOUNDERS)) for v in variants),
        caveat="Means over the last half of training and over seeds; losses with their weights, "
        "the gradient norm of all parameters before clipping. Where a row differs much from the "
        "baseline's, a part of its difference in the results may come from this.",
    )


def _confounder(variant: ReportedVariant, key: str) -> Cell:
    value = variant.confounders.get(key)
    if value is None:
        return number_cell(NONE)
    return number_cell(percent(value) if key == "clipped_share" else four_digits(value))


def _chosen_values(ablation: AblationFolder) -> Table:
    return Table(
        title="What was tuned, and what it changed",
        head=("variant", "chosen of what was tried", "lead", f"{ablation.metric} untuned",
              f"{ablation.metric} tuned", "difference, both tuned", "p", "p (Holm)"),
        rows=tuple(_chosen_row(ablation, v) for v in ablation.variants if v.tuning),
        caveat="Values were chosen by the first seed alone, on images set aside from the training "
        "set and never on those that are reported. Lead: of the best combination over the second "
        "best; one below the std of the results may be chance. At an edge a value that was not "
        f"tried may be better. The last columns compare with {ablation.baseline} at its own best; "
        "Holm's p is corrected over these rows.",
    )  # fmt: skip


def _chosen_row(ablation: AblationFolder, variant: ReportedVariant) -> tuple[Cell, ...]:
    tuning = variant.tuning
    assert tuning is not None
    chosen = []
    for key, tried in tuning.keys.items():
        best = tuning.chosen[key] if tuning.chosen else "none, all diverged or are undefined"
        edge = ", at an edge" if key in tuning.at_edge else ""
        chosen.append(f"{key}: {yaml_value(best)} (of {', '.join(map(yaml_value, tried))}{edge})")
    tuned = number_cell("the same" if tuning.chosen else NONE)
    if tuning.tuned_variant:
        at_best = ablation.variant(tuning.tuned_variant)
        tuned = number_cell(decimal(at_best.mean), interval(at_best.interval))
    return (
        Cell(variant.name),
        Cell("\n".join(chosen), style="code"),
        number_cell(decimal(tuning.lead)),
        number_cell(decimal(variant.mean), interval(variant.interval)),
        tuned,
        *difference_cells(tuning.difference),
    )


def _trials(ablation: AblationFolder) -> Table:
    return Table(
        title=f"{ablation.metric} of each combination on the images set aside for tuning",
        head=("variant", "combination", ablation.metric),
        rows=tuple(
            (
                Cell(variant.name),
                Cell(name, style="code"),
                number_cell("diverged or undefined" if value is None else decimal(value)),
            )
            for variant in ablation.variants
            for name, value in (variant.tuning.values if variant.tuning else {}).items()
        ),
        caveat="One seed each, on fewer training images than the results: not comparable to them.",
    )
