"""docs/results.md: what it says of ablations is computed here from docs/ablations/*.json."""

import re
from dataclasses import replace
from statistics import fmean

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
OTHERS = ("ce", "alpha_ce", "softmax")  # of imbalance.yaml, beside focal
RIVALS = ("ce", "softmax")  # of length.yaml, beside focal
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

    def seeds(self, a: str, b: str) -> str:
        pairs = zip(self.of[a].values.values(), self.of[b].values.values(), strict=True)
        return ", ".join(decimal(x - y, sign="+") for x, y in pairs)

    def comparison(self, a: str, b: str) -> Comparison:
        return next(c for c in self.results.comparisons if c.contrast.name == f"{a} - {b}")

    def p(self, a: str, b: str) -> str:
        return f"p {self.comparison(a, b).test.p:.3f}"

    def estimate(self, a: str, b: str) -> str:
        return estimate(self.comparison(a, b))

    def measure(self, name: str, measure: str) -> float:
        return fmean(self.of[name].measures[measure].values())

    def leads_over_time(self, a: str, b: str) -> list[float]:
        """a - b at each validation, mean over seeds."""
        curves = [
            [fmean(values) for values in zip(*([ap for _, ap in run] for run in runs), strict=True)]
            for runs in (self.of[name].validations.values() for name in (a, b))
        ]
        return [x - y for x, y in zip(*curves, strict=True)]

    def course(self, a: str, b: str) -> str:
        """The same, as a sentence has it."""
        *first, last = [f"{lead:.3f}" for lead in self.leads_over_time(a, b)]
        return f"{', '.join(first)} and {last}"

    def rise(self, name: str) -> float:
        """Of the metric from the last validation but one to the last, mean over the seeds."""
        return fmean(of_run[-1][1] - of_run[-2][1] for of_run in self.of[name].validations.values())

    def rises(self, ending: str = "") -> str:
        """Least and most of them over the variants whose name ends so."""
        rises = [self.rise(name) for name in self.of if name.endswith(ending)]
        return f"by {decimal(min(rises), sign='+')} to {decimal(max(rises), sign='+')}"

    def anchors_to_one(self, name: str, side: int = 128) -> float:
        """Anchors of a batch of configs/sparse.yaml over those that are foreground, its divisor."""
        return 8 * ANCHORS[side] / float(self.of[name].confounders["divisor"])

    def clipped(self, name: str) -> str:
        return f"{100 * self.of[name].confounders['clipped_share']:.0f} %"

    def size(self, name: str) -> float:
        return float(self.of[name].confounders["classification_over_box"])


def estimate(one: Comparison) -> str:
    """Its mean, simultaneous interval and p."""
    ends = interval(one.test.interval, sign="+")
    return f"{decimal(one.mean, sign='+')} ({ends}; p {probability(one.test.p)})"


