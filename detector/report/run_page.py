"""RUN/report.html: what one run learned from, how well it detects, and where it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detector.config import Config
from detector.engine.run import CONFIG, ENVIRONMENT
from detector.files import read_object, write_text
from detector.lab.records import read_records
from detector.report.page import HERE, rendered
from detector.report.run_evaluation import (
    ClassFigures,
    RunEvaluation,
    best_score,
    class_figures,
    confusion,
    score_curve,
)
from detector.report.run_images import drawn_images
from detector.settings.figures import figure_of

if TYPE_CHECKING:
    from detector.report.style import Drawing

Records = Sequence[Mapping[str, Any]]
MOST_CONFUSIONS = 10  # that are told in words
LARGEST_MATRIX = 15  # classes; of more, those that are confused most are shown


def failure_of(run: Path) -> dict[str, Any] | None:
    """What a run that diverged says of it; None for any other."""
    report = run / "failure" / "report.json"
    return read_object(report, "step", "readings") if report.exists() else None


def write_run_page(run: Path, config: Config, evaluation: RunEvaluation | None) -> Path:
    """Write RUN/report.html anew, and return its path.

    config: that of the run. evaluation: None for a run that diverged before its first checkpoint;
    the page says so. InputError for a broken file of the run, and for an image that is gone.
    """
    records = read_records(run / "metrics.jsonl")
    classes = [] if evaluation is None else class_figures(evaluation)
    environment = run / ENVIRONMENT
    text = rendered(
        HERE / "run.html.j2",
        title=run.resolve().name,
        config=config,
        config_text=(run / CONFIG).read_text(encoding="utf-8"),
        last={key: value for record in records for key, value in record.items()},
        seconds=training_seconds(records, config.train.batch_size),
        environment=read_object(environment) if environment.exists() else {},
        failure=failure_of(run),
        stale=evaluation is not None and evaluation.older_than(run / "checkpoints" / "best.pt"),
        judged=evaluation and _judged(evaluation, config, classes),
        figures=draw_figures(records, evaluation, panel_classes(classes)),
    )
    path = run / "report.html"
    write_text(path, text)
    return path


def training_seconds(records: Records, batch_size: int) -> float | None:
    """How long the steps took, without validation; None where no record says."""
    before, total = 0, 0.0
    for record in records:
        if record.get("images_per_second"):
            total += (record["step"] - before) * batch_size / record["images_per_second"]
            before = record["step"]
    return total or None


@dataclass(frozen=True, eq=False)
class Confusions:
    """The matrix of the page, and the most frequent confusions in words."""

    names: list[str]  # of the C classes that are shown
    counts: NDArray[np.int64]  # (C + 1, C + 1) as of `run_evaluation.confusion`
    shares: NDArray[np.float64]  # (C + 1, C + 1) of all boxes of that class
    frequent: list[str]
    classes: int  # K


def confusions(names: Sequence[str], matrix: NDArray[np.int64]) -> Confusions:
    """Of all classes, or of those that are confused most; others then count in no cell.

    names: K. matrix: (K + 1, K + 1), as of `run_evaluation.confusion`.
    """
    between = matrix[:-1, :-1] * ~np.eye(len(names), dtype=np.bool_)
    involved = between.sum(0) + between.sum(1)
    shown = np.arange(len(names))
    if len(names) > LARGEST_MATRIX:
        present = np.flatnonzero((matrix.sum(0) + matrix.sum(1))[:-1])
        shown = np.sort(present[np.argsort(-involved[present], kind="stable")[:LARGEST_MATRIX]])
    kept = np.append(shown, len(names))
    shares = matrix / np.maximum(1, matrix.sum(1, keepdims=True))
    order = np.argsort(-between, axis=None, kind="stable")[:MOST_CONFUSIONS]
    pairs = [divmod(int(at), len(names)) for at in order]
    frequent = [
        f"{names[i]} taken for {names[j]}: {between[i, j]} of {matrix[i].sum()}"
        for i, j in pairs
        if between[i, j]
    ]
    return Confusions(
        [names[k] for k in shown.tolist()], matrix[np.ix_(kept, kept)], shares[np.ix_(kept, kept)],
        frequent, len(names),
    )  # fmt: skip


def _judged(
    evaluation: RunEvaluation, config: Config, classes: Sequence[ClassFigures]
) -> dict[str, Any]:
    """What the template shows of an evaluation."""
    score, curve = best_score(evaluation.matches), score_curve(evaluation.matches)
    own = {figure_of(name) for name in config.evaluation.metrics}
    return {
        "result": evaluation.result,
        "metrics": evaluation.metrics,
        "own": {k: v for k, v in evaluation.metrics.items() if k.partition("/")[0] in own},
        "score": score,
        "f1": None if curve.best is None else curve.f1[curve.best],
        "classes": classes,
        "errors": evaluation.errors,
        "confusions": confusions(evaluation.names, confusion(evaluation, score)),
        "images": drawn_images(evaluation, score),
    }


def draw_figures(
    records: Records, evaluation: RunEvaluation | None, shown: Sequence[int]
) -> dict[str, Drawing | None]:
    """By name the addresses of each figure; None where there is nothing to draw.

    shown: indices of the classes that have a panel of their own.
    """
    # matplotlib takes half a second to import, which those who only train need not wait for
    from matplotlib import rc_context

    from detector.report import run_plots, style

    with rc_context(style.STYLE):
        figures = {
            "origins": run_plots.origin_plot(records),
            "losses": run_plots.loss_plot(records),
            "progress": run_plots.progress_plot(records),
        }
        if evaluation is not None:
            figures |= {
                "precision": run_plots.precision_plot(evaluation),
                "class_precision": run_plots.class_precision_plot(evaluation.result, shown),
                "class_f1": run_plots.class_f1_plot(evaluation, shown),
                "errors": run_plots.error_plot(evaluation.errors),
            }
        return {name: style.drawing(f) if f else None for name, f in figures.items()}


def panel_classes(classes: Sequence[ClassFigures], most: int = 10) -> list[int]:
    """Of several classes with boxes the indices of those with the lowest AP, at most so many."""
    known = [k for k, of_class in enumerate(classes) if of_class.ap is not None]
    lowest = sorted(known, key=lambda k: classes[k].ap or 0.0)[:most]
    return sorted(lowest) if len(known) > 1 else []
