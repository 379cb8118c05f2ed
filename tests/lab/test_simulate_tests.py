"""The tests that were compared: each against scipy or a printed table, and the first is ours."""

import contrast_methods as methods
import numpy as np
import pytest
import simulate_tests as tool
from scipy import stats

from detector.lab.contrasts import compare_contrasts, difference

FROM_BASELINE = np.array([[-1.0, 1, 0], [-1, 0, 1]])


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    """Two ablations of 5 replicates and 3 variants that spread unequally."""
    return np.random.default_rng(0).normal(0, [1, 2, 0.5], (2, 5, 3)) + [0, 3, 0.8]


def test_the_first_is_what_an_ablation_does(data: np.ndarray) -> None:
    found = methods.paired(data, FROM_BASELINE)
    for ablation, p, p_equal in zip(
        data, found.two_sided(), found.one_sided(4 - np.abs(found.estimate)), strict=True
    ):
        outcomes = {f"v{i}": dict(enumerate(row)) for i, row in enumerate(ablation.T.tolist())}
        declared = [difference("v1", "v0"), difference("v2", "v0")]
        ours = compare_contrasts(outcomes, declared, worst=None, margin=4)
        assert [one.test.p for one in ours if one.test] == pytest.approx(p.tolist())
        equal = [one.equivalence.p for one in ours if one.equivalence]
        assert equal == pytest.approx(p_equal.tolist())


def test_welch_is_scipys(data: np.ndarray) -> None:
    expected = stats.ttest_ind(data[0, :, 1], data[0, :, 0], equal_var=False)
    for method in (methods.welch, methods.welch_max):
        alone = method(data, FROM_BASELINE[:1])
        assert alone.degrees[0, 0] == pytest.approx(expected.df)
        assert alone.estimate[0, 0] / alone.error[0, 0] == pytest.approx(expected.statistic)
        if expected.pvalue < 0.05:
            assert alone.two_sided()[0, 0] == pytest.approx(expected.pvalue, rel=0.15)


def test_dunnett_is_scipys(data: np.ndarray) -> None:
    """Where p < 0.05; above, max-t only says that it is not below."""
    ours = methods.dunnett(data, FROM_BASELINE).two_sided()
    for ablation, p in zip(data, ours, strict=True):
        control, *others = ablation.T
        expected = stats.dunnett(*others, control=control, rng=np.random.default_rng(0)).pvalue
        assert (p < 0.05).tolist() == (expected < 0.05).tolist()
        assert p[p < 0.05] == pytest.approx(expected[p < 0.05], rel=0.5)


def test_dunnetts_table() -> None:
    """Dunnett 1964: 3 treatments, 12 degrees of freedom, two-sided 5 %: |t| = 2.68."""
    contrasts = np.hstack([-np.ones((3, 1)), np.eye(3)])
    loadings = contrasts[None] / np.sqrt(2)
    t = np.array([[2.68, 0.0, 0.0]])
    tests = methods.Joint(t, np.ones((1, 3)), np.full((1, 3), 12.0), loadings)
    assert tests.two_sided()[0, 0] == pytest.approx(0.05, abs=0.001)


def test_max_t_of_one_contrast_is_students(data: np.ndarray) -> None:
    t = np.array([[3.5]])
    alone = methods.Joint(t, np.ones((1, 1)), np.array([[4.0]]), np.ones((1, 1, 1)))
    assert alone.two_sided() == pytest.approx(2 * stats.t.sf(3.5, 4), rel=0.02)
    assert alone.one_sided(t) == pytest.approx(stats.t.sf(3.5, 4), rel=0.02)


def test_equal_variances_are_pooled_and_unequal_ones_left() -> None:
    """limma: where they spread less than chance, all are the common one; far more, their own."""
    pooled, degrees = methods.moderate(np.array([[1.0, 1.0, 1.0]]), 4.0)
    assert np.ptp(pooled) == pytest.approx(0) and degrees[0, 0] > 1000
    wild = np.array([[1e-6, 1.0, 1e6]])
    left, degrees = methods.moderate(wild, 4.0)
    assert left == pytest.approx(wild, rel=0.5) and degrees[0, 0] < 0.5


def test_spreads_are_the_published_ones() -> None:
    residuals, spreads = tool.published(tool.PUBLISHED)
    assert len(residuals) >= 2 * len(spreads) and residuals.std() == pytest.approx(1)
    chosen = tool.quantiles(np.array([1.0, 2, 3, 4, 5]), 5)
    assert (chosen / chosen.min()).tolist() == pytest.approx([3, 4, 5, 1, 2])


def test_a_diverged_run_is_0_and_the_truth_its_mean() -> None:
    generator = np.random.default_rng(0)
    scenario = next(tool.divergences(generator.standard_normal, generator))
    values = scenario.ablations(4000)[:, :, 1]
    assert values.mean() == pytest.approx(0, abs=0.3)
    assert np.mean(values < -20) == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_error_coverage_and_equivalence_of_what_is_ours(correlation: float) -> None:
    """4 contrasts, 5 replicates, unequal spreads, 4,000 ablations: any error in about 5 %.

    Uncorrected it would be in 14 %; by Welch's test, blind to the replicate, 0.5 % of the second.
    """
    noise = np.random.default_rng(5).standard_normal
    spreads = np.array([1.0, 0.5, 1.8, 1.0, 0.1])
    scenario = tool.Scenario("", 5, spreads, noise, correlation)
    tests = methods.paired(scenario.ablations(4000), scenario.contrasts)
    assert 0.038 <= tool.any_error(tests).mean() <= 0.06
    assert 0.94 <= tool.all_covered(tests).mean() <= 0.962
    assert 0.035 <= tool.edge_error(tests).mean() <= 0.055


def test_the_tables(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """One design of each: max-t by three replicates' own correlations errs far too often."""
    for name, value in (("REPLICATES", (3,)), ("CONTRASTS", (4,)), ("CORRELATIONS", (0.6,))):
        monkeypatch.setattr(tool, name, value)
    monkeypatch.setattr("sys.argv", ["simulate_tests.py", "--draws", "400"])
    assert tool.main() == 0
    said = capsys.readouterr().out
    assert said.count("\n### ") == 8
    row = next(line for line in said.splitlines() if line.startswith("| normal, equal, n 3"))
    paired, joint, _, welch, *_ = (float(cell) for cell in row.strip("| ").split(" | ")[1:])
    assert 0.02 < paired < 0.08 and joint > 0.08 and welch < 0.04
