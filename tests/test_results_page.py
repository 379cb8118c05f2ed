"""docs/results.md: what it says of ablations is computed here from docs/ablations/*.json."""

import math
import re
from dataclasses import replace
from statistics import fmean, linear_regression

import pytest
from conftest import HOME

from detector.build import load_config
from detector.lab.contrasts import Comparison
from detector.lab.plan import Plan
from detector.lab.results import Results, read_results
from detector.report.markdown import measures_table
from detector.report.numbers import decimal, interval, probability

PAGE = (HOME / "docs" / "results.md").read_text()
ANCHORS = {64: 1290, 96: 2910, 128: 5115}  # of configs/sparse.yaml, by the image's side in pixels
QUESTION = "Is background learned, and how should it be weighed?"
SAYING = re.compile(  # p, differences by seed, intervals
    r"\bp (?:<|0)[ .\d]*\d|[+−-]0\.\d{3}(?:, [+−-]0\.\d{3})+|[+−]?0\.\d{3} to [+−]?0\.\d{3}"
)


def section(heading: str) -> str:
    """Its text, unwrapped, without tables."""
    text = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return " ".join(" ".join(line for line in text.splitlines() if line[:1] != "|").split())


class Published:
    """One of docs/ablations, and the figures that sentences are made of."""

    def __init__(self, name: str) -> None:
        self.results: Results = read_results(HOME / "docs" / "ablations" / f"{name}.json")
        self.of = {one.name: one for one in self.results.variants}

    def mean(self, name: str) -> float:
        return float(self.of[name].mean)

    def lead(self, a: str, b: str) -> float:
        return self.mean(a) - self.mean(b)

    def leads(self, a: str, b: str) -> list[float]:
        """a - b by seed."""
        pairs = zip(self.of[a].values.values(), self.of[b].values.values(), strict=True)
        return [x - y for x, y in pairs]

    def seeds(self, a: str, b: str) -> str:
        return ", ".join(f"{lead:+.3f}" for lead in self.leads(a, b))

    def comparison(self, a: str, b: str) -> Comparison:
        return next(c for c in self.results.comparisons if c.contrast.name == f"{a} - {b}")

    def p(self, a: str, b: str) -> str:
        return f"p {self.comparison(a, b).test.p:.3f}"

    def estimate(self, a: str, b: str) -> str:
        """a - b, its simultaneous interval and p."""
        one = self.comparison(a, b)
        ends = interval(one.test.interval, sign="+")
        return f"{decimal(one.mean, sign='+')} ({ends}; p {probability(one.test.p)})"

    def measure(self, name: str, measure: str) -> float:
        return fmean(self.of[name].measures[measure].values())

    def rise(self, name: str) -> float:
        """Of the metric from the last validation but one to the last, mean over the seeds."""
        return fmean(of_run[-1][1] - of_run[-2][1] for of_run in self.of[name].validations.values())

    def anchors_to_one(self, name: str, side: int = 128) -> float:
        """Anchors of a batch of configs/sparse.yaml over those that are foreground, its divisor."""
        return 8 * ANCHORS[side] / float(self.of[name].confounders["divisor"])

    def slope(self, loss: str) -> float:
        """Of the mean over the binary logarithm of anchors to one of foreground."""
        names = {side: f"{loss}_{side}" for side in ANCHORS}
        ratios = [math.log2(self.anchors_to_one(name, side)) for side, name in names.items()]
        return linear_regression(ratios, [self.mean(name) for name in names.values()]).slope

    def clipped(self, name: str) -> str:
        return f"{100 * self.of[name].confounders['clipped_share']:.0f} %"

    def size(self, name: str) -> float:
        return float(self.of[name].confounders["classification_over_box"])


def needed(results: Results, margin: float) -> tuple[int, int, int, int]:
    """Least and most replicates over the contrasts, and the interval of the most."""
    found = [one.needed for one in replace(results, margin=margin).comparisons if one.needed]
    most = max(found, key=lambda one: one.n)
    return min(one.n for one in found), most.n, most.low, most.high


