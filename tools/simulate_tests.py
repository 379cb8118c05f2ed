"""Which test for an ablation? Six, on simulated ablations: the tables of docs/statistics.md.

python tools/simulate_tests.py    # some minutes on one core
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from contrast_methods import LEVEL, METHODS, Array, Method, Tests, paired
from numpy.typing import NDArray

from detector.lab.results import read_results

Flags = NDArray[np.bool_]
Noise = Callable[[tuple[int, ...]], Array]  # independent values, mean 0 and deviation 1
Measure = Callable[[Tests], Flags]  # (ablations,), true where it happened
Rows = Iterator[tuple[str, dict[str, str]]]  # label, and cells by column
ABLATIONS = Path(__file__).parents[1] / "docs" / "ablations"
PUBLISHED = tuple(  # the tables are of these, whatever is published later
    ABLATIONS / f"{name}.json" for name in ("alpha", "background", "gamma", "prior", "weight")
)
REPLICATES = (3, 5, 10)
CONTRASTS = (4, 7)
CORRELATIONS = (0.0, 0.3, 0.6)  # intra-class: of two variants' values in one replicate
CHUNK = 1000  # ablations at a time: some 50 MB of intermediate results
SUCCESS = 30.0  # deviations by which a run that does not diverge lies above 0
SIZES = (1.0, 2.0, 3.0)  # of differences and margins, in deviations of one run
LOOKS = ((3, 5, 10), (5, 10, 15))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Simulate tests of ablations.")
    parser.add_argument(
        "--draws", type=int, default=4000, help="simulated ablations a figure; power: a quarter"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the simulation")
    return parser.parse_args()


def main() -> int:
    """Print all tables as Markdown."""
    args = arguments()
    print(
        f"{args.draws} simulated ablations a figure (power: a quarter), seed {args.seed}.",
        flush=True,
    )
    for title, rows in tables(args.draws, args.seed):
        print(f"\n### {title}\n")
        for index, (label, cells) in enumerate(rows):
            if index == 0:
                print(f"| | {' | '.join(cells)} |\n|{'---|' * (len(cells) + 1)}")
            print(f"| {label} | {' | '.join(cells.values())} |", flush=True)
    return 0


def tables(draws: int, seed: int) -> Iterator[tuple[str, Rows]]:
    """Title and rows of each."""
    generator = np.random.default_rng(seed)
    residuals, spreads = published(PUBLISHED)
    noises: dict[str, Noise] = {
        "normal": generator.standard_normal,
        "gamma": lambda shape: (generator.gamma(2.0, 1.0, shape) - 2) / np.sqrt(2.0),
        "residuals": lambda shape: generator.choice(residuals, shape),
    }
    normal = {"normal": noises.pop("normal")}
    every = list(scenarios(normal, spreads, CORRELATIONS))
    equal = [scenario for scenario in every if scenario.equal]
    skewed = scenarios(noises, spreads, (0.0, 0.6))
    diverging = divergences(normal["normal"], generator)
    fewer = max(draws // 4, 1)  # power is read to two digits, and its draws take longest
    within = [equal_within(size) for size in SIZES]
    yield "Familywise error, normal values", rows(every, draws, [any_error])
    yield "Equivalence: error at the margin's edge", rows(every, draws, [edge_error])
    yield "Power to find 1 / 2 / 3 deviations", rows(equal, fewer, [finds(s) for s in SIZES])
    yield "Equivalence within 1 / 2 / 3 deviations, shown", rows(equal, fewer, within)
    yield "Familywise error, skewed values", rows(skewed, draws, [any_error])
    yield "Simultaneous coverage where runs diverge", rows(diverging, draws, [all_covered])
    yield "Familywise error of the paired t after several looks", looks(normal["normal"], draws)
    yield "The paired t alone, 25 times the draws", paired_alone(spreads, 25 * draws, seed)


def published(files: Sequence[Path]) -> tuple[Array, Array]:
    """Standardised residuals of the shipped runs, pooled, and the deviations of their variants.

    Variants whose values are all equal have neither.
    """
    known = [
        np.array([value for value in variant.values.values() if value is not None])
        for file in files
        for variant in read_results(file).variants
    ]
    varying = [values for values in known if len(values) > 1 and np.ptp(values) > 0]
    residuals = np.concatenate([(v - v.mean()) / v.std(ddof=1) for v in varying])
    return residuals / residuals.std(), np.array([values.std(ddof=1) for values in varying])


@dataclass(frozen=True)
class Scenario:
    """How an ablation of m contrasts with one baseline turns out; each variant's true mean is 0."""

    label: str
    n: int
    spreads: Array  # of the baseline and the m others; their mean square is 1
    noise: Noise
    correlation: float = 0.0  # of two variants in a replicate
    survives: Callable[[tuple[int, ...]], Array] | None = None  # (ablations, n, 1 + m) of 0 and 1
    survival: Array | float = 1.0  # its mean, by variant

    @property
    def equal(self) -> bool:
        """Whether all variants spread equally."""
        return bool(np.ptp(self.spreads) == 0)

    @property
    def contrasts(self) -> Array:
        """(m, 1 + m): each variant minus the first."""
        m = len(self.spreads) - 1
        return np.hstack([-np.ones((m, 1)), np.eye(m)])

    def ablations(self, count: int) -> Array:
        """(count, n, 1 + m): own noise, what a replicate does to all, and divergence to 0."""
        shape = (count, self.n, len(self.spreads))
        own = self.noise(shape) * self.spreads
        shared = self.noise((count, self.n, 1))
        values = np.sqrt(1 - self.correlation) * own + np.sqrt(self.correlation) * shared
        if self.survives is None:
            return values
        return (SUCCESS + values) * self.survives(shape) - SUCCESS * self.survival