class Imbalance(Published):
    """imbalance.json: what the other losses add to focal loss on canvases of one side."""

    def __init__(self) -> None:
        super().__init__("imbalance")

    def gain(self, loss: str) -> Comparison:
        """Of focal loss on another, from the smallest to the largest canvas."""
        return self.comparison(f"(focal_128 - {loss}_128)", f"(focal_64 - {loss}_64)")

    def widest(self) -> tuple[str, str]:
        """How much it may have gained on cross-entropy and softmax, and lost, at the most."""
        ends = [self.gain(loss).test.interval for loss in ("ce", "softmax")]
        return f"{max(end.high for end in ends):.3f}", f"{-min(end.low for end in ends):.3f}"

    def leads_of(self, measure: str, side: int) -> list[float]:
        focal = self.measure(f"focal_{side}", measure)
        return [self.measure(f"{loss}_{side}", measure) - focal for loss in OTHERS]

    def behind(self, measure: str) -> int:
        """Pairs of runs of one seed and canvas in which focal loss has the lower value."""
        return sum(
            self.of[f"focal_{side}"].measures[measure][seed] < value
            for side in ANCHORS
            for loss in OTHERS
            for seed, value in self.of[f"{loss}_{side}"].measures[measure].items()
        )


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
    other, twice = Imbalance(), Published("length")
    late = [twice.comparison(f"{loss}_20", "focal_20") for loss in RIVALS]
    plain, softmax = (estimate(c).partition(";")[0] + ")" for c in late)
    from_, to = (f"{other.anchors_to_one(f'focal_{side}', side):,.0f}" for side in (64, 128))
    gained, lost = other.widest()
    return [
        f"higher by {one.estimate('softmax_class', 'softmax_ignored')}",
        f"{one.measure('softmax_class', few):.4f} false positives an image at a recall of 0.5, "
        f"against {one.measure('softmax_ignored', few):.1f}",
        f"a background class lie {one.estimate('ce', 'focal')} and "
        f"{one.estimate('softmax_class', 'focal')} from focal loss (γ 2, α 0.25) after 10",
        f"equal to it within ±0.02, at {plain} and {softmax}, after 20",
        f"from one anchor of foreground in {from_} to one in {to}, on other made images, could not "
        f"be told: behind either it may have shrunk by up to {gained} or grown by up to {lost}",
        f"one anchor in {one.anchors_to_one('focal'):,.0f} is foreground",
        f"({one.seeds('ce', 'focal')}; {one.seeds('softmax_class', 'focal')})",
        f"{one.measure('softmax_ignored', more):.0f} false positives an image, the others "
        f"{one.measure('softmax_class', more):.3f} to {one.measure('focal', more):.3f}",
        f"AP50 is {one.measure('focal', 'AP50'):.3f} under focal loss, "
        f"{one.measure('ce', 'AP50'):.3f} under cross-entropy and "
        f"{one.measure('softmax_class', 'AP50'):.3f} under softmax with a class",
        f"D-ECE {one.measure('focal', 'D-ECE'):.3f}, {one.measure('ce', 'D-ECE'):.3f} and "
        f"{one.measure('softmax_class', 'D-ECE'):.3f}",
        f"it is {one.course('ce', 'focal')} for cross-entropy after 2, 4, 6, 8 and 10 epochs",
        f"{one.size('focal'):.2f}, {one.size('ce'):.2f} and {one.size('softmax_class'):.2f} times",
        one.rises(),
    ]


def imbalanced() -> list[str]:
    """The sentences of the section on imbalance that hold a figure."""
    one = Imbalance()
    gains = [one.gain(loss) for loss in OTHERS]
    said = [estimate(gain) for gain in gains]
    most_gained, most_lost = one.widest()
    counts = [gain.needed for gain in gains]
    by_seed = [list(gain.values.values()) for gain in gains]
    ap50 = {side: sorted(one.leads_of("AP50", side)) for side in ANCHORS}
    ar = [one.leads_of("AR", side)[0] for side in ANCHORS]
    steps = [one.lead(f"{loss}_128", f"{loss}_64") for loss in ("focal", *OTHERS)]
    lost = [
        one.measure(f"{loss}_{side}", "AP50 lost to background")
        for loss in ("focal", "ce")
        for side in (64, 128)
    ]
    others = [one.size(f"{loss}_{side}") for loss in OTHERS for side in ANCHORS]
    assert [values.index(min(values)) for values in by_seed] == [1, 1, 1]
    assert {f"{one.size(f'focal_{side}'):.1f}" for side in ANCHORS} == {"0.1"}
    assert one.behind("AP") == one.behind("AP50") == 45
    return [
        f"is {said[0]} on cross-entropy, {said[1]} on α-balanced cross-entropy and {said[2]} on "
        "softmax with a background class",
        f"as much as {most_gained} or lost as much as {most_lost}: gaps of "
        f"{one.lead('ce_64', 'focal_64'):.3f} and {one.lead('softmax_64', 'focal_64'):.3f}",
        f"take {min(one.n for one in counts)} to {max(one.n for one in counts)} "
        "replicates, or, since five know the spread badly, anything from "
        f"{min(one.low for one in counts)} to {max(one.high for one in counts)}",
        f"they are {', '.join(decimal(value, sign='+') for value in by_seed[0])} by seed",
        f"it is {one.course('ce_64', 'focal_64')} after 2, 4, 6, 8 and 10 epochs at 64 pixels, "
        f"and {one.course('ce_128', 'focal_128')} at 128",
        one.rises(),
        f"by {ap50[64][0]:.3f} to {ap50[64][-1]:.3f} at 64 pixels, {ap50[96][0]:.3f} to "
        f"{ap50[96][-1]:.3f} at 96 and {ap50[128][0]:.3f} to {ap50[128][-1]:.3f} at 128",
        f"by {-ar[0]:.3f}, {-ar[1]:.3f} and {-ar[2]:.3f}",
        f"from {lost[0]:.3f} to {lost[1]:.3f} under focal loss and from {lost[2]:.3f} to "
        f"{lost[3]:.3f} under cross-entropy",
        f"by {steps[0]:.3f} under focal loss, {steps[1]:.3f} under cross-entropy, "
        f"{steps[2]:.3f} under α-balanced cross-entropy and {steps[3]:.3f} under softmax",
        f"{min(others):.1f} to {max(others):.1f} times under the others",
    ]


