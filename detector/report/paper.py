"""What a paper takes from an ablation: FOLDER/paper/ with tables, figures and its methods."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.files import make_directory, whole_file, write_text
from detector.lab.contrasts import Comparison
from detector.lab.results import Results, VariantResult
from detector.lab.statistics import complete_mean
from detector.report.folder import AblationFolder
from detector.report.methods import methods
from detector.report.numbers import NONE, decimal, interval, probability

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPECIAL = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": "$<$", ">": "$>$", "|": "$|$", "±": r"$\pm$",
}  # fmt: skip
TEX_HEAD = (  # two kinds of interval, which a caption must tell apart
    r"\usepackage{booktabs}",
    "intervals of variants hold one by one, those of contrasts all together; p is corrected",
)
DATE = {"svg": "Date", "pdf": "CreationDate"}  # left out, so that equal figures are equal files


def write_paper(ablation: AblationFolder) -> Path:
    """Write paper/ into the folder of an ablation, and return its path.

    table.csv has all figures in full; table.tex those of a paper, for booktabs; forest and curves
    are SVG and PDF, without those for which no run has anything; methods.md is a paragraph to edit.
    """
    # matplotlib takes half a second to import, which those who only train need not wait for
    from matplotlib import rc_context

    from detector.report import result_plots, style

    paper = ablation.path / "paper"
    make_directory(paper)
    write_text(paper / "table.csv", csv_table(ablation))
    write_text(paper / "table.tex", tex_table(ablation))
    write_text(paper / "methods.md", methods(ablation))
    styles = style.line_styles([v.name for v in ablation.variants], ablation.baseline)
    # letters as paths, and as a font that editors take: they look the same on every machine
    with rc_context(style.STYLE | {"svg.fonttype": "path", "pdf.fonttype": 42}):
        _save(result_plots.forest_plot(ablation, styles), paper / "forest")
        _save(result_plots.metric_plot(ablation, styles), paper / "curves")
    return paper


def _save(figure: Figure | None, path: Path) -> None:
    if figure is None:
        return
    for kind, date in DATE.items():
        with whole_file(path.with_suffix(f".{kind}")) as draft:
            figure.savefig(draft, format=kind, metadata={date: None})


def csv_table(results: Results) -> str:
    """A row for each variant and each contrast, in full digits; empty where there is no value."""
    rows = [_variant(v) for v in results.variants] + [_contrast(c) for c in results.comparisons]
    head = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, head, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _variant(variant: VariantResult) -> dict[str, Any]:
    low, high = variant.interval or (None, None)
    row = {
        "kind": "variant",
        "name": variant.name,
        "n": variant.n,
        "mean": variant.mean,
        "low": low,
        "high": high,
        "standard_deviation": variant.standard_deviation,
        "runs": variant.success.runs,
        "succeeded": variant.success.succeeded,
        "mean_of_succeeded": variant.success.mean,
    }
    figures = {
        f"{figure}, seed {seed}": value
        for figure, by_seed in variant.figures.items()
        for seed, value in by_seed.items()
    }
    return row | {f"seed {seed}": value for seed, value in variant.values.items()} | figures


def _contrast(comparison: Comparison) -> dict[str, Any]:
    test, equality = comparison.test, comparison.equivalence
    low, high = test.interval if test else (None, None)
    row = {
        "kind": "contrast",
        "name": comparison.contrast.name,
        "n": len(comparison.values),
        "mean": comparison.mean,
        "low": low,
        "high": high,
        "p": test.p_alone if test else None,
        "p_corrected": test.p if test else None,
        "p_equal": equality.p if equality else None,
        "verdict": comparison.verdict,
    }
    return row | {f"seed {seed}": value for seed, value in comparison.values.items()}


def tex_table(results: Results) -> str:
    """Two tabulars for booktabs: of the variants, and of the contrasts where there are some."""
    metric = escaped(results.metric)
    names = list(dict.fromkeys(name for v in results.variants for name in v.figures))
    success = ["succeeded"] if any(v.lost for v in results.variants) else []
    head = ["variant", metric, r"95\,\% interval", "$n$", *success, *map(escaped, names)]
    rows = [
        [escaped(v.name), _number(decimal(v.mean)), _number(interval(v.interval)), str(v.n)]
        + [f"{v.success.succeeded} of {v.success.runs}" for _ in success]
        + [_number(decimal(complete_mean(v.figures.get(name, {}).values()))) for name in names]
        for v in results.variants
    ]
    tables = [_tabular("l" + "r" * (len(head) - 1), head, rows)]
    if results.comparisons:
        head = ["contrast", metric, r"95\,\% interval", "$p$", "verdict"]
        tables.append(_tabular("lrrrl", head, [_tex_row(one) for one in results.comparisons]))
    return "".join(f"% {line}\n" for line in TEX_HEAD) + "\n\\bigskip\n\n".join(tables)


def _tex_row(comparison: Comparison) -> list[str]:
    test = comparison.test
    return [
        escaped(comparison.contrast.name).replace(" - ", " $-$ "),  # no name holds a space
        _number(decimal(comparison.mean, sign="+")),
        _number(interval(test.interval if test else None, sign="+")),
        _number(probability(test.p if test else None)),
        escaped(comparison.verdict),
    ]


def _tabular(columns: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"{' & '.join(cells)} \\\\" for cells in (head, *rows)]
    body = "\n".join([lines[0], r"\midrule", *lines[1:]])
    return f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"


def _number(text: str) -> str:
    """A number, or two with "to" between, in LaTeX's maths; "--" for what is missing."""
    if text in ("", NONE):
        return "--"
    return " to ".join(f"${end.replace('−', '-')}$" for end in text.split(" to "))


def escaped(text: str) -> str:
    """For LaTeX, to be read as it stands."""
    return "".join(SPECIAL.get(letter, letter) for letter in text)
