"""The head of the page and its first section: what was asked, and the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from detector.lab.results import Difference, SeedBootstrap
from detector.report import result_plots
from detector.report.blocks import (
    Block,
    BulletList,
    Cell,
    PageSection,
    Paragraph,
    Picture,
    Table,
    missing,
)
from detector.report.folder import AblationFolder, ReportedVariant
from detector.report.numbers import (
    NONE,
    decimal,
    difference_cells,
    four_digits,
    interval,
    listed,
    number_cell,
    percent,
    probability,
)
from detector.report.result_plots import ForestRow
from detector.report.style import LineStyle
from detector.settings.ablation import changing_measure
from detector.settings.training import is_coco_figure

SEEDS_CAVEAT = (
    "Intervals hold 95 %, over seeds alone (other validation images would add to them), and take "
    "the differences as normal."
)


def facts(ablation: AblationFolder) -> list[tuple[str, str]]:
    """Names and values for the list under the title."""
    runs = ablation.runs
    days = sorted(r.environment["started"][:10] for r in runs if r.environment.get("started"))
    failed = sum(run.value is None for run in runs)
    done = f"{len(runs) - failed} finished" + (f", {failed} without a value" if failed else "")
    trials = len(set(ablation.seconds) - {run.name for run in runs})
    more = f"; and {trials} trials of what is tuned" if trials else ""
    seconds = sum(run.seconds or 0.0 for run in runs)
    hours = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"
    facts = [
        ("Metric", f"{ablation.metric} at the last validation"),
        ("Baseline", ablation.baseline),
        ("Ablation", ablation.ablation),
        ("Base config", ablation.config or "not known"),
        ("Seeds", ", ".join(map(str, ablation.seeds))),
        ("Runs", f"{len(runs)}: {done}; {hours} together{more}"),
        ("Date", " to ".join(dict.fromkeys((days[0], days[-1]))) if days else "not known"),
    ]
    if ablation.runner.overhead is not None:
        facts.append(("Runner overhead", f"{percent(ablation.runner.overhead)} of the runs' time"))
    return facts


def question(ablation: AblationFolder) -> str:
    """One sentence for the head of the page."""
    return (
        f"{ablation.metric} of each variant against {ablation.baseline}, seed by seed from the "
        "same weights and in the same order of images."
    )


def result_section(ablation: AblationFolder, styles: Mapping[str, LineStyle]) -> PageSection:
    """The main table, the forest plot, the differences by seed and over images."""
    blocks: list[Block] = [*_changed_measure(ablation)]
    if sentences := verdicts(ablation):
        blocks.append(BulletList(tuple(sentences)))
    blocks += [_table(ablation), _forest(ablation, styles), *_by_seed(ablation)]
    if ablation.bootstrap:
        blocks.append(_bootstrap(ablation, ablation.bootstrap))
    return PageSection("results", "Results", blocks)


def _changed_measure(ablation: AblationFolder) -> list[Paragraph]:
    """A warning where the metric of one variant is not that of another."""
    changed = {key for v in ablation.variants for key in v.changes}
    keys = changing_measure(ablation.metric, changed)
    warning = (
        f"The variants differ in {', '.join(keys)}, and so {ablation.metric} measures another "
        "thing in each: a difference does not say which detector is better."
    )
    return [Paragraph(warning, "missing")] if keys else []


def verdicts(ablation: AblationFolder) -> list[str]:
    """Which variants differ significantly, which may be equal, and which were not tested.

    Declared variants are compared with the baseline as declared, and then, where both were tuned,
    each at its best with the baseline at its own.
    """
    added = {v.tuning.tuned_variant for v in ablation.variants if v.tuning}
    others = [v for v in ablation.variants if v.name not in {*added, ablation.baseline}]
    sentences = _verdicts(ablation.baseline, {v.name: v.difference for v in others})
    if ablation.baseline_variant.tuning is not None:
        tuned = {v.name: v.tuning.difference for v in others if v.tuning is not None}
        sentences += _verdicts(f"{ablation.baseline}, both tuned", tuned)
    return sentences


def _verdicts(baseline: str, differences: Mapping[str, Difference | None]) -> list[str]:
    tested = {name: d for name, d in differences.items() if d and d.p_holm is not None}
    groups = (
        (
            f"Different from {baseline} (p < 0.05 after Holm's correction)",
            [name for name, d in tested.items() if d.significant],
            "",
        ),
        (
            f"Not shown to differ from {baseline}",
            [name for name, d in tested.items() if not d.significant],
            " That does not prove them equal: any difference within their intervals is possible.",
        ),
        (
            f"Not tested against {baseline}, for want of two seeds that both have finished",
            [name for name in differences if name not in tested],
            "",
        ),
    )
    return [f"{text}: {listed(names)}.{caveat}" for text, names, caveat in groups if names]


def _table(ablation: AblationFolder) -> Table:
    metric, seeds = ablation.metric, ", ".join(map(str, ablation.seeds))
    return Table(
        title=f"{metric} of each variant, and its differences from {ablation.baseline}",
        head=("variant", metric, "std", f"by seed: {seeds}", "difference", "p", "p (Holm)",
              "published"),
        rows=tuple(_row(ablation, variant) for variant in ablation.variants),
        caveat=f"{SEEDS_CAVEAT} Difference: mean over the seeds that both have. p: paired t-test; "
        "Holm: corrected over the declared variants. Bold: below 0.05. A variant that tuning added "
        "is not tested here, where the baseline is not tuned. Published: of another data set or "
        "code unless its source says otherwise.",
    )  # fmt: skip


def _row(ablation: AblationFolder, variant: ReportedVariant) -> tuple[Cell, ...]:
    published = variant.published
    values = "   ".join("none" if r.value is None else decimal(r.value) for r in variant.runs)
    is_baseline = variant.name == ablation.baseline
    return (
        Cell(variant.name + (" (baseline)" if is_baseline else ""), variant.question),
        number_cell(decimal(variant.mean), interval(variant.interval)),
        number_cell(decimal(variant.standard_deviation)),
        Cell(values, style="number values"),
        *difference_cells(variant.difference),
        Cell(decimal(published.value), published.source, "number source")
        if published
        else number_cell(NONE),
    )


def _forest(ablation: AblationFolder, styles: Mapping[str, LineStyle]) -> Block:
    values, differences = forest_rows(ablation)
    if not values:
        return missing("Forest plot", "No run has finished.")
    near = result_plots.zoom_width(differences)
    published = any(row.published is not None for row in values)
    return Picture(
        title=f"{ablation.metric} of each variant, and its differences from {ablation.baseline}",
        svg=result_plots.forest_plot(values, differences, styles, ablation.metric),
        caption="Large mark: mean over seeds. Bar: its 95 % interval, before Holm's correction. "
        "Small dots: seeds."
        + (" Upright stroke: published." if published else "")
        + (" On the right the same differences near 0; what lies outside is cut." if near else ""),
        caveat="Compare by the differences, not by whether the intervals on the left overlap: "
        "seeds move all variants together, which pairing takes out.",
    )


def forest_rows(ablation: AblationFolder) -> tuple[list[ForestRow], list[ForestRow]]:
    """The values of each variant that has some, and the differences from the baseline."""
    values = [
        ForestRow(
            v.name,
            v.mean,
            v.interval,
            tuple(value for value in v.values.values() if value is not None),
            v.published.value if v.published else None,
        )
        for v in ablation.variants
        if v.mean is not None
    ]
    differences = [
        ForestRow(v.name, d.mean, d.interval, d.differences)
        for v in ablation.variants
        if (d := v.difference)
    ]
    return values, differences


def _by_seed(ablation: AblationFolder) -> list[Table]:
    """The differences themselves; none where nothing is compared."""
    compared = [(v, v.difference) for v in ablation.variants if v.difference]
    if not compared:
        return []
    # half a point is a unit of AP; a loss or a metric of one's own has none
    power = ["seeds to see 0.005"] if is_coco_figure(ablation.metric) else []
    table = Table(
        title=f"Differences in {ablation.metric} from {ablation.baseline}, seed by seed",
        head=("variant", *(f"seed {seed}" for seed in ablation.seeds), "std", *power),
        rows=tuple(
            (
                Cell(v.name),
                *(number_cell(decimal(d, sign="+")) for d in _aligned(ablation, v, difference)),
                number_cell(decimal(difference.standard_deviation)),
                *(
                    number_cell(four_digits(difference.seeds_for_half_a_point or NONE))
                    for _ in power
                ),
            )
            for v, difference in compared
        ),
        caveat="Last column: with fewer seeds than this a difference of half a point (0.005) would "
        "be missed more than one time in five (two-sided paired t-test, before Holm's correction). "
        "It is a guess from the std of this row, which two or three seeds may give far too small."
        if power
        else "",
    )
    return [table]


def _aligned(
    ablation: AblationFolder, variant: ReportedVariant, difference: Difference
) -> list[float | None]:
    """A difference for each seed; None for one that the variant or the baseline lacks."""
    baseline = ablation.baseline_variant.values
    seeds = [s for s, v in variant.values.items() if v is not None and baseline[s] is not None]
    by_seed = dict(zip(seeds, difference.differences, strict=True))
    return [by_seed.get(seed) for seed in ablation.seeds]


def _bootstrap(ablation: AblationFolder, entries: Sequence[SeedBootstrap]) -> Table:
    lacking = max(entry.lacking for entry in entries)
    rare = (
        f" In up to {percent(lacking)} of the resamples a class has no boxes and leaves the mean, "
        "which widens the interval and may shift it."
    )
    return Table(
        title=f"One seed at a time: bootstrap over images, against {ablation.baseline}",
        head=("variant", "seed", "difference in AP", "95 % interval", "p"),
        rows=tuple(
            (
                Cell(entry.variant),
                number_cell(str(entry.seed)),
                number_cell(decimal(entry.difference, sign="+")),
                number_cell(interval(entry.interval, sign="+")),
                number_cell(probability(entry.p)),
            )
            for entry in entries
        ),
        caveat="Over validation images, for these two trained models: another seed is not in the "
        "intervals. p is not corrected for the number of rows." + (rare if lacking else ""),
    )
