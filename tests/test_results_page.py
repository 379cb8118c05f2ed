"""docs/results.md: what it says of ablations is computed here from docs/ablations/*.json."""

import re
from dataclasses import replace

from conftest import HOME

from detector.lab.contrasts import Comparison
from detector.lab.results import Results, read_results

PAGE = (HOME / "docs" / "results.md").read_text()
EARLY = " ".join(PAGE.partition("\n## What 750 steps said\n")[2].partition("\n## ")[0].split())


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
        return ", ".join(f"{x - y:+.3f}" for x, y in pairs)

    def comparison(self, a: str, b: str) -> Comparison:
        return next(c for c in self.results.comparisons if c.contrast.name == f"{a} - {b}")

    def p(self, a: str, b: str) -> str:
        return f"p {self.comparison(a, b).test.p:.3f}"

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
    """The sentences of EARLY that hold a figure."""
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


def test_sentences_follow_from_the_files() -> None:
    assert [one for one in early() if one not in EARLY] == []


def test_no_other_p_or_difference_by_seed_is_said() -> None:
    computed = " ".join(early())
    for pattern in (r"\bp 0\.\d+", r"[+-]0\.\d{3}(?:, [+-]0\.\d{3})+"):
        assert set(re.findall(pattern, EARLY)) == set(re.findall(pattern, computed))
