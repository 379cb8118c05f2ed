"""The first sections: what was asked, the figures, and what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from detector.report import pictures
from detector.report.blocks import Block, Cell, Picture, Points, Section, Table, Text, missing
from detector.report.ink import Look
from detector.report.story import Story, Variant
from detector.report.words import (
    NONE,
    figure,
    general,
    interval,
    names,
    number,
    percent,
    power,
    probability,
    told_apart,
)
from detector.settings.ablation import LOSSES, changing_measure

CARE_OF_SEEDS = (
    "All intervals hold 95 % and are over seeds; what other validation images would say is not in "
    "them. They take the differences as normal."
)


def facts(story: Story) -> list[tuple[str, str]]:
    """What stands under the title."""
    started = sorted(r.environment["started"] for r in story.runs if r.environment.get("started"))
    failed = sum(run.value is None for run in story.runs)
    without = f", {failed} without a figure" if failed else ""
    done = f"{len(story.runs) - failed} finished{without}"
    together = _duration(sum(run.seconds or 0.0 for run in story.runs))
    facts = [
        ("Metric", f"{story.metric} at the last validation"),
        ("Baseline", story.baseline),
        ("Ablation", story.file or "not known"),
        ("Base config", story.config or "not known"),
        ("Seeds", ", ".join(map(str, story.seeds))),
        ("Runs", f"{len(story.runs)}: {done}; {together} together{_trials(story)}"),
        ("Date", _dates(started)),
    ]
    overhead = (story.results.get("runner") or {}).get("overhead")
    if overhead is not None:
        facts.append(
            ("Runner overhead", f"{percent(overhead)} of the runs' own time, while they were going")
        )
    return facts


def _trials(story: Story) -> str:
    trials = set(story.results.get("seconds", {})) - {run.name for run in story.runs}
    return f"; and {len(trials)} trials of what is tuned" if trials else ""


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"


def _dates(started: list[str]) -> str:
    if not started:
        return "not known"
    first, last = started[0][:10], started[-1][:10]
    return first if first == last else f"{first} to {last}"


def question(story: Story) -> str:
    """One sentence for the head of the page."""
    others = len(story.variants) - 1
    return (
        f"How do {others} variants compare in {story.metric} with {story.baseline}, "
        "seed by seed from the same weights and in the same order of images?"
        if others != 1
        else f"How does one variant compare in {story.metric} with {story.baseline}, "
        "seed by seed from the same weights and in the same order of images?"
    )


def results(story: Story, looks: Mapping[str, Look]) -> Section:
    """The main table, the sentences, the forest plot and one-seed comparisons."""
    points = (*told_apart(story), *power(story))
    blocks: list[Block] = [
        *_other_measures(story),
        *([Points(points)] if points else []),
        _table(story),
        _forest(story, looks),
        *_by_seed(story),
    ]
    if story.results.get("bootstrap"):
        blocks.append(_bootstrap(story.results["bootstrap"], story))
    return Section("results", "Results", blocks)


def _other_measures(story: Story) -> list[Text]:
    """A warning where the metric of one variant is not that of another."""
    keys = changing_measure(story.metric, {key for v in story.variants for key in v.changes})
    if not keys:
        return []
    return [
        Text(
            f"The variants differ in {names(keys)}, and so {story.metric} measures another thing "
            "in each: a difference does not say which detector is better.",
            "missing",
        )
    ]


def _table(story: Story) -> Table:
    seeds = ", ".join(map(str, story.seeds))
    return Table(
        title=f"{story.metric} of each variant, and its differences from {story.baseline}",
        head=("variant", story.metric, "std", f"by seed: {seeds}", "difference", "p", "p (Holm)",
              "published"),
        rows=tuple(_row(story, variant) for variant in story.variants),
        care=f"{CARE_OF_SEEDS} A difference is the mean over the seeds that both have; p is that "
        "of a paired t-test, Holm's is corrected over the variants, without those that tuning has "
        "added: their baseline is not tuned here. Bold: told apart, below 0.05. "
        "A published figure is of another data set or code unless its source says otherwise.",
    )  # fmt: skip


def _row(story: Story, variant: Variant) -> tuple[Cell, ...]:
    found = variant.difference
    values = "   ".join("none" if r.value is None else figure(r.value) for r in variant.runs)
    is_baseline = variant.name == story.baseline
    bold = "number strong" if found and found.told_apart else "number"
    published = variant.published
    return (
        Cell(variant.name + (" (baseline)" if is_baseline else ""), variant.question),
        number(figure(variant.mean), interval(variant.interval)),
        number(figure(variant.standard_deviation)),
        Cell(values, style="number values"),
        Cell(figure(found.mean, sign="+"), interval(found.interval, sign="+"), bold)
        if found
        else number(NONE),
        number(probability(found.p if found else None)),
        Cell(probability(found.p_holm if found else None), style=bold),
        Cell(figure(published["value"]), published["source"], "number source")
        if published
        else number(NONE),
    )


def _forest(story: Story, looks: Mapping[str, Look]) -> Block:
    values, differences = forest_rows(story)
    if not values:
        return missing("Forest plot", "No run has finished.")
    near = pictures.zoom(differences)
    return Picture(
        title=f"{story.metric} of each variant, and its paired differences from {story.baseline}",
        svg=pictures.forest(values, differences, looks, story.metric),
        read="A large mark is the mean over seeds, the bar its 95 % interval, the small dots below "
        "it the seeds; a difference whose bar stays clear of the line at 0 differs from the "
        "baseline before Holm's correction."
        + (" On the right the same differences near 0; what lies outside is cut." if near else ""),
        care="Look at the differences, not at whether the intervals on the left overlap: seeds "
        "move all variants together, which pairing takes out."
        + (" An upright stroke on the left is the published figure." if _published(story) else ""),
    )


def _published(story: Story) -> bool:
    return any(variant.published for variant in story.variants)


def forest_rows(story: Story) -> tuple[list[pictures.Row], list[pictures.Row]]:
    """Of the variants with a value: the figures, and the differences from the baseline."""
    values = [
        pictures.Row(
            v.name,
            v.mean,
            v.interval,
            tuple(run.value for run in v.finished if run.value is not None),
            v.published["value"] if v.published else None,
        )
        for v in story.variants
        if v.mean is not None
    ]
    differences = [
        pictures.Row(v.name, v.difference.mean, v.difference.interval, v.difference.values)
        for v in story.variants
        if v.difference
    ]
    return values, differences


def _by_seed(story: Story) -> list[Table]:
    """The differences themselves; none where nothing is compared."""
    compared = [(v, v.difference) for v in story.variants if v.difference]
    if not compared:
        return []
    needed = ["seeds to see 0.005"] if story.metric not in LOSSES else []
    table = Table(
        title=f"Differences in {story.metric} from {story.baseline}, seed by seed",
        head=("variant", *(f"seed {seed}" for seed in story.seeds), "std", *needed),
        rows=tuple(
            (
                Cell(v.name),
                *(number(figure(d, sign="+")) for d in _aligned(story, v, found.values)),
                number(figure(found.standard_deviation)),
                *(number(general(found.seeds_for_half_a_point or NONE)) for _ in needed),
            )
            for v, found in compared
        ),
        care="The last column: so many seeds would see a difference of half a point four times out "
        "of five (two-sided paired t-test, before Holm's correction), if differences spread as "
        "those of this row do; what spreads little over two or three seeds may do so by chance."
        if needed
        else "",
    )
    return [table]


def _aligned(story: Story, variant: Variant, values: Sequence[float]) -> list[float | None]:
    """A difference for each seed; None for one that the variant or the baseline lacks."""
    theirs = {run.seed for run in story.variant(story.baseline).finished}
    both = [run.seed for run in variant.finished if run.seed in theirs]
    found = dict(zip(both, values, strict=True))
    return [found.get(seed) for seed in story.seeds]


def _bootstrap(entries: list[Mapping[str, Any]], story: Story) -> Table:
    return Table(
        title=f"One seed at a time: bootstrap over images, against {story.baseline}",
        head=("variant", "seed", "difference in AP", "95 % interval", "p"),
        rows=tuple(
            (
                Cell(entry["variant"]),
                number(general(entry["seed"])),
                number(figure(entry["difference"], sign="+")),
                number(interval(tuple(entry["interval"]), sign="+")),
                number(probability(entry["p"])),
            )
            for entry in entries
        ),
        care="These intervals are over validation images and hold for these two trained models; "
        "they leave out what another seed would give. p is not corrected for their number."
        + _rare(max(entry.get("lacking", 0.0) for entry in entries)),
    )


def _rare(lacking: float) -> str:
    """A warning of classes that resamples lose."""
    if not lacking:
        return ""
    return (
        f" In up to {percent(lacking)} of the resamples a class has no boxes and leaves the mean, "
        "which widens the interval and may shift it."
    )
