"""Train a detector from a YAML config; leaves a run directory."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from detector import build
from detector.anchors.generator import AUTO
from detector.command_line import add_set, program, python_arguments
from detector.config import Config, flat, parse
from detector.distributed import barrier, is_main, process_group, rank
from detector.engine import run
from detector.errors import InputError
from detector.files import occupied
from detector.training import Assembly

# what may change on --resume
MOVABLE = {
    "data.workers", "train.device", "train.log_every", "train.diagnose_every", "evaluation.engine",
    "evaluation.metrics", "train.loggers",
}  # fmt: skip
NAMED = 5  # changes that a refusal to resume names


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Of the words after the command's name; None: those of this process."""
    parser = argparse.ArgumentParser(prog=program("train"), description=__doc__)
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="YAML config")
    add_set(parser, "change keys of the config, e.g. loss.classification.gamma=1")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="run directory (runs/NAME OF THE CONFIG)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on where the run in the directory stopped"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Train; the exit code."""
    options = arguments(argv)
    config = build.load_config(options.config, options.set)
    output = options.output or Path("runs") / options.config.stem
    return train(config, output, resume=options.resume, command=python_arguments())


def train(config: Config, output: Path, *, resume: bool, command: Sequence[str]) -> int:
    """Train into the run directory `output`; the exit code. Under torchrun every rank calls it."""
    on = build.device(config)
    with process_group(on), run.held(output):
        state = None
        if resume and occupied(output):
            config = _with_its_anchors(config, output)
            state = _resumed(config, output)
        if not resume:
            run.refuse_existing(output)
        barrier()
        torch.manual_seed(config.train.seed + rank())  # nothing of ours draws from it; be sure
        assembly = Assembly(config, output, on, state)
        changes = assembly.changes()
        total = assembly.schedule.total_steps
        if state is not None and state["step"] == state["validated"] == total:
            if is_main():
                sys.stdout.write(f"{output}: finished already, {total} of {total} steps.\n")
            return 0
        trainer = assembly.begin(command, changes)
        with closing(trainer.logger):
            return trainer.run()


def _with_its_anchors(config: Config, output: Path) -> Config:
    """The config with the numbers that the run to resume found for `anchors: auto`."""
    if config.anchors != AUTO:
        return config
    file = run.config_file(output)
    theirs = parse(file.read_text(encoding="utf-8"), str(file))
    return config.model_copy(update={"anchors": theirs.anchors})


def _resumed(config: Config, output: Path) -> dict[str, Any] | None:
    """The last state of the run, refused if its config is another one."""
    file, gone = run.config_file(output), "no such key"
    theirs, ours = flat(parse(file.read_text(encoding="utf-8"), str(file))), flat(config)
    changed = [
        f"{key} {json.dumps(theirs.get(key, gone))}, now it is {json.dumps(ours.get(key, gone))}"
        for key in {**theirs, **ours}
        if theirs.get(key, gone) != ours.get(key, gone) and key not in MOVABLE
    ]
    if changed:
        more = f"; and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
        raise InputError(
            f"{file}: the run to resume has {'; '.join(changed[:NAMED])}{more}; resume with the "
            f"run's own settings (--config {file} --output {output} --resume), or start another "
            "run with another --output."
        )
    return run.last_state(output)
