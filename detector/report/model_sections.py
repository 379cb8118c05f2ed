"""Sections on the trained models, from their diagnostics; all means are over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from detector.evaluation.calibration import SLOPES
from detector.report import model_plots
from detector.report.blocks import Block, Cell, PageSection, Picture, Table, missing
from detector.report.diagnostics import ERRORS, OWN, SCALINGS
from detector.report.folder import AblationFolder, ReportedVariant
from detector.report.model_plots import ANCHOR_KINDS, SCALING_STYLES, Xy
from detector.report.numbers import NONE, decimal, interval, number_cell, percent
from detector.report.seed_means import (
    class_means,
    cumulative_loss,
    error_gains,
    hardest,
    mean_calibration,
    mean_chance_d_ece,
    mean_histogram,
    pooled_bins,
    temperature_range,
)
from detector.report.style import LineStyle, area_legend

WHY = (
    "No finished run has it in diagnosis/last/diagnostics.json: it was not diagnosed, or there was "
    "nothing to measure, such as detections above the score threshold."
)
SCALING_NAMES = {
    "before": "as they are",
    "temperature": "temperature scaling",
    "platt": "Platt scaling",
}


def _diagnosed(ablation: AblationFolder) -> list[ReportedVariant]:
    """The variants with at least one diagnosed run."""
    return [variant for variant in ablation.variants if variant.diagnosed]


def loss_section(ablation: AblationFolder, styles: Mapping[str, LineStyle]) -> PageSection:
    """Figure 4 of the focal loss paper, for each variant and for each gamma."""
    blocks = [_own_losses(ablation, styles), _other_gammas(ablation), _hardest(ablation)]
    return PageSection("distribution", "Which anchors carry the loss", blocks)


def _curves(variant: ReportedVariant, loss: str) -> dict[str, Xy | None]:
    return {kind: cumulative_loss(variant.diagnosed, loss, kind) for kind in ANCHOR_KINDS}


def _own_losses(ablation: AblationFolder, styles: Mapping[str, LineStyle]) -> Block:
    curves = {v.name: _curves(v, OWN) for v in _diagnosed(ablation)}
    curves = {name: c for name, c in curves.items() if any(xy is not None for xy in c.values())}
    if not curves:
        return missing("Cumulative losses", WHY)
    without = [name for name, kinds in curves.items() if kinds["background"] is None]
    return Picture(
        title="Cumulative loss over anchors, each variant under its own loss",
        svg=model_plots.cumulative_loss_plot(curves, styles, "cumulative loss by variant"),
        caption="Anchors are ordered from the easiest to the hardest; a curve that stays low and "
        "rises at the right end leaves nearly all the loss to a few hard anchors.",
        caveat="Each curve is divided by its own total, so it says how loss is spread and not how "
        "much there is; all anchors count, also those that a sampler leaves out; mean over seeds."
        + (f" {', '.join(without)}: background has no loss." if without else ""),
        legend=tuple(styles[name].legend(name) for name in curves),
    )


def _other_losses(variant: ReportedVariant) -> list[str]:
    """The losses besides its own that were measured on a variant's models, gamma rising."""
    losses = {loss for d in variant.diagnosed for loss in d.loss_distribution if loss != OWN}
    return sorted(losses, key=lambda loss: float(loss.partition("=")[2] or 0))


def _other_gammas(ablation: AblationFolder) -> Block:
    baseline = ablation.baseline_variant
    curves = {loss: _curves(baseline, loss) for loss in _other_losses(baseline)}
    if not any(xy is not None for kinds in curves.values() for xy in kinds.values()):
        return missing(f"Cumulative losses under other gammas on {baseline.name}", WHY)
    styles = model_plots.loss_styles(list(curves))
    return Picture(
        title=f"The same models of {baseline.name} under other gammas (Figure 4 of the focal loss "
        "paper)",
        svg=model_plots.cumulative_loss_plot(curves, styles, "cumulative loss by gamma"),
        caption="One set of trained models, its loss counted with each gamma: a larger gamma takes "
        "loss from the easy anchors.",
        caveat="The models were trained with the baseline's loss alone; the curves do not say what "
        "training with another gamma would give.",
        legend=tuple(styles[loss].legend(loss) for loss in curves),
    )


