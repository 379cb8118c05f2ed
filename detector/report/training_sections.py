"""Sections on training: the metric over time, and which anchors gave the loss and the gradient."""

from __future__ import annotations

from collections.abc import Mapping

from detector.report import result_plots
from detector.report.blocks import PageSection, Picture, missing
from detector.report.folder import AblationFolder
from detector.report.seed_means import points, share_curves, validation_curve
from detector.report.style import LineStyle, area_legend

GROUP_NAMES = {
    "positives": "positives",
    "hard_negatives": "hard negatives (some score above 0.5)",
    "easy_negatives": "easy negatives",
}


def metric_section(ablation: AblationFolder, styles: Mapping[str, LineStyle]) -> PageSection:
    """The metric at each validation."""
    key, title, metric = "time", "Over training time", ablation.metric
    curves = {
        v.name: curve
        for v in ablation.variants
        if (curve := validation_curve(v.finished, metric)).x
    }
    if not curves:
        return PageSection(key, title, [missing("Curves", "No metrics.jsonl holds a validation.")])
    failed = [points(run, f"validation/{metric}") for run in ablation.runs if run.value is None]
    failed = [series for series in failed if series]
    picture = Picture(
        title=f"{metric} over epochs",
        svg=result_plots.metric_plot(curves, failed, styles, metric),
        caption="Line: mean over seeds. Band: lowest to highest seed."
        + (" Grey dotted line with a cross at its end: a failed run." if failed else ""),
        caveat="Only the last validation is compared: to choose each run's best one would be to "
        "choose by the reported metric.",
        legend=tuple(styles[name].legend(name) for name in curves),
    )
    return PageSection(key, title, [picture])


def share_section(ablation: AblationFolder) -> PageSection:
    """Shares of loss and gradient by group of anchors."""
    key, title = "origins", "Where loss and gradient come from"
    loss, gradient = (
        {v.name: share_curves(v.finished, quantity) for v in ablation.variants}
        for quantity in ("loss", "gradient")
    )
    if not any(loss.values()) and not any(gradient.values()):
        why = "No run logged them; train.diagnose_every switches them on."
        return PageSection(key, title, [missing("Shares", why)])
    picture = Picture(
        title="Shares of the classification loss and of its gradient at the logits",
        svg=result_plots.share_plot(loss, gradient),
        caption="Height of a colour: the share of those anchors, mean over seeds.",
        caveat="Shares say nothing of size, which shrinks during training. Gradients are summed "
        "as absolute values, so those that cancel in the weights count in full.",
        legend=tuple(
            area_legend(GROUP_NAMES[group], color)
            for group, color in result_plots.GROUP_COLORS.items()
        ),
    )
    return PageSection(key, title, [picture])
