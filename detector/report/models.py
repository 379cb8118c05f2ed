"""Sections on the trained models, from their diagnostics; all means are over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from detector.evaluation.calibration import SLOPES
from detector.report import model_pictures
from detector.report.blocks import Block, Cell, Picture, Section, Table, missing
from detector.report.diagnosis import ERRORS, OWN, STAGES
from detector.report.ink import Look, patch
from detector.report.means import (
    class_means,
    cumulative_loss,
    error_values,
    fitted,
    hardest,
    least_d_ece,
    mean_histogram,
    pooled_bins,
    temperatures,
)
from detector.report.model_pictures import SIDES, STAGE_LOOKS
from detector.report.story import Story, Variant
from detector.report.words import NONE, figure, interval, number, percent

WHY = (
    "No finished run has it in diagnosis/last/diagnostics.json: it was not diagnosed, or there was "
    "nothing to measure, such as detections above the score threshold."
)
STAGE_NAMES = {
    "before": "as they are",
    "temperature": "temperature scaling",
    "platt": "Platt scaling",
}


def diagnosed(story: Story) -> list[Variant]:
    """The variants with at least one diagnosed run."""
    return [variant for variant in story.variants if variant.diagnoses]


def loss_distribution(story: Story, looks: Mapping[str, Look]) -> Section:
    """Figure 4 of the focal loss paper, for each variant and for each gamma."""
    variants = diagnosed(story)
    blocks = [_own_losses(variants, looks), _other_gammas(story), _hardest(story, variants)]
    return Section("distribution", "Which anchors carry the loss", blocks)


def _own_losses(variants: Sequence[Variant], looks: Mapping[str, Look]) -> Block:
    curves = {
        v.name: {side: cumulative_loss(v.diagnoses, OWN, side) for side in SIDES} for v in variants
    }
    curves = {name: sides for name, sides in curves.items() if any(_present(sides))}
    if not curves:
        return missing("Cumulative losses", WHY)
    without = [name for name, sides in curves.items() if sides["background"] is None]
    return Picture(
        title="Cumulative loss over anchors, each variant under its own loss",
        svg=model_pictures.cumulative_losses(curves, looks, "cumulative loss by variant"),
        read="Anchors are ordered from the easiest to the hardest; a curve that stays low and "
        "rises at the right end leaves nearly all the loss to a few hard anchors.",
        care="Each curve is divided by its own total, so it says how loss is spread and not how "
        "much there is; all anchors count, also those that a sampler leaves out; mean over seeds."
        + (f" {', '.join(without)}: background has no loss." if without else ""),
        legend=tuple(looks[name].mark(name) for name in curves),
    )


def _present(sides: Mapping[str, object]) -> list[bool]:
    return [sides[side] is not None for side in SIDES]


def _terms(variant: Variant) -> list[str]:
    """The losses besides its own that were measured on a variant's models, gamma rising."""
    found = {term for d in variant.diagnoses for term in d.losses if term != OWN}
    return sorted(found, key=lambda term: float(term.partition("=")[2] or 0))


def _other_gammas(story: Story) -> Block:
    baseline = story.variant(story.baseline)
    curves = {
        term: {side: cumulative_loss(baseline.diagnoses, term, side) for side in SIDES}
        for term in _terms(baseline)
    }
    if not any(any(_present(sides)) for sides in curves.values()):
        return missing(f"Cumulative losses under other gammas on {story.baseline}", WHY)
    looks = model_pictures.term_looks(list(curves))
    return Picture(
        title=f"The same models of {story.baseline} under other gammas (Figure 4 of the focal "
        "loss paper)",
        svg=model_pictures.cumulative_losses(curves, looks, "cumulative loss by gamma"),
        read="One set of trained models, its loss counted with each gamma: a larger gamma takes "
        "loss from the easy anchors.",
        care="The models were trained with the baseline's loss alone; the curves do not say what "
        "training with another gamma would give.",
        legend=tuple(looks[term].mark(term) for term in curves),
    )


def _hardest(story: Story, variants: Sequence[Variant]) -> Block:
    entries = [(v.name, v, OWN) for v in variants]
    baseline = story.variant(story.baseline)
    entries += [(f"{story.baseline}, {term}", baseline, term) for term in _terms(baseline)]
    parts = sorted(
        {p for _, v, term in entries for s in SIDES for p in hardest(v.diagnoses, term, s)}
    )
    if not parts:
        return missing("The hardest anchors", WHY)
    head = [f"{side}: hardest {100 * part:g} %" for side in SIDES for part in parts]
    rows = []
    for name, variant, term in entries:
        found = [hardest(variant.diagnoses, term, side) for side in SIDES]
        cells = [number(percent(shares.get(part))) for shares in found for part in parts]
        rows.append((Cell(name), *cells))
    return Table(
        title="Share of the loss that the hardest anchors carry",
        head=("variant, loss", *head),
        rows=tuple(rows),
        care=f"Means over seeds; a row without a gamma is the variant's own loss. {NONE}: these "
        "anchors have no loss.",
    )


def calibration(story: Story) -> Section:
    """Reliability diagrams and D-ECE."""
    blocks = [_reliability(diagnosed(story)), _d_ece(diagnosed(story))]
    return Section("calibration", "What the scores mean", blocks)