def early() -> list[str]:
    """The sentences of that section that hold a figure."""
    background, gamma, prior, weight, alpha = map(
        Published, ("background", "gamma", "prior", "weight", "alpha")
    )
    focal, ce = "sigmoid_negatives_focal", "sigmoid_negatives_ce"
    channel, softmax, ignored = "sigmoid_class_ce", "softmax_class_ce", "softmax_ignored_ce"
    sizes = sorted(background.size(name) for name in (ce, channel, softmax))
    matched = sorted(weight.size(n) for n in ("gamma_1", "gamma_0_light", "gamma_2_heavy"))
    times = next(
        new / old
        for key, (old, new) in weight.of["gamma_1_heavy"].changes.items()
        if key.endswith("weight")
    )
    best = alpha.comparison("alpha_0.75", "ce").test.interval
    least, most, low, high = needed(background.results, 0.005)
    return [
        f"above cross-entropy by {background.lead(focal, ce):.3f} ({background.p(ce, focal)})",
        f"under sigmoid by {background.lead(focal, channel):.3f} ({background.p(channel, focal)})",
        f"lies {background.lead(softmax, focal):.3f} above focal loss in the mean",
        f"({background.seeds(softmax, focal)} by seed; {background.p(softmax, focal)})",
        f"ignored background {background.lead(focal, ignored):.3f} below "
        f"({background.p(ignored, focal)})",
        f"of {background.clipped(focal)} of the steps was clipped under focal loss, "
        f"of {background.clipped(ce)} under cross-entropy, of {background.clipped(softmax)} under "
        f"softmax with a class and of {background.clipped(channel)} under sigmoid with one",
        f"was {background.size(focal):.1f} times the box loss under focal loss, "
        f"and {sizes[0]:.0f} to {sizes[-1]:.0f} times under the others",
        f"highest mean of the grid, {gamma.mean('gamma_1'):.3f}: "
        f"{gamma.lead('gamma_1', 'gamma_0'):.3f} above no focusing "
        f"({gamma.p('gamma_1', 'gamma_0')})",
        f"above γ = 2 in every seed ({gamma.seeds('gamma_1', 'gamma_2')})",
        f"γ = 5 lies below no focusing ({gamma.p('gamma_5', 'gamma_0')})",
        f"from {gamma.size('gamma_0'):.1f} times the box loss (γ = 0) to "
        f"{gamma.size('gamma_1'):.1f} (γ = 1), {gamma.size('gamma_2'):.1f} (γ = 2) and "
        f"{gamma.size('gamma_5'):.1f} (γ = 5)",
        f"one size ({matched[0]:.1f} to {matched[-1]:.1f})",
        f"γ = 1 has {weight.mean('gamma_1'):.3f}, γ = 0 has {weight.mean('gamma_0_light'):.3f} "
        f"({weight.p('gamma_0_light', 'gamma_1')}), γ = 2 has {weight.mean('gamma_2_heavy'):.3f} "
        f"({weight.p('gamma_2_heavy', 'gamma_1')}: not told apart); with {times:.1f} times its "
        f"weight γ = 1 has {weight.mean('gamma_1_heavy'):.3f}",
        f"focal loss by {prior.lead('focal_prior', 'focal_no_prior'):.3f}, softmax with a class by "
        f"{prior.lead('softmax_prior', 'softmax_no_prior'):.3f}, cross-entropy by "
        f"{prior.lead('ce_prior', 'ce_no_prior'):.3f} from π = 0.01 "
        f"({prior.p('ce_no_prior', 'ce_prior')}: not told apart) and by "
        f"{prior.lead('ce_prior_0.001', 'ce_no_prior'):.3f} from π = 0.001",
        f"{prior.lead('ce_prior_0.001', 'ce_prior'):.3f} above π = 0.01 "
        f"({prior.p('ce_prior_0.001', 'ce_prior')})",
        f"the best, .75, lies {alpha.seeds('alpha_0.75', 'ce')} from it (anything from "
        f"{-best[0]:.3f} below to {best[1]:.3f} above is possible)",
        f"would take {least} to {most} seeds",
        f"may be {low} or {high:,}",
    ]


