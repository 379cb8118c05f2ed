"""The main figures of diagnostics.json as lines of text."""

from __future__ import annotations

from detector.report.diagnostics import ERRORS, CalibrationReport, Diagnostics


def diagnostics_table(content: Diagnostics) -> str:
    """The main figures as lines of text; `-` where undefined."""
    names = ("AP", "AP50", "AP75", "AR100")
    figures = "   ".join(f"{name} {_fixed(getattr(content, name))}" for name in names)
    lines = [f"{figures}   {content.images} images", "", *_operating_lines(content), ""]
    if content.loss_distribution:
        lines += [*_distribution_lines(content), ""]
    lines += _calibration_lines(content.calibration)
    lines += ["", "AP50 gained without errors of one kind"]
    lines += [f"{kind:<15} {_fixed(content.errors[kind])}" for kind in ERRORS]
    width = max(len("class"), *(len(entry.name) for entry in content.classes))
    lines += ["", f"{'class':<{width}}      AP    oLRP  training boxes"]
    for entry in content.classes:
        boxes = "-" if entry.training_boxes is None else entry.training_boxes
        lrp = _fixed(entry.lrp.error if entry.lrp else None)
        lines.append(f"{entry.name:<{width}}  {_fixed(entry.AP)}  {lrp}  {boxes:>14}")
    # a run has a training set, and a result file none
    if content.anchors and any(entry.training_boxes is None for entry in content.classes):
        lines.append("-: the training set of the run's config cannot be read")
    return "\n".join(lines)


def _operating_lines(content: Diagnostics) -> list[str]:
    """False positives at a recall, and the LRP error."""
    lines = []
    if content.froc is not None:
        lines += [
            f"recall {recall}: {'not reached' if count is None else f'{count:.3g}'} false "
            "positives an image, at one score for all classes"
            for recall, count in content.froc.at_recall.items()
        ]
    if (lrp := content.lrp) is not None:
        parts = (lrp.localisation, lrp.false_positive, lrp.false_negative)
        place, wrong, missed = (_fixed(part).strip() for part in parts)
        lines.append(
            f"optimal LRP error {_fixed(lrp.error).strip()}: 1 - IoU {place}, "
            f"false positives {wrong}, missed {missed}"
        )
    return lines


def _distribution_lines(content: Diagnostics) -> list[str]:
    lines = [f"{'share of the loss':<20} {'of hardest 0.1 %':>18} {'1 %':>6} {'10 %':>6}"]
    for name, kinds in content.loss_distribution.items():
        for kind, curve in kinds.items():
            shares = [None] * 3 if curve is None else curve.hardest.values()
            lines.append(f"{name:<9} {kind:<10} {'':>12}{' '.join(map(_fixed, shares))}")
    counts = content.anchors
    return [*lines, f"{counts['foreground']} foreground and {counts['background']} background"]


def _calibration_lines(report: CalibrationReport | None) -> list[str]:
    if report is None:
        return ["D-ECE: too few detections"]
    before, temperature, platt = report.before, report.temperature, report.platt
    return [
        f"D-ECE         {_fixed(before.d_ece)}  on half of the images; fitted on the other:",
        f"  temperature {_fixed(temperature.d_ece)}  T {temperature.temperature:.3g}",
        f"  Platt       {_fixed(platt.d_ece)}  slope {platt.slope:.3g}, "
        f"intercept {platt.intercept:.3g}",
    ]


def _fixed(value: float | None) -> str:
    return "     -" if value is None or value == -1 else f"{value:6.3f}"
