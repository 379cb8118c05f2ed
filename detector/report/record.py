"""The last sections: what differed, on which machine, by which commands, and what failed."""

from __future__ import annotations

import shlex
from typing import Any

from detector.report.blocks import Block, Cell, Listing, Section, Table, Text, missing
from detector.report.story import Run, Story
from detector.report.words import exact

NOT_COMPARED = {"command", "started"}


def configs(story: Story) -> Section:
    """In which keys each variant's config differs from the baseline's."""
    rows = tuple(
        (
            Cell(variant.name),
            Cell("\n".join(_change(*c) for c in variant.changes.items()), style="code"),
        )
        for variant in story.variants
        if variant.changes
    )
    block: Block = Table(
        title=f"Keys in which a variant's config differs from that of {story.baseline}",
        head=("variant", f"key: {story.baseline} → variant"),
        rows=rows,
        care="Every key that is not listed is equal in all runs, but for train.seed.",
    )
    if not rows:
        block = missing("Differences", "results.json lists none.")
    return Section("configs", "Differences of the configs", [block])


def _change(key: str, values: tuple[Any, Any]) -> str:
    theirs, own = map(exact, values)
    return f"{key}: {theirs} → {own}"


def failures(story: Story) -> Section | None:
    """The runs without a figure and the ends of their logs, and trials; None where all is well."""
    blocks = [*_without_figure(story), *_failed_trials(story)]
    return Section("failures", "Failed runs", blocks) if blocks else None


def _without_figure(story: Story) -> list[Block]:
    failed = [run for run in story.runs if run.value is None]
    if not failed:
        return []
    listings = [
        Listing(f"{run.name}: end of {run.folder}.log", run.log or "(there is no log)")
        for run in failed
    ]
    note = Text(
        f"They have no figure: the training failed, or {story.metric} is undefined there. Their "
        "seed is left out of their variant's means and differences. If a variant fails where it "
        "does badly, its mean is too good."
    )
    return [note, *listings]


def _failed_trials(story: Story) -> list[Block]:
    if not story.failed_trials:
        return []
    return [
        Text(
            "These trials failed without diverging, so that nothing is chosen for their variants, "
            f"and no tuned ones stand beside them: {'; '.join(story.failed_trials)}. The same "
            "command tries them again."
        )
    ]


def environment(story: Story) -> Section:
    """Versions and devices, and the command of each run."""
    keys = dict.fromkeys(k for run in story.runs for k in run.environment)
    rows = tuple((Cell(key), Cell(_values(story, key))) for key in keys if key not in NOT_COMPARED)
    table: Block = Table("What the runs had", ("", "found"), rows)
    if not rows:
        table = missing("Environment", "No run left an environment.json.")
    return Section("environment", "Environment", [table])


def commands(story: Story) -> Section:
    """What trains each run again."""
    listings = [Listing("the whole ablation", shlex.join(story.command))] if story.command else []
    listings += [Listing(f"{run.name}{_time(run)}", _command(run)) for run in story.runs]
    note = Text(
        "Run from the project's folder. Each goes on in, or refuses, the folder that --output "
        "names: give another one to train again."
    )
    return Section("commands", "Commands", [note, *listings])


def _time(run: Run) -> str:
    return "" if run.seconds is None else f" ({run.seconds:,.0f} s)"


def _command(run: Run) -> str:
    words = run.environment.get("command")
    return shlex.join(["python", *words]) if words else "(the run left no environment.json)"


def _values(story: Story, key: str) -> str:
    """The one value of all runs, or each with the number of runs that have it."""
    found: dict[str, int] = {}
    for run in story.runs:
        if key in run.environment:
            text = _plain(run.environment[key])
            found[text] = found.get(text, 0) + 1
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{text} ({count} runs)" for text, count in found.items())


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "unknown" if value is None else str(value)