def converged() -> list[str]:
    """The sentences of the answer that hold a figure."""
    one = Published("background_sparse")
    few, more = (f"FP an image, recall {recall}" for recall in (0.5, 0.8))
    rises = [one.rise(name) for name in one.of]
    other = Published("imbalance")
    few_background, much = (other.anchors_to_one(f"focal_{side}", side) for side in (64, 128))
    return [
        f"higher by {one.estimate('softmax_class', 'softmax_ignored')}",
        f"{one.measure('softmax_class', few):.4f} false positives an image at a recall of 0.5, "
        f"against {one.measure('softmax_ignored', few):.1f}",
        f"cross-entropy over negatives lies {one.estimate('ce', 'focal')} from focal loss and "
        f"softmax with a background class {one.estimate('softmax_class', 'focal')}",
        f"not seen to change between {few_background:,.0f} and {much:,.0f} anchors to one",
        f"one anchor in {one.anchors_to_one('focal'):,.0f} is foreground",
        f"({one.seeds('ce', 'focal')}; {one.seeds('softmax_class', 'focal')})",
        f"{one.measure('softmax_ignored', more):.0f} false positives an image, the others "
        f"{one.measure('softmax_class', more):.3f} to {one.measure('focal', more):.3f}",
        f"AP50 is {one.measure('focal', 'AP50'):.3f} under focal loss, "
        f"{one.measure('ce', 'AP50'):.3f} under cross-entropy and "
        f"{one.measure('softmax_class', 'AP50'):.3f} under softmax with a class",
        f"D-ECE {one.measure('focal', 'D-ECE'):.3f}, {one.measure('ce', 'D-ECE'):.3f} and "
        f"{one.measure('softmax_class', 'D-ECE'):.3f}",
        f"{one.size('focal'):.2f}, {one.size('ce'):.2f} and {one.size('softmax_class'):.2f} times",
        f"by {decimal(min(rises), sign='+')} to {decimal(max(rises), sign='+')}",
    ]


def imbalanced() -> list[str]:
    """The sentences of the section on imbalance that hold a figure."""
    one, others = Published("imbalance"), ("ce", "alpha_ce", "softmax")
    ratios = [f"{one.anchors_to_one(f'focal_{side}', side):,.0f}" for side in ANCHORS]
    gains = [
        one.estimate(f"(focal_128 - {loss}_128)", f"(focal_64 - {loss}_64)") for loss in others
    ]
    slopes = [one.slope(loss) for loss in ("focal", *others)]
    changes = one.comparison("(focal_128 - ce_128)", "(focal_64 - ce_64)")
    widest = max(-changes.test.interval.low, changes.test.interval.high)
    behind = sum(
        lead > 0
        for side in ANCHORS
        for loss in others
        for lead in one.leads(f"{loss}_{side}", f"focal_{side}")
    )
    least, most, *_ = needed(one.results, 0.02)
    rises = [one.rise(name) for name in one.of]
    return [
        f"in all {behind} pairs of runs",
        f"of up to {widest:.3f} in either direction",
        f"is {', '.join(f'{value:+.3f}' for value in changes.values.values())}.",
        f"would take {least} to {most} replicates",
        f"{ratios[0]}, {ratios[1]} and {ratios[2]}",
        f"by {gains[0]} on cross-entropy, {gains[1]} on α-balanced cross-entropy and "
        f"{gains[2]} on softmax with a background class",
        f"{slopes[0]:+.3f} under focal loss, {slopes[1]:+.3f} under cross-entropy, "
        f"{slopes[2]:+.3f} under α-balanced cross-entropy and {slopes[3]:+.3f} under softmax",
        f"by {decimal(min(rises), sign='+')} to {decimal(max(rises), sign='+')}",
    ]