def level_table() -> str:
    """Rows: a level of the imbalance, AP of each loss, and the others less focal loss."""
    one, lines = Imbalance(), []
    for side in ANCHORS:
        ratio = one.anchors_to_one(f"focal_{side}", side)
        aps = [f"{one.mean(f'{loss}_{side}'):.3f}" for loss in ("focal", *OTHERS)]
        leads = [f"{lead:+.3f}" for lead in one.leads_of("AP", side)]
        lines.append(f"| {side} | {ratio:,.0f} | {' | '.join([*aps, *leads])} |")
    return "\n".join(lines)


def lasting() -> list[str]:
    """The sentences of the section on the length of training that hold a figure."""
    one, losses = Published("length"), ("focal", *RIVALS)
    early, late = (
        [one.comparison(f"{loss}_{n}", f"focal_{n}") for loss in RIVALS] for n in (2, 20)
    )
    changes = [
        one.comparison(f"({loss}_20 - focal_20)", f"({loss}_2 - focal_2)") for loss in RIVALS
    ]
    longer = [f"{one.lead(f'{loss}_20', f'{loss}_10'):.3f}" for loss in losses]
    sizes = [[f"{one.size(f'{loss}_{n}'):.2f}" for loss in losses] for n in (2, 20)]
    few, dece, lrp, ar, ap50 = (
        [f"{one.measure(f'{loss}_20', name):.3f}" for loss in losses]
        for name in ("FP an image, recall 0.8", "D-ECE", "optimal LRP error", "AR", "AP50")
    )
    (*_, before), (*_, last) = one.of["softmax_20"].validations[4][-2:]
    courses = {
        loss: [one.leads_over_time(f"{loss}_{n}", f"focal_{n}") for n in (10, 20)]
        for loss in RIVALS
    }
    first = [f"{course[0]:.3f}" for of_loss in courses.values() for course in of_loss]
    *within, last_lead = [decimal(lead, sign="+") for lead in courses["ce"][1]]
    return [
        f"class lies {estimate(early[1])} in AP after 2 epochs and {estimate(late[1])} after 20, "
        f"a change of {estimate(changes[1])}",
        f"over negatives lies {estimate(early[0])} after 2 and {estimate(late[0])} after 20, a "
        f"change of {estimate(changes[0])}",
        f"(p {equality(late[0])} for cross-entropy, p {equality(late[1])} for softmax)",
        f"({one.seeds('ce_20', 'focal_20')}; {one.seeds('softmax_20', 'focal_20')})",
        f"a lead of {late[1].test.interval.high:.3f} may be left",
        f"still rose by {last - before:.3f} from epoch 18 to 20",
        f"lies {one.seeds('ce_2', 'focal_2')} from focal loss by seed",
        f"would take {replicates(early[0])}, for the change {replicates(changes[0], unit='')}",
        f"by {longer[0]} under focal loss, {longer[1]} under cross-entropy and {longer[2]} under "
        "softmax",
        f"AP changes {one.rises('20')}",
        f"D-ECE ({dece[0]}; {dece[1]} under cross-entropy, {dece[2]} under softmax), the higher "
        f"optimal LRP error ({lrp[0]}; {lrp[1]}, {lrp[2]})",
        f"at a recall of 0.8 ({few[0]}; {few[1]}, {few[2]}). Its AR is {ar[0]} ({ar[1]}, {ar[2]}), "
        f"in each seed above that of cross-entropy; its AP50 {ap50[0]} ({ap50[1]}, {ap50[2]})",
        f"{sizes[0][0]}, {sizes[0][1]} and {sizes[0][2]} times the box loss in those of 2 epochs, "
        f"and {sizes[1][0]}, {sizes[1][1]} and {sizes[1][2]} times in those of 20",
        f"cross-entropy lies {one.lead('focal_2', 'ce_2'):.3f} behind focal loss in the mean (not "
        f"told apart from none) and softmax {one.lead('softmax_2', 'focal_2'):.3f} ahead",
        f"cross-entropy lies {first[0]} and {first[1]} ahead, and softmax {first[2]} and "
        f"{first[3]}",
        f"cross-entropy lies {', '.join(within)} and {last_lead} from focal loss after 2, 4, 6",
    ]