def _hardest(ablation: AblationFolder) -> Block:
    baseline = ablation.baseline_variant
    losses = [(v.name, v, OWN) for v in _diagnosed(ablation)]
    losses += [(f"{baseline.name}, {loss}", baseline, loss) for loss in _other_losses(baseline)]
    shares = {
        name: {kind: hardest(variant.diagnosed, loss, kind) for kind in ANCHOR_KINDS}
        for name, variant, loss in losses
    }
    parts = sorted({part for kinds in shares.values() for own in kinds.values() for part in own})
    if not parts:
        return missing("The hardest anchors", WHY)
    columns = [(kind, part) for kind in ANCHOR_KINDS for part in parts]
    return Table(
        title="Share of the loss that the hardest anchors carry",
        head=("variant, loss", *(f"{kind}: hardest {100 * part:g} %" for kind, part in columns)),
        rows=tuple(
            (Cell(name), *(number_cell(percent(own[kind].get(part))) for kind, part in columns))
            for name, own in shares.items()
        ),
        caveat=f"Means over seeds; a row without a gamma is the variant's own loss. {NONE}: these "
        "anchors have no loss.",
    )


def calibration_section(ablation: AblationFolder) -> PageSection:
    """Reliability diagrams and D-ECE."""
    blocks = [_reliability(_diagnosed(ablation)), _d_ece(_diagnosed(ablation))]
    return PageSection("calibration", "What the scores mean", blocks)


def _reliability(variants: Sequence[ReportedVariant]) -> Block:
    bins = {v.name: {s: pooled_bins(v.diagnosed, s) for s in SCALINGS} for v in variants}
    bins = {name: scalings for name, scalings in bins.items() if scalings["before"]}
    if not bins:
        return missing("Reliability diagrams", WHY)
    return Picture(
        title="Reliability of detections at IoU 0.5",
        svg=model_plots.reliability_plot(bins),
        caption="On the diagonal a score of 0.7 is right seven times in ten; below it the model is "
        "overconfident. A second detection of one box counts as wrong.",
        caveat="The detections of all seeds are pooled. Scaling was fitted on one half of the "
        "images and is shown on the other. Bins of fewer than ten detections are left out; grey "
        "bars count the detections, on a logarithmic scale.",
        legend=tuple(SCALING_STYLES[s].legend(SCALING_NAMES[s]) for s in SCALINGS),
    )


def _d_ece(variants: Sequence[ReportedVariant]) -> Block:
    rows = []
    for variant in variants:
        diagnosed = variant.diagnosed
        detections = mean_calibration(diagnosed, "before", "detections")
        if detections is None:
            continue
        d_ece = [mean_calibration(diagnosed, scaling, "d_ece") for scaling in SCALINGS]
        platt = [mean_calibration(diagnosed, "platt", key) for key in ("slope", "intercept")]
        rows.append(
            (
                Cell(variant.name),
                *(number_cell(decimal(v)) for v in (*d_ece, mean_chance_d_ece(diagnosed))),
                number_cell(interval(temperature_range(diagnosed))),
                *(number_cell(decimal(v)) for v in platt),
                number_cell(f"{detections:.0f}"),
            )
        )
    if not rows:
        return missing("D-ECE", WHY)
    return Table(
        title="Detection expected calibration error (D-ECE) before and after scaling",
        head=("variant", *(f"D-ECE {SCALING_NAMES[s]}" for s in SCALINGS), "D-ECE by chance",
              "temperature, lowest to highest", "Platt slope", "Platt intercept", "detections"),
        rows=tuple(rows),
        caveat="Means over seeds; in a pooled diagram their errors can cancel. By chance: what so "
        "many detections with these scores would have if the scores were true. Detections below "
        "the score threshold do not count. A model whose detections are nearly all wrong can be "
        "calibrated perfectly and be of no use. Temperatures are sought from "
        f"{SLOPES[0]:g} to {SLOPES[1]:g}: at an end no temperature fits, since scaling cannot "
        "shift scores (Platt's intercept does), or since all detections are right, or all wrong.",
    )  # fmt: skip