def scenarios(
    noises: Mapping[str, Noise], spreads: Array, correlations: Sequence[float]
) -> Iterator[Scenario]:
    """All designs: equal spreads, and as unequal as the published ones."""
    designs = itertools.product(noises, ("equal", "unequal"), REPLICATES, CONTRASTS, correlations)
    for name, kind, n, m, correlation in designs:
        of_variants = np.ones(m + 1) if kind == "equal" else quantiles(spreads, m + 1)
        label = f"{name}, {kind}, n {n}, m {m}, ICC {correlation:g}"
        yield Scenario(label, n, of_variants, noises[name], correlation)


def quantiles(spreads: Array, variants: int) -> Array:
    """From the least to the largest, the baseline's the median; their mean square is 1."""
    chosen = np.quantile(spreads, np.linspace(0, 1, variants))
    chosen = np.roll(chosen, -(variants // 2))
    return np.asarray(chosen / np.sqrt((chosen**2).mean()))


def divergences(noise: Noise, generator: np.random.Generator) -> Iterator[Scenario]:
    """One variant, or the baseline, gives 0 with a probability."""
    designs = itertools.product((0.1, 0.2), (1, 0), REPLICATES, CONTRASTS)
    for probability, which, n, m in designs:
        survival = np.where(np.arange(m + 1) == which, 1 - probability, 1.0)
        who = "one variant" if which else "the baseline"

        def survives(shape: tuple[int, ...], survival: Array = survival) -> Array:
            return np.asarray(generator.random(shape) < survival, dtype=np.float64)

        label = f"{who} with probability {probability:g}, n {n}, m {m}"
        yield Scenario(label, n, np.ones(m + 1), noise, survives=survives, survival=survival)


def any_error(tests: Tests) -> Flags:
    """Any p < 0.05 where no variant differs: 1 minus the simultaneous coverage."""
    return np.any(tests.two_sided() < LEVEL, axis=1)


def all_covered(tests: Tests) -> Flags:
    """All intervals hold their truths, here 0: exactly where it is not rejected."""
    return np.all(tests.two_sided() >= LEVEL, axis=1)


def edge_error(tests: Tests) -> Flags:
    """Any contrast is called equal where all lie at one end of the margin, far from the other."""
    return np.any(tests.one_sided(tests.estimate) < LEVEL, axis=1)


def finds(size: float) -> Measure:
    """The first contrast's p < 0.05, were its variant better by `size`."""

    def measure(tests: Tests) -> Flags:
        return tests.two_sided(size * _first(tests))[:, 0] < LEVEL

    return measure


def equal_within(margin: float) -> Measure:
    """The first contrast is called equal, as it is."""

    def measure(tests: Tests) -> Flags:
        distance = np.where(_first(tests), margin - np.abs(tests.estimate), -np.inf)
        return tests.one_sided(distance)[:, 0] < LEVEL

    return measure


def _first(tests: Tests) -> Array:
    """(contrasts,): 1 at the first, whose answer alone is asked for: the others take time."""
    return np.eye(1, tests.estimate.shape[1])[0]


def rows(
    chosen: Iterable[Scenario],
    draws: int,
    measures: Sequence[Measure],
    methods: Mapping[str, Method] = METHODS,
) -> Rows:
    """How often each measure holds, by method; the measures of a cell stand side by side."""
    for scenario in chosen:
        counts = {name: np.zeros(len(measures)) for name in methods}
        for start in range(0, draws, CHUNK):
            data = scenario.ablations(min(CHUNK, draws - start))
            for name, method in methods.items():
                tests = method(data, scenario.contrasts)
                counts[name] += [measure(tests).sum() for measure in measures]
        yield (
            scenario.label,
            {name: shares(count / draws) for name, count in counts.items()},
        )


def shares(values: Iterable[float]) -> str:
    """.051 / .330"""
    return " / ".join(f"{value:.3f}".removeprefix("0") for value in values)


def paired_alone(spreads: Array, draws: int, seed: int) -> Rows:
    """Error, coverage and equivalence of the default, which is quick, to a third digit."""
    measures = {
        "familywise error": any_error,
        "simultaneous coverage": all_covered,
        "equivalence, at the margin's edge": edge_error,
    }
    normal = {"normal": np.random.default_rng((seed, 1)).standard_normal}
    for scenario in scenarios(normal, spreads, CORRELATIONS):
        ((label, cells),) = rows([scenario], draws, [*measures.values()], {"paired t": paired})
        yield label, dict(zip(measures, cells["paired t"].split(" / "), strict=True))


def looks(noise: Noise, draws: int) -> Rows:
    """More replicates after each look, until something is significant; and the last look alone."""
    for numbers, m in itertools.product(LOOKS, (1, *CONTRASTS)):
        scenario = Scenario("", numbers[-1], np.ones(m + 1), noise)
        data = scenario.ablations(draws)
        errors = [any_error(paired(data[:, :n], scenario.contrasts)) for n in numbers]
        label = f"looks at {', '.join(map(str, numbers))}; m {m}"
        yield (
            label,
            {
                "any look": shares([np.any(errors, axis=0).mean()]),
                "the last alone": shares([errors[-1].mean()]),
            },
        )


if __name__ == "__main__":
    sys.exit(main())
