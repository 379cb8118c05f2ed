"""What page and paper say of an ablation's contrasts, its design, and how flat its ends are.

page.html.j2 calls it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

from detector.lab.contrasts import Comparison
from detector.lab.results import Amendment
from detector.lab.statistics import ReplicatesNeeded
from detector.report.folder import AblationFolder, ReportedVariant
from detector.report.numbers import NONE, decimal, interval, probability
from detector.report.seed_means import points
from detector.settings.figures import worst_value

Cell = tuple[str, str]  # its text and a note
LATE = 0.8  # of a training: what changes from there on was not over
DRAWN = ("data.train", "data.val", "data.folds")  # keys that say which images a replicate has
LENGTH = {"schedule.epochs", "schedule.steps"}
NOT_SEEN = ("data.val.", "data.workers")  # keys of data that change no training image
EFFECTS = {  # of a change of the design after its first result, on what is said of it
    "seeds": "P-values are too small: with seeds added until a difference shows, three looks find "
    "one at .05 in 12 % of cases without any.",
    "metric": "P-values are too small: they count one metric, where the others could have been "
    "taken as well.",
    "contrasts": "P-values are too small: they are corrected for fewer contrasts than were "
    "declared.",
    "margin": "That two are called equal promises little: the margin was chosen with results to "
    "look at.",
}


@dataclass(frozen=True)
class Row:
    """Of the table of contrasts."""

    name: str
    cells: tuple[Cell, ...]
    verdict: str
    different: bool


def verdicts(ablation: AblationFolder) -> dict[str, list[str]]:
    """Verdict -> the contrasts of which it is said, each with its estimate; what is found first."""
    by_verdict: dict[str, list[str]] = {}
    for comparison in sorted(ablation.comparisons, key=_rank):
        mean = comparison.mean
        estimate = "" if mean is None else f" ({decimal(mean, sign='+')})"
        names = by_verdict.setdefault(comparison.verdict, [])
        names.append(f"{comparison.contrast.name}{estimate}")
    return by_verdict


def _rank(comparison: Comparison) -> tuple[bool, ...]:
    one = comparison
    return not one.contrast.planned, one.test is None, not one.different, not one.equal


def contrasts(ablation: AblationFolder) -> tuple[list[str], list[Row]]:
    """Head and rows, those that were planned first."""
    margin = ablation.margin
    equality = [f"p (equal within ±{margin:g})", "replicates needed"] if margin else []
    seeds = "by seed: " + ", ".join(map(str, ablation.seeds))
    head = ["contrast", "verdict", "estimate", seeds, "p", "p (corrected)", *equality]
    ordered = sorted(ablation.comparisons, key=lambda one: not one.contrast.planned)
    return head, [_row(ablation, one) for one in ordered]


def _row(ablation: AblationFolder, comparison: Comparison) -> Row:
    test, equality = comparison.test, comparison.equivalence
    by_seed = [
        decimal(comparison.values.get(seed), sign="+" if seed in comparison.values else "")
        for seed in ablation.seeds
    ]
    cells = [
        (decimal(comparison.mean, sign="+"), interval(test.interval, sign="+") if test else ""),
        ("   ".join(by_seed), ""),
        (probability(test.p_alone if test else None), ""),
        (probability(test.p if test else None), ""),
    ]
    if ablation.margin:
        inside = interval(equality.interval, sign="+") if equality else ""
        cells += [(probability(equality.p if equality else None), inside)]
        cells += [_needed(comparison.needed)]
    return Row(comparison.contrast.name, tuple(cells), comparison.verdict, comparison.different)


def _needed(needed: ReplicatesNeeded | None) -> Cell:
    return (NONE, "") if needed is None else (str(needed.n), f"{needed.low} to {needed.high}")


def diverging(ablation: AblationFolder) -> str:
    """What runs that diverged do to the intervals, in a sentence; empty where none did."""
    counted = worst_value(ablation.metric) is not None  # or their contrasts have no interval
    if not counted or not any(variant.diverged for variant in ablation.variants):
        return ""
    return (
        "Runs diverged, and intervals then hold together less often than they say: where 10 or "
        "20 % of a variant's runs diverge, in 44 to 67 % of ablations of 5 replicates and in 62 to "
        "88 % of 10, by simulation."
    )


def untested(ablation: AblationFolder) -> list[str]:
    """A sentence of each planned contrast that has no test."""
    return [
        f"{one.contrast.name}: {one.untested}"
        for one in ablation.comparisons
        if one.contrast.planned and one.test is None
    ]


def amended(amendment: Amendment) -> list[str]:
    """What was changed, why, and what that does to what is said of it."""
    changes = [
        f"{key} from {_value(amendment.before.get(key))} to {_value(value)}"
        for key, value in amendment.after.items()
    ]
    seen = "after" if amendment.results_seen else "before"
    return [
        f"{amendment.date[:10]}: {'; '.join(changes)}, {seen} results.json was written first.",
        f"Reason given: {amendment.reason.rstrip('.')}.",
        *(EFFECTS[key] for key in amendment.after if key in EFFECTS),
    ]


def _value(value: object) -> str:
    if value is None:
        return "none on record"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def pairing(ablation: AblationFolder) -> str:
    """What the trainings of one replicate have in common, in a sentence."""
    keys = {key for variant in ablation.variants for key in variant.changes}
    changed = sorted(filter(_changes_images, keys))
    images = (
        f"; they differ in {', '.join(changed)}, and so in the images that they see"
        if changed
        else ", and see the same images in the same order"
    )
    if not changed and keys & LENGTH:
        images += ", as far as the shorter one goes"
    return f"Trainings of one seed start from the same weights in all that they share{images}."


def _changes_images(key: str) -> bool:
    return key == "train.batch_size" or (key.startswith("data.") and not key.startswith(NOT_SEEN))


def replicate_data(ablation: AblationFolder) -> str:
    """Whose data a replicate has, in sentences; empty where it is not known."""
    if ablation.by_seed is None:
        return ""
    keys = {change: change.partition("=")[0].strip() for change in ablation.by_seed}
    drawn = [change for change, key in keys.items() if key == "data" or key.startswith(DRAWN)]
    if not drawn:
        return "All seeds have the same data: intervals and p speak of other seeds on these alone."
    said = f"Each seed has data of its own ({'; '.join(drawn)})."
    if not any(keys[c].startswith("data.folds") or "{folds:" in c for c in drawn):
        return said
    said += " Training sets of folds overlap, so that they spread less than data drawn anew."
    if any(variant.tuning for variant in ablation.variants):
        said += (
            " What was tuned was chosen on images of which some are validated on in other folds."
        )
    return said


def late_changes(ablation: AblationFolder) -> Mapping[str, float]:
    """Variant -> change of the metric over the last fifth of its training, mean over its runs."""
    changes = {v.name: _changes(v, f"validation/{ablation.metric}") for v in ablation.variants}
    return {name: fmean(of_runs) for name, of_runs in changes.items() if of_runs}


def _changes(variant: ReportedVariant, key: str) -> list[float]:
    """Of each run since its last validation before LATE, not since the last but one.

    How far apart two validations are is a matter of evaluation.every.
    """
    changes = []
    for series in (points(run, key) for run in variant.finished if variant.trained):
        early = [value for epoch, value in series if epoch <= LATE * series[-1][0]]
        changes += [series[-1][1] - value for value in early[-1:]]
    return changes


def flatness(ablation: AblationFolder) -> str:
    """Whether the metric was flat at the end of the training, as far as validations say."""
    metric, changes, margin = ablation.metric, late_changes(ablation), ablation.margin
    unknown = [v.name for v in ablation.variants if v.trained and v.name not in changes]
    if not changes:
        return (
            f"No run was validated before the last fifth of its training: whether {metric} was "
            "flat at the end is not known."
        )
    most = max(changes, key=lambda name: abs(changes[name]))
    said = (
        f"From the last validation before the last fifth of the training to its end {metric} "
        f"changed most under {most}: by {decimal(changes[most], sign='+')}, mean over seeds"
    )
    if unknown:
        said += f" (of {', '.join(unknown)} it is not known)"
    if margin is None:
        return f"{said}. No margin was declared to judge that by."
    moving = [name for name, change in changes.items() if abs(change) >= margin]
    if not moving:
        return f"{said}, which is less than the margin of {margin:g}: it was flat at the end."
    return (
        f"{said}. It was not flat at the end, by the margin of {margin:g}, under "
        f"{', '.join(moving)}: these trainings are compared before they are over."
    )


def correlation(ablation: AblationFolder) -> str:
    """What replicates share, in a sentence; empty where it is not known."""
    shared = ablation.replicate_correlation
    if shared is None:
        return ""
    why = "; below 0: chance, or runs of one seed are less alike than others" if shared < 0 else ""
    return (
        f"Intraclass correlation of the replicates: {decimal(shared)} (the share of the variance "
        f"that a seed moves in all variants alike{why})."
    )


def success_cells(ablation: AblationFolder, variant: ReportedVariant) -> list[Cell]:
    """How many runs came to a value, and their mean; no cells where all did that count."""
    if not any(v.lost for v in ablation.variants):
        return []
    found = variant.success
    rate = f"{100 * found.succeeded / found.runs:.0f} %" if found.runs else NONE
    return [(rate, f"{found.succeeded} of {found.runs}"), (decimal(found.mean), "")]