def _reliability(variants: Sequence[Variant]) -> Block:
    bins = {v.name: {stage: pooled_bins(v.diagnoses, stage) for stage in STAGES} for v in variants}
    bins = {name: stages for name, stages in bins.items() if stages["before"]}
    if not bins:
        return missing("Reliability diagrams", WHY)
    return Picture(
        title="Reliability of detections at IoU 0.5",
        svg=model_pictures.reliability(bins),
        read="On the diagonal a score of 0.7 is right seven times in ten; below it the model is "
        "surer than it may be. A second detection of one box counts as wrong.",
        care="The detections of all seeds are pooled. Scaling was fitted on one half of the images "
        "and is shown on the other. Bins of fewer than ten "
        "detections are left out; grey bars count the detections, on a logarithmic scale.",
        legend=tuple(STAGE_LOOKS[stage].mark(STAGE_NAMES[stage]) for stage in STAGES),
    )


def _d_ece(variants: Sequence[Variant]) -> Block:
    rows = []
    for v in variants:
        if not any("before" in d.calibration for d in v.diagnoses):
            continue
        slope, intercept = (fitted(v.diagnoses, "platt", k) for k in ("slope", "intercept"))
        detections = fitted(v.diagnoses, "before", "detections")
        rows.append(
            (
                Cell(v.name),
                *(number(figure(fitted(v.diagnoses, stage, "d_ece"))) for stage in STAGES),
                number(figure(least_d_ece(v.diagnoses))),
                number(interval(temperatures(v.diagnoses)) or NONE),
                number(figure(slope)),
                number(figure(intercept)),
                number(NONE if detections is None else f"{detections:.0f}"),
            )
        )
    if not rows:
        return missing("D-ECE", WHY)
    return Table(
        title="Detection expected calibration error (D-ECE) before and after scaling",
        head=("variant", *(f"D-ECE {STAGE_NAMES[s]}" for s in STAGES), "D-ECE by chance",
              "temperature, lowest to highest", "Platt slope", "Platt intercept", "detections"),
        rows=tuple(rows),
        care="Means over seeds; in a pooled diagram their errors can cancel. By chance: what so "
        "many detections with these scores would have if the scores were true. Detections below "
        "the score threshold do not count. A model whose detections are nearly all wrong can be "
        "calibrated perfectly and be of no use. Temperatures are sought from "
        f"{SLOPES[0]:g} to {SLOPES[1]:g}: at an end no temperature fits, since scaling cannot "
        "shift scores (Platt's intercept does), or since all detections are right, or all wrong.",
    )  # fmt: skip


def errors(story: Story, looks: Mapping[str, Look]) -> Section:
    """AP50 lost to each kind of error."""
    variants = diagnosed(story)
    values = {
        error: {v.name: error_values(v.diagnoses, error) for v in variants} for error in ERRORS
    }
    if not any(found for by_variant in values.values() for found in by_variant.values()):
        return Section("errors", "What goes wrong", [missing("Error split", WHY)])
    picture = Picture(
        title="AP50 that each kind of error costs",
        svg=model_pictures.errors(values, looks),
        read="A bar is how much AP50 would rise if that kind of error alone were mended, mean over "
        "seeds; a dot is a seed.",
        care="The parts do not add up to what is missing to 1, since mending one uncovers another; "
        "a model that finds next to nothing has nothing to lose to background.",
    )
    return Section("errors", "What goes wrong", [picture, _error_table(values, variants)])


def _error_table(
    values: Mapping[str, Mapping[str, Sequence[float]]], variants: Sequence[Variant]
) -> Table:
    def mean(found: Sequence[float]) -> str:
        return figure(sum(found) / len(found)) if found else NONE

    return Table(
        title="AP50 lost to each kind of error, mean over seeds",
        head=("variant", *ERRORS),
        rows=tuple(
            (Cell(v.name), *(number(mean(values[error][v.name])) for error in ERRORS))
            for v in variants
        ),
    )


def scores(story: Story) -> Section:
    """Histograms of the scores of anchors."""
    found = {v.name: h for v in diagnosed(story) if (h := mean_histogram(v.diagnoses))}
    if not found:
        return Section("scores", "Scores of anchors", [missing("Score histograms", WHY)])
    picture = Picture(
        title="Score of the true class of foreground anchors, highest score of background anchors",
        svg=model_pictures.score_histograms(found),
        read="Where the colours lie apart, a score tells objects from background; blue on the left "
        "is missed, orange on the right is invented.",
        care="Counts are on a logarithmic axis, and means over seeds.",
        legend=tuple(patch(side, model_pictures.SIDE_COLORS[side]) for side in SIDES),
    )
    return Section("scores", "Scores of anchors", [picture])


def classes(story: Story, looks: Mapping[str, Look]) -> Section:
    """AP of each class against its number of training boxes."""
    found = {v.name: means for v in diagnosed(story) if (means := class_means(v.diagnoses))}
    if not found:
        return Section("classes", "Classes", [missing("AP by class", WHY)])
    picture = Picture(
        title="AP of each class over its number of training boxes",
        svg=model_pictures.classes(found, looks),
        read="A mark is a class, mean over seeds; a line that rises to the right says that rare "
        "classes are learned worse.",
        care="Classes differ in more than their number, such as size and likeness; compare "
        "variants at one place along the axis. Between numbers nearly equal a slope says nothing.",
        legend=tuple(looks[name].mark(name) for name in found),
    )
    boxes = {c.name: c.training_boxes for means in found.values() for c in means}
    averages = {name: {c.name: c.average_precision for c in means} for name, means in found.items()}
    table = Table(
        title="AP by class, the rarest first, mean over seeds",
        head=("class", "training boxes", *found),
        rows=tuple(
            (
                Cell(name),
                number(NONE if count is None else f"{count}"),
                *(number(figure(averages[variant].get(name))) for variant in found),
            )
            for name, count in sorted(boxes.items(), key=lambda item: (item[1] or 0, item[0]))
        ),
    )
    return Section("classes", "Classes", [picture, table])
