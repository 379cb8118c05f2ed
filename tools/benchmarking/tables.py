"""The figures of a benchmark as Markdown tables, for the terminal and for documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from benchmarking.setup import Figures


def section(name: str, figures: Figures) -> str:
    """The table of own section of benchmark.json."""
    return TABLES[name](figures)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns padded to own width, so that the text reads as a table too."""
    cells = [list(head), *(list(row) for row in rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(head))]
    padded = [[cell.ljust(width) for cell, width in zip(r, widths, strict=True)] for r in cells]
    lines = [f"| {' | '.join(row)} |" for row in padded]
    return "\n".join([lines[0], f"|{'|'.join('-' * (w + 2) for w in widths)}|", *lines[1:]])


def record(cells: Mapping[str, str]) -> str:
    """A table of one row, from its cells by their heads."""
    return markdown(tuple(cells), [tuple(cells.values())])


def ratio(value: Figures) -> str:
    """The median, and the range in brackets; small ones with three digits."""
    digits = 3 if value["median"] < 0.1 else 2
    return "{median:.{d}f} ({lowest:.{d}f} to {highest:.{d}f})".format(d=digits, **value)


def _loss(figures: Figures) -> str:
    head = (
        "loss, forward and backward", "partner's time / ours", "ours / copy of the logits",
        "copy, GB/s", "memory, logits = 1", "partner's",
    )  # fmt: skip
    return markdown(
        head,
        [
            (name, ratio(own["speed"]), ratio(own["over_copy"]), f"{own['bandwidth'] / 1e9:,.0f}",
             f"{own['copies']:.2f}", f"{own['partner_copies']:.2f}")
            for name, own in figures.items()
        ],
    )  # fmt: skip


def _matching(figures: Figures) -> str:
    return record({
        "matching: torchvision's time / ours": ratio(figures["speed"]),
        "memory, MB": f"{figures['extra_bytes'] / 1e6:,.0f}",
        "torchvision's": f"{figures['partner_extra_bytes'] / 1e6:,.0f}",
    })  # fmt: skip


def _step(figures: Figures) -> str:
    count, height, width = figures["images"]
    title = f"step, {figures['backbone']}, {count} images of {width} x {height}"
    head = (title, "ms", "images/s", "memory, MB", "host, ms", "kernels, ms", "launches")
    sides = markdown(
        head,
        [
            (name, f"{own['milliseconds']:,.1f}", f"{own['images_per_second']:,.1f}",
             f"{own['peak_bytes'] / 1e6:,.0f}", f"{own['host_milliseconds']:,.1f}",
             _or_dash(own["kernel_milliseconds"], ",.1f"), _or_dash(own["launches"], ","))
            for name, own in figures["sides"].items()
        ],
    )  # fmt: skip
    ratios = [(name, ratio(own)) for name, own in figures["ratios"].items()]
    return sides + ("\n\n" + markdown(("step", "ratio of times"), ratios) if ratios else "")


def _parts(figures: Figures) -> str:
    shares = [(name, ratio(own)) for name, own in figures["share"].items()]
    costs = [(name, ratio(own)) for name, own in figures["cost"].items()]
    diagnosis = (_diagnosis(figures), ratio(figures["diagnosis"]))
    return "\n\n".join([
        markdown(("part of a step", "share of its time"), shares),
        markdown(("step under each loss", "time, focal = 1"), costs),
        markdown(("step with a diagnosis", "time, without = 1"), [diagnosis]),
    ])  # fmt: skip


def _diagnosis(figures: Figures) -> str:
    """What train.diagnose_every costs of the training."""
    every = figures["diagnosis_every"]
    if every is None:
        return "never"
    return f"every {every}th: {(figures['diagnosis']['median'] - 1) / every:.1%} of all"


def _predict(figures: Figures) -> str:
    count, height, width = figures["images"]
    title = f"prediction, {count} images of {width} x {height}: torchvision's time / ours"
    return record({
        title: ratio(figures["speed"]),
        "images/s": f"{figures['images_per_second']:,.1f}",
        "detections also ours": f"{figures['agreement']:.4f} of {figures['detections']:,}",
    })  # fmt: skip


def _loader(figures: Figures) -> str:
    title = f"loader, {figures['workers']} workers: ours / Pillow and v2 transforms"
    speed, rate = ratio(figures["speed"]), f"{figures['images_per_second']:,.0f}"
    return record({title: speed, "images/s": rate})


def _evaluation(figures: Figures) -> str:
    title = f"evaluation of {figures['detections']:,} detections: pycocotools' time / ours"
    difference = f"{figures['difference']:.1e}"
    return record({title: ratio(figures["speed"]), "largest difference of a figure": difference})


def _index(figures: Figures) -> str:
    title = f"annotations of {figures['images']:,} images, {figures['boxes']:,} boxes"
    head = (title, "pycocotools' time / ours", "memory, MB", "pycocotools'")
    held, partner = figures["held_bytes"] / 1e6, figures["partner_held_bytes"] / 1e6
    return markdown(
        head,
        [
            ("first reading", ratio(figures["first"]), "", ""),
            ("cached", ratio(figures["cached"]), f"{held:,.0f}", f"{partner:,.0f}"),
        ],
    )


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


TABLES: dict[str, Callable[[Figures], str]] = {
    "loss": _loss,
    "loss_compiled": _loss,
    "matching": _matching,
    "step": _step,
    "parts": _parts,
    "predict": _predict,
    "loader": _loader,
    "evaluation": _evaluation,
    "index": _index,
}
