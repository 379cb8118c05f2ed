"""The last sections: config differences, machine, commands, and the runs that failed."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import Any

from detector.report.blocks import Block, Cell, Listing, PageSection, Paragraph, Table, missing
from detector.report.folder import AblationFolder
from detector.report.numbers import yaml_value

NOT_COMPARED = {"command", "started"}


def config_section(ablation: AblationFolder) -> PageSection:
    """In which keys each variant's config differs from the baseline's."""
    rows = []
    for variant in ablation.variants:
        changes = [
            f"{key}: {yaml_value(baseline)} → {yaml_value(value)}"
            for key, (baseline, value) in variant.changes.items()
        ]
        if changes:
            rows.append((Cell(variant.name), Cell("\n".join(changes), style="code")))
    block: Block = Table(
        title=f"Keys in which a variant's config differs from that of {ablation.baseline}",
        head=("variant", f"key: {ablation.baseline} → variant"),
        rows=tuple(rows),
        caveat="All other keys are equal in all runs, but for train.seed.",
    )
    if not rows:
        block = missing("Differences", "results.json lists none.")
    return PageSection("configs", "Differences of the configs", [block])


def failure_section(ablation: AblationFolder) -> PageSection | None:
    """The runs without a value with the ends of their logs, and failed trials; None without any."""
    blocks: list[Block] = []
    failed = [run for run in ablation.runs if run.value is None]
    if failed:
        note = (
            f"These have no {ablation.metric}: the training failed, or it is undefined there. "
            "Their seed is left out of their variant's means and differences. If a variant fails "
            "where it does badly, its mean is too good."
        )
        blocks = [Paragraph(note)]
    blocks += [
        Listing(f"{run.name}: end of {run.folder}.log", run.log or "(there is no log)")
        for run in failed
    ]
    if ablation.failed_trials:
        note = (
            "These trials failed without diverging, so that nothing is chosen for their variants, "
            f"and no tuned ones stand beside them: {'; '.join(ablation.failed_trials)}. The same "
            "command tries them again."
        )
        blocks.append(Paragraph(note))
    return PageSection("failures", "Failed runs", blocks) if blocks else None


def environment_section(ablation: AblationFolder) -> PageSection:
    """Versions and devices of the runs."""
    keys = dict.fromkeys(k for run in ablation.runs for k in run.environment)
    rows = tuple(
        (Cell(key), Cell(_values(ablation, key))) for key in keys if key not in NOT_COMPARED
    )
    block: Block = Table("Environment of the runs", ("", "value"), rows)
    if not rows:
        block = missing("Environment", "No run left an environment.json.")
    return PageSection("environment", "Environment", [block])


def command_section(ablation: AblationFolder) -> PageSection:
    """What trains each run again."""
    note = Paragraph(
        "Run from the project's folder. Each goes on in, or refuses, the folder that --output "
        "names: give another one to train again."
    )
    blocks: list[Block] = [note]
    if ablation.command:
        blocks.append(Listing("the whole ablation", shlex.join(ablation.command)))
    for run in ablation.runs:
        words = run.environment.get("command")
        command = shlex.join(["python", *words]) if words else "(the run left no environment.json)"
        seconds = "" if run.seconds is None else f" ({run.seconds:,.0f} s)"
        blocks.append(Listing(f"{run.name}{seconds}", command))
    return PageSection("commands", "Commands", blocks)


def _values(ablation: AblationFolder, key: str) -> str:
    """The one value of all runs, or each with the number of runs that have it."""
    counts = Counter(_text(run.environment[key]) for run in ablation.runs if key in run.environment)
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{text} ({count} runs)" for text, count in counts.items())


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "unknown" if value is None else str(value)
