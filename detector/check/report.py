"""All that a check found: as a table on the terminal, as check.json, and as check.html."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detector.check.figures import QUANTILES, Band, BatchFigures, Counts, Fit
from detector.check.findings import KINDS, Finding
from detector.check.pictures import Picture
from detector.files import write_json, write_text
from detector.report.numbers import four_digits
from detector.report.page import rendered

NAMED = 3  # examples on the terminal


@dataclass(frozen=True)
class Report:
    """Findings and figures of one config."""

    config: str
    foreground: float  # IoU from which an anchor reaches a box
    findings: list[Finding]
    counts: list[Counts]  # of each split
    present: Fit | None  # of the config's anchors; None where there is nothing to learn
    proposed: Fit | None
    batch: BatchFigures | None

    @property
    def by_size(self) -> list[tuple[Band, Band]]:
        """How the config's anchors and the proposed ones reach boxes of each range of sizes."""
        return _pairs(self.present, self.proposed, "by_size")

    @property
    def by_ratio(self) -> list[tuple[Band, Band]]:
        """The same by ratio."""
        return _pairs(self.present, self.proposed, "by_ratio")

    @property
    def errors(self) -> int:
        """How many cases of errors there are."""
        return sum(one.count for one in self.findings if one.severity == "error")

    def to_json(self) -> dict[str, Any]:
        """The content of check.json."""
        findings = [
            {**asdict(one), "severity": one.severity, "meaning": KINDS[one.kind].meaning}
            for one in self.findings
        ]
        return {**asdict(self), "findings": findings, "quantiles": QUANTILES}


def write_report(folder: Path, report: Report, pictures: dict[str, list[Picture]]) -> None:
    """check.json and check.html; `pictures` by kind, and a sample under "sample"."""
    write_json(folder / "check.json", report.to_json())
    page = rendered(
        Path(__file__).parent / "page_of_check.html.j2",
        report=report,
        pictures=pictures,
        kinds=KINDS,
        quantiles=QUANTILES,
    )
    write_text(folder / "check.html", page)


def lines(report: Report) -> Iterator[str]:
    """The text for the terminal."""
    yield from _table(
        ["", *(one.split for one in report.counts)],
        [
            ["images", *(one.images for one in report.counts)],
            ["boxes", *(one.boxes for one in report.counts)],
            ["crowds", *(one.crowds for one in report.counts)],
            ["boxes an image", *(_range(one.boxes_an_image) for one in report.counts)],
            ["sizes in pixels", *(_range(one.sizes) for one in report.counts)],
            ["height / width", *(_range(one.ratios) for one in report.counts)],
        ],
    )
    yield "(least, median, most; sizes are square roots of areas after data.resize)"
    yield ""
    for one in report.counts:
        by_class = zip(one.class_names, one.by_class, strict=True)
        yield from _table(["class", f"{one.split} boxes"], by_class)
        yield ""
    yield from _fit_lines(report)
    yield from _finding_lines(report.findings)


def _fit_lines(report: Report) -> Iterator[str]:
    present, proposed, batch = report.present, report.proposed, report.batch
    if present is None or proposed is None or batch is None:
        return
    for name, fit in (("the config", present), ("the proposal", proposed)):
        yield (
            f"anchors of {name} reach {fit.total.reached:.1%} of {fit.total.boxes} boxes at IoU "
            f"{report.foreground:g}, mean IoU {fit.total.mean_iou:.3f}"
        )
    yield f"proposal, also by anchors: auto:  {proposed.anchors}"
    yield (
        f"an image has {batch.positives:.1f} positive anchors, {batch.negatives:.1f} negative, "
        f"{batch.ignored:.1f} ignored; {batch.without_positive} of {batch.boxes} boxes have none"
    )
    yield f"expected initial classification loss: {batch.initial_loss:.4f}"
    yield (
        f"memory of {batch.images_at_a_time} images of {batch.height} x {batch.width} in float32: "
        f"{batch.weights_mb:.0f} MB of weights, gradients and optimizer, "
        f"{batch.activations_mb:.0f} MB of activations; loss and workspaces come on top"
    )
    yield ""


def _finding_lines(findings: Sequence[Finding]) -> Iterator[str]:
    if not findings:
        yield "nothing suspicious found"
    for one in findings:
        kind = KINDS[one.kind]
        yield f"{kind.severity}: {one.kind} ({one.count}): {kind.meaning}; {kind.remedy}"
        for example in one.examples[:NAMED]:
            yield f"    {example}"


def _range(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return ", ".join(map(four_digits, (values[0], values[len(values) // 2], values[-1])))


def _table(head: Sequence[str], rows: Any) -> Iterator[str]:
    texts = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(head))]
    for row in texts:
        name, *cells = (
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join([name, *cells]).rstrip()


def _pairs(present: Fit | None, proposed: Fit | None, name: str) -> list[tuple[Band, Band]]:
    if present is None or proposed is None:
        return []
    return list(zip(getattr(present, name), getattr(proposed, name), strict=True))