def error_section(ablation: AblationFolder, styles: Mapping[str, LineStyle]) -> PageSection:
    """AP50 lost to each kind of error."""
    key, title, variants = "errors", "What goes wrong", _diagnosed(ablation)
    gains = {e: {v.name: error_gains(v.diagnosed, e) for v in variants} for e in ERRORS}
    if not any(of_variant for by_variant in gains.values() for of_variant in by_variant.values()):
        return PageSection(key, title, [missing("Error split", WHY)])
    picture = Picture(
        title="AP50 that each kind of error costs",
        svg=model_plots.error_plot(gains, styles),
        caption="Bar: how much AP50 would rise if that kind of error alone were corrected, mean "
        "over seeds. Dots: seeds.",
        caveat="The parts do not add up to what is missing to 1, since one correction uncovers "
        "other errors; a model that detects next to nothing has nothing to lose to background.",
    )
    means = {v.name: [_mean(gains[e][v.name]) for e in ERRORS] for v in variants}
    table = Table(
        title="AP50 lost to each kind of error, mean over seeds",
        head=("variant", *ERRORS),
        rows=tuple((Cell(name), *map(number_cell, cells)) for name, cells in means.items()),
    )
    return PageSection(key, title, [picture, table])


def _mean(values: Sequence[float]) -> str:
    return decimal(float(np.mean(values)) if values else None)


def score_section(ablation: AblationFolder) -> PageSection:
    """Histograms of the scores of anchors."""
    key, title = "scores", "Scores of anchors"
    histograms = {v.name: h for v in _diagnosed(ablation) if (h := mean_histogram(v.diagnosed))}
    if not histograms:
        return PageSection(key, title, [missing("Score histograms", WHY)])
    picture = Picture(
        title="Score of the true class of foreground anchors, highest score of background anchors",
        svg=model_plots.histogram_plot(histograms),
        caption="Where the colours lie apart, a score separates objects from background; blue on "
        "the left is missed, orange on the right is a false positive.",
        caveat="Counts are on a logarithmic axis, and means over seeds.",
        legend=tuple(area_legend(kind, color) for kind, color in model_plots.KIND_COLORS.items()),
    )
    return PageSection(key, title, [picture])


def class_section(ablation: AblationFolder, styles: Mapping[str, LineStyle]) -> PageSection:
    """AP of each class against its number of training boxes."""
    key, title = "classes", "Classes"
    by_variant = {
        v.name: means for v in _diagnosed(ablation) if (means := class_means(v.diagnosed))
    }
    if not by_variant:
        return PageSection(key, title, [missing("AP by class", WHY)])
    picture = Picture(
        title="AP of each class over its number of training boxes",
        svg=model_plots.class_plot(by_variant, styles),
        caption="A mark is a class, mean over seeds; a line that rises to the right says that rare "
        "classes are learned worse.",
        caveat="Classes differ in more than their number, such as size and likeness; compare "
        "variants at one number of boxes. Between numbers nearly equal a slope says nothing.",
        legend=tuple(styles[name].legend(name) for name in by_variant),
    )
    boxes = {c.name: c.training_boxes for means in by_variant.values() for c in means}
    ap = {name: {c.name: c.AP for c in means} for name, means in by_variant.items()}
    table = Table(
        title="AP by class, the rarest first, mean over seeds",
        head=("class", "training boxes", *by_variant),
        rows=tuple(
            (
                Cell(name),
                number_cell(NONE if count is None else f"{count}"),
                *(number_cell(decimal(ap[variant].get(name))) for variant in by_variant),
            )
            for name, count in sorted(boxes.items(), key=lambda item: (item[1] or 0, item[0]))
        ),
    )
    return PageSection(key, title, [picture, table])