def equality(one: Comparison) -> str:
    """p of its two one-sided tests."""
    assert one.equivalence is not None
    return probability(one.equivalence.p)


def replicates(one: Comparison, *, unit: str = " replicates") -> str:
    """To find a difference as large as the margin."""
    assert one.needed is not None
    return f"{one.needed.n}{unit} ({one.needed.low} to {one.needed.high})"


def test_what_is_said_of_length_without_a_figure() -> None:
    one, seeds = Published("length"), range(5)
    equal, apart = "equal within ±0.02", "not told apart"
    verdicts = [c.verdict for c in one.results.comparisons]
    assert verdicts == [apart, "different", apart, "different", equal, equal]
    for loss in RIVALS:
        late, focal = one.of[f"{loss}_20"], one.of["focal_20"]
        for name in ("D-ECE", "optimal LRP error"):
            assert all(focal.measures[name][s] > late.measures[name][s] for s in seeds)
        for seed in seeds:
            leads = [
                one.of[f"{loss}_{n}"].values[seed] - one.of[f"focal_{n}"].values[seed]
                for n in (10, 20)
            ]
            assert leads[1] < leads[0]
        for n in (10, 20):
            early, then = one.of[f"{loss}_{n}"].validations, one.of[f"focal_{n}"].validations
            assert all(early[s][0][0] == 2 and early[s][0][1] > then[s][0][1] for s in seeds)
    ar = [one.of[name].measures["AR"] for name in ("focal_20", "ce_20")]
    assert all(ar[0][s] > ar[1][s] for s in seeds)
    rises = [run[-1][1] - run[-2][1] for run in one.of["softmax_20"].validations.values()]
    assert max(rises) == rises[4] > 5 * max(rises[:4])
    behind = [one.of["softmax_20"].values[s] < one.of["focal_20"].values[s] for s in seeds]
    assert behind == [False, False, False, False, True]
    first = Published("background_sparse")
    for loss, name in (("ce", "ce"), ("focal", "focal"), ("softmax", "softmax_class")):
        assert one.of[f"{loss}_10"].values == first.of[name].values
    assert one.mean("softmax_2") > one.mean("focal_2") > one.mean("ce_2")
    older = Published("background")
    softmax, focal_, ce_ = "softmax_class_ce", "sigmoid_negatives_focal", "sigmoid_negatives_ce"
    assert older.mean(softmax) > older.mean(focal_) > older.mean(ce_)