def level_table() -> str:
    """Rows: a level of the imbalance, AP of each loss, and the others less focal loss."""
    one, lines = Published("imbalance"), []
    for side in ANCHORS:
        ratio = one.anchors_to_one(f"focal_{side}", side)
        aps = [
            f"{one.mean(f'{loss}_{side}'):.3f}" for loss in ("focal", "ce", "alpha_ce", "softmax")
        ]
        leads = [
            f"{one.lead(f'{loss}_{side}', f'focal_{side}'):+.3f}"
            for loss in ("ce", "alpha_ce", "softmax")
        ]
        lines.append(f"| {side} | {ratio:,.0f} | {' | '.join([*aps, *leads])} |")
    return "\n".join(lines)


def tuned() -> list[str]:
    """The sentences of the section on tuning that hold a figure."""
    tuning, few = Published("background_sparse_tuning"), "FP an image, recall 0.5"
    learned = [name for name in tuning.of if not name.startswith("softmax_ignored")]
    ignored = sorted(tuning.measure(name, few) for name in {*tuning.of} - {*learned})
    rises = [tuning.rise(name) for name in tuning.of]
    plain, light, focal = "ce_lr2e-3", "ce_weight0.1", "focal_lr2e-3"
    return [
        f"one anchor in {tuning.anchors_to_one('ce_lr2e-3'):,.0f} is foreground",
        f"{tuning.size(plain):.1f} times the box loss and AP is {tuning.mean(plain):.3f}; at 0.1 "
        f"it is {tuning.size(light):.2f} times, and AP {tuning.mean(light):.3f}",
        f"Focal loss goes from {tuning.mean(focal):.3f} to {tuning.mean('focal_weight0.1'):.3f}",
        f"{tuning.lead(focal, plain):.3f} above cross-entropy at weight 1 and "
        f"{tuning.lead(light, 'focal_weight0.1'):.3f} below it at 0.1",
        f"under focal loss ({tuning.measure(focal, 'AP50'):.3f} and "
        f"{tuning.measure('focal_weight0.1', 'AP50'):.3f})",
        f"at least {ignored[0]:.3f} false positives an image, of any kind, at a recall of "
        f"0.5, every other loss at most {max(tuning.measure(name, few) for name in learned):.4f}",
        f"by {min(rises):+.3f} to {max(rises):+.3f}".replace("-", "−"),
    ]


def test_the_tuning_stands_on_the_page() -> None:
    tuning = Published("background_sparse_tuning")
    assert measures_table(tuning.results) in PAGE
    best = Plan.read(
        HOME / "configs" / "ablations" / "background_sparse.yaml", [], load=load_config
    )
    for variant in best.variants:
        trials = [name for name in tuning.of if name.startswith(f"{variant.name}_")]
        assert max(trials, key=tuning.mean) == f"{variant.name}_weight0.1"
        assert variant.config.loss.classification.weight == 0.1


def test_the_levels_of_imbalance_stand_on_the_page() -> None:
    assert level_table() in PAGE
    changes = Published("imbalance").results.comparisons
    assert {one.verdict for one in changes} == {"not told apart"}


SECTIONS = {
    QUESTION: converged,
    "When does focusing matter?": imbalanced,
    "How each loss was tuned": tuned,
    "What 750 steps said": early,
}


@pytest.mark.parametrize("heading", SECTIONS)
def test_sentences_follow_from_the_files(heading: str) -> None:
    assert [one for one in SECTIONS[heading]() if one not in section(heading)] == []


@pytest.mark.parametrize("heading", SECTIONS)
def test_no_other_p_difference_or_interval_is_said(heading: str) -> None:
    said, computed = section(heading), " ".join(SECTIONS[heading]())
    assert set(SAYING.findall(said)) == set(SAYING.findall(computed))


def test_both_pages_give_the_same_answer() -> None:
    answer = PAGE.partition(f"\n## {QUESTION}\n\n")[2].partition("\n\n")[0]
    assert answer.startswith("**Softmax learned")
    assert answer in (HOME / "docs" / "losses.md").read_text()
