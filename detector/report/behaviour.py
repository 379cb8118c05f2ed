"""Sections on training: the metric over time, and who gave the loss and the gradient."""

from __future__ import annotations

from collections.abc import Mapping

from detector.report import pictures
from detector.report.blocks import Block, Picture, Section, missing
from detector.report.ink import Look, patch
from detector.report.means import points, share_curves, validation_curve
from detector.report.story import Story

GROUP_NAMES = {
    "positives": "positives",
    "hard_negatives": "hard negatives (some score above 0.5)",
    "easy_negatives": "easy negatives",
}


def over_time(story: Story, looks: Mapping[str, Look]) -> Section:
    """The metric at each validation."""
    return Section("time", "Over training time", [_curves(story, looks)])


def _curves(story: Story, looks: Mapping[str, Look]) -> Block:
    curves = {
        v.name: curve
        for v in story.variants
        if (curve := validation_curve(v.finished, story.metric)).x
    }
    if not curves:
        return missing("Curves", "No metrics.jsonl holds a validation.")
    failed = [points(run, f"validation/{story.metric}") for run in story.runs if run.value is None]
    return Picture(
        title=f"{story.metric} over epochs",
        svg=pictures.over_time(curves, [f for f in failed if f], looks, story.metric),
        read="A line is the mean over seeds, its band reaches from the lowest seed to the highest"
        + ("; a grey dotted line that ends in a cross is a failed run." if any(failed) else "."),
        care="A curve that is ahead early need not end ahead; only the last point is compared, "
        "since choosing each run's best one would choose by the figure that is reported.",
        legend=tuple(looks[name].mark(name) for name in curves),
    )


def origins(story: Story) -> Section:
    """Shares of loss and gradient."""
    return Section("origins", "Where loss and gradient come from", [_shares(story)])


def _shares(story: Story) -> Block:
    loss, gradient = (
        {v.name: share_curves(v.finished, quantity) for v in story.variants}
        for quantity in ("loss", "gradient")
    )
    if not any(loss.values()) and not any(gradient.values()):
        return missing("Shares", "No run logged them; train.diagnose_every switches them on.")
    return Picture(
        title="Shares of the classification loss and of its gradient at the logits",
        svg=pictures.shares(loss, gradient),
        read="At each epoch the height of a colour is the share that those anchors give, mean over "
        "seeds: a detector that mostly pushes easy background down is mostly grey.",
        care="Shares say nothing of size: the whole shrinks during training. Gradients are summed "
        "as absolute values, so pulls that cancel in the weights count in full.",
        legend=tuple(
            patch(GROUP_NAMES[group], color) for group, color in pictures.GROUP_COLORS.items()
        ),
    )