def length_table() -> str:
    """Rows: epochs, AP of each loss, and the others less focal loss."""
    one, lines = Published("length"), []
    for epochs in (2, 10, 20):
        aps = [f"{one.mean(f'{loss}_{epochs}'):.3f}" for loss in ("focal", *RIVALS)]
        leads = [one.lead(f"{loss}_{epochs}", f"focal_{epochs}") for loss in RIVALS]
        aps += [decimal(lead, sign="+") for lead in leads]
        lines.append(f"| {epochs} | {375 * epochs:,} | {' | '.join(aps)} |")
    return "\n".join(lines)


def tuned() -> list[str]:
    """The sentences of the section on tuning that hold a figure."""
    tuning, few = Published("background_sparse_tuning"), "FP an image, recall 0.5"
    learned = [name for name in tuning.of if not name.startswith("softmax_ignored")]
    ignored = sorted(tuning.measure(name, few) for name in {*tuning.of} - {*learned})
    (late,) = [name for name in tuning.of if abs(tuning.rise(name)) > 0.02]
    plain, light, focal = "ce_lr2e-3", "ce_weight0.1", "focal_lr2e-3"
    channel = max((name for name in learned if "sigmoid_class" in name), key=tuning.mean)
    mean = {name: f"{tuning.mean(name):.3f}" for name in tuning.of}
    weighed = mean["focal_weight0.1"]
    return [
        f"{mean['focal_no_alpha']} with γ 2 without α, {mean['focal_gamma1']} with γ 1 and α 0.25, "
        f"{mean['focal_gamma0.5']} with γ 0.5 and α 0.5, against {weighed} with γ 2 "
        f"and α 0.25 and {mean[light]} under cross-entropy",
        f"with α 0.25 and 0.75 has {mean['ce_alpha0.25']} and {mean['ce_alpha0.75']}",
        f"is lower, {mean['focal_weight0.03']} under focal loss and "
        f"{mean['softmax_ignored_weight0.03']} under softmax that ignores background",
        f"best at {channel.rpartition('weight')[2]}, is left",
        f"one anchor in {tuning.anchors_to_one('ce_lr2e-3'):,.0f} is foreground",
        f"{tuning.size(plain):.1f} times the box loss and AP is {mean[plain]}; at 0.1 "
        f"it is {tuning.size(light):.2f} times, and AP {mean[light]}",
        f"Focal loss goes from {mean[focal]} to {weighed}",
        f"{tuning.lead(focal, plain):.3f} above cross-entropy at weight 1 and "
        f"{tuning.lead(light, 'focal_weight0.1'):.3f} below it at 0.1",
        f"under focal loss ({tuning.measure(focal, 'AP50'):.3f} and "
        f"{tuning.measure('focal_weight0.1', 'AP50'):.3f})",
        f"at least {ignored[0]:.3f} false positives an image, of any kind, at a recall of "
        f"0.5, every other loss at most {max(tuning.measure(name, few) for name in learned):.4f}",
        f"{tuning.rises()}, by more than the margin of 0.02 under `{late}` alone",
    ]


def test_the_tuning_stands_on_the_page() -> None:
    tuning = Published("background_sparse_tuning")
    assert measures_table(tuning.results) in PAGE
    best = Plan.read(
        HOME / "configs" / "ablations" / "background_sparse.yaml", [], load=load_config
    )
    for variant in best.variants:
        trials = [
            name
            for name in tuning.of
            if name.startswith((f"{variant.name}_lr", f"{variant.name}_weight"))
        ]
        assert max(trials, key=tuning.mean) == f"{variant.name}_weight0.1"
        assert variant.config.loss.classification.weight == 0.1


def test_the_lengths_stand_on_the_page() -> None:
    assert length_table() in PAGE


def test_the_levels_of_imbalance_stand_on_the_page() -> None:
    assert level_table() in PAGE
    assert {Imbalance().gain(loss).verdict for loss in OTHERS} == {"not told apart"}


SECTIONS = {
    QUESTION: converged,
    "How each loss was tuned": tuned,
    "Does the order of losses hold in longer training?": lasting,
    "When does focusing matter?": imbalanced,
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
