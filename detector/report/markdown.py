"""An ablation's results as Markdown tables, to paste."""

from __future__ import annotations

from collections.abc import Sequence

from detector.lab.contrasts import Comparison
from detector.lab.results import Results, VariantResult
from detector.report.measures import MEASURES, cell
from detector.report.numbers import decimal, interval, probability


def results_table(results: Results) -> str:
    """One table of the variants, and one of their contrasts where there are some."""
    metric, lost = results.metric, any(v.lost for v in results.variants)
    success = ["succeeded", f"{metric} of these"] if lost else []
    rows = [
        [*_variant(v, len(results.seeds)), *(_success(v) if lost else [])] for v in results.variants
    ]
    tables = [_table(["variant", metric, "95 % interval", *success], rows)]
    if results.comparisons:
        head = ["contrast", "estimate", "95 % interval", "p (corrected)", "verdict"]
        tables.append(_table(head, [_contrast(one) for one in results.comparisons]))
    return "\n\n".join(tables)


def measures_table(results: Results) -> str:
    """What AP alone does not show: the mean of each measure over the seeds, lowest to highest."""
    rows = []
    for variant in results.variants:
        of = variant.measures
        cells = [cell([of.get(name, {}).get(s) for s in variant.outcomes]) for name in MEASURES]
        rows.append([variant.name, *(f"{mean} ({ends})" if ends else mean for mean, ends in cells)])
    return _table(["variant", *MEASURES], rows)


def _variant(variant: VariantResult, seeds: int) -> list[str]:
    missing = f" ({variant.n} of {seeds} seeds)" if variant.n < seeds else ""
    return [variant.name + missing, decimal(variant.mean), interval(variant.interval)]


def _success(variant: VariantResult) -> list[str]:
    found = variant.success
    return [f"{found.succeeded} of {found.runs}", decimal(found.mean)]


def _contrast(comparison: Comparison) -> list[str]:
    test = comparison.test
    return [
        comparison.contrast.name,
        decimal(comparison.mean, sign="+"),
        interval(test.interval if test else None, sign="+"),
        probability(test.p if test else None),
        comparison.verdict,
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
