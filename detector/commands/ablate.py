"""Run an ablation: variants x seeds, and what their figures say."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from detector.errors import InputError
from detector.files import write_json
from detector.lab.plan import Plan, Variant
from detector.lab.statistics import holm, paired, seeds_needed, summarize
from detector.lab.sweep import Outcome, Run, Sweep

TRAIN = Path(__file__).parents[2] / "tools" / "train.py"


def ablate(plan: Plan, output: Path, *, workers: int, say: Callable[[str], None]) -> int:
    """Train what is not trained yet and write results.json; 1 if a run failed, else 0."""
    _claim(plan, output)
    runs = runs_of(plan, output)
    devices = list(range(torch.cuda.device_count()))
    outcomes = Sweep(output, workers=workers, devices=devices, say=say)(runs)
    found = results(plan, outcomes)
    write_json(output / "results.json", found)
    say(table(found))
    failed = [run for run in runs if outcomes[run].code != 0]
    for run in failed:
        say(f"failed: {run.name}; see {run.directory.with_suffix('.log')}")
    return 1 if failed else 0


def runs_of(plan: Plan, output: Path) -> list[Run]:
    """Seed by seed, so that a sweep that is stopped early has whole pairs."""
    return [
        Run(v.name, seed, directory, command(plan, v, seed, directory))
        for seed in plan.seeds
        for v in plan.variants
        for directory in [output / "runs" / v.name / f"seed{seed}"]
    ]


def command(plan: Plan, variant: Variant, seed: int, directory: Path) -> tuple[str, ...]:
    """What trains one run; a person can paste it."""
    return (
        sys.executable, str(TRAIN), "--config", str(plan.config), "--output", str(directory),
        "--resume", "--set", f"train.seed={seed}", *variant.changes,
    )  # fmt: skip


def describe(plan: Plan, output: Path) -> str:
    """The runs and the differences of the configs, as lines of text."""
    lines = [f"{len(plan.variants)} variants x {len(plan.seeds)} seeds, metric {plan.metric}"]
    for variant in plan.variants:
        mark = " (baseline)" if variant.name == plan.baseline else ""
        lines.append(f"{variant.name}{mark}  {variant.question}")
        lines += [
            f"    {key}: {theirs!r} -> {own!r}"
            for key, (theirs, own) in plan.differences(variant).items()
        ]
    lines += [shlex.join(run.command) for run in runs_of(plan, output)]
    return "\n".join(lines)


def results(plan: Plan, outcomes: Mapping[Run, Outcome]) -> dict[str, Any]:
    """The content of results.json: each variant's figures, and its differences from the baseline.

    values: of the metric, by seed, null for a run that failed. A comparison pairs the seeds that
    both have; p_holm is p corrected over the variants; seeds_for_half_a_point is how many pairs
    would find a difference of 0.005 with a power of 80 %.
    """
    values = {
        v.name: {
            run.seed: last_figure(run.directory, plan.metric) if outcome.code == 0 else None
            for run, outcome in outcomes.items()
            if run.variant == v.name
        }
        for v in plan.variants
    }
    variants = [_entry(plan, variant, values) for variant in plan.variants]
    compared = [entry for entry in variants if entry["difference"]]
    adjusted = holm([entry["difference"]["p"] for entry in compared])
    for entry, p in zip(compared, adjusted, strict=True):
        entry["difference"]["p_holm"] = p
    return {
        "metric": plan.metric,
        "baseline": plan.baseline,
        "seeds": list(plan.seeds),
        "variants": variants,
        "seconds": {run.name: outcome.seconds for run, outcome in outcomes.items()},
    }


def last_figure(directory: Path, metric: str) -> float:
    """The metric at the last validation of a run."""
    lines = (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    key = f"validation/{metric}"
    for line in reversed(lines):
        record = json.loads(line)
        if key in record:
            return float(record[key])
    raise InputError(f"{directory}: metrics.jsonl has no {key}; name another metric.")


def table(found: Mapping[str, Any]) -> str:
    """Markdown: a row a variant."""
    lines = [
        f"| variant | {found['metric']} | 95 % interval | difference | 95 % interval | p (Holm) |",
        "|---|---|---|---|---|---|",
    ]
    for entry in found["variants"]:
        difference = entry["difference"] or {}
        cells = [
            entry["name"],
            _figure(entry["mean"]),
            _interval(entry),
            _figure(difference.get("mean"), sign="+"),
            _interval(difference, sign="+"),
            _figure(difference.get("p_holm")),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _entry(
    plan: Plan, variant: Variant, values: Mapping[str, Mapping[int, float | None]]
) -> dict[str, Any]:
    own, theirs = values[variant.name], values[plan.baseline]
    whole = [value for value in own.values() if value is not None]
    differences = plan.differences(variant)
    published = variant.published
    return {
        "name": variant.name,
        "question": variant.question,
        "published": published.model_dump() if published else None,
        "changes": {key: list(pair) for key, pair in differences.items()},
        "values": {str(seed): value for seed, value in own.items()},
        **(asdict(summarize(whole)) if whole else {"mean": None}),
        "difference": None if variant.name == plan.baseline else _difference(own, theirs),
    }


def _difference(
    own: Mapping[int, float | None], theirs: Mapping[int, float | None]
) -> dict[str, Any] | None:
    pairs = [(own[s], theirs[s]) for s in own if own[s] is not None and theirs[s] is not None]
    if not pairs:
        return None
    mine, base = zip(*pairs, strict=True)
    found = paired(list(mine), list(base))
    enough = seeds_needed(found.standard_deviation) if found.standard_deviation else None
    return {**asdict(found), "seeds_for_half_a_point": enough}


def _claim(plan: Plan, output: Path) -> None:
    """Mark the folder as this ablation's; InputError if it is another one's."""
    mark = output / "ablation.json"
    if mark.exists():
        before = json.loads(mark.read_text(encoding="utf-8"))
        if before["digest"] != plan.digest():
            raise InputError(
                f"{output}: it holds another ablation, of {before['config']}, whose variants "
                "resolve to other configs; go on with that one, or name another --output."
            )
        return
    if output.exists() and any(output.iterdir()):
        raise InputError(f"{output}: it holds something else; name another --output.")
    output.mkdir(parents=True, exist_ok=True)
    write_json(mark, {"config": str(plan.config), "digest": plan.digest()})


def _interval(entry: Mapping[str, Any], *, sign: str = "") -> str:
    ends = entry.get("interval")
    return "" if ends is None else f"{ends[0]:{sign}.3f} to {ends[1]:{sign}.3f}"


def _figure(value: float | None, *, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.3f}"
