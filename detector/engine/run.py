"""The run directory: its lock, its files, and how other commands find them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
import torchvision

from detector import __version__
from detector.config import Config, parse
from detector.distributed import is_main, together, world_size
from detector.engine import checkpoint
from detector.errors import InputError
from detector.files import locked, occupied, sweep_files, write_json, write_text

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"


@contextmanager
def held(run: Path) -> Iterator[None]:
    """Hold the lock of a run directory; the first rank takes it for all ranks.

    Removes the drafts of files that a killed process left. Raises InputError if another process
    holds the lock, and Stopped on the other ranks.
    """
    if os.fsencode(run).decode(errors="replace") != str(run):
        raise InputError(
            f"--output {str(run)!r}: the name is no UTF-8 text, which TensorBoard needs; choose "
            "another."
        )
    with ExitStack() as stack:
        with together():
            if is_main():
                stack.enter_context(locked(run))
                sweep_files(run)
                sweep_files(run / "checkpoints")
        yield


def refuse_existing(run: Path) -> None:
    """InputError if the folder of a new run holds something already."""
    if occupied(run):
        raise InputError(
            f"{run}: it exists already and is never overwritten; go on with it by --resume, "
            "or name another --output."
        )


def create(
    run: Path, config: str, command: Sequence[str], weights: Mapping[str, Any] | None = None
) -> None:
    """Write the resolved config and the environment into the run directory, which is held.

    weights: what of model.weights was copied, if the run starts from a detector.
    """
    # the config comes first: a folder with a config counts as a run, which --resume continues
    write_text(run / CONFIG, config)
    environment = run_environment(command)
    write_json(
        run / ENVIRONMENT,
        environment if weights is None else {**environment, "weights": weights},
    )


def note_resumption(run: Path, command: Sequence[str], step: int) -> None:
    """Write the environment of the process that resumes at `step` to a file of its own."""
    write_json(run / f"environment.resumed_at_{step}.json", run_environment(command))


def resumptions(run: Path) -> list[Path]:
    """The files of `note_resumption`, by their steps."""
    files = run.glob("environment.resumed_at_*.json")
    return sorted(files, key=lambda file: int(file.stem.rpartition("_")[2]))


def config_file(run: Path) -> Path:
    """The path of the resolved config of a run; InputError if `run` is no run directory."""
    if not run.is_dir():
        raise InputError(f"{run}: there is no such folder; name the run directory of a training.")
    if not (run / CONFIG).is_file():
        raise InputError(f"{run}: it holds no {CONFIG}, so it is not a run of detector train.")
    return run / CONFIG


def resolved_config(run: Path) -> Config:
    """That in the folder of a run, read and not built; InputError where it is broken."""
    return parse((run / CONFIG).read_text(encoding="utf-8"), str(run / CONFIG))


def checkpoint_file(run: Path, name: str) -> Path:
    """The path of the checkpoint `best` or `last`, or of a path; InputError if it is no file."""
    path = run / "checkpoints" / f"{name}.pt" if name in {"best", "last"} else Path(name)
    if not path.is_file():
        kept = sorted(p.stem for p in (run / "checkpoints").glob("*.pt"))
        raise InputError(
            f"{path}: there is no such checkpoint; {run} has {', '.join(kept) or 'none'}."
        )
    return path


def last_state(run: Path) -> dict[str, Any] | None:
    """The state to resume from; None for a run that ended before its first checkpoint."""
    path = run / "checkpoints" / "last.pt"
    return checkpoint.load_state(path) if path.exists() else None


def run_environment(command: Sequence[str]) -> dict[str, Any]:
    """Versions, devices, git revision and command, which are needed to repeat the run."""
    return {
        "command": list(command),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "detector": __version__,
        "git": revision(),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())],
        "processes": world_size(),
    }


def revision() -> str | None:
    """The commit of the source tree, with `+` if files were changed; None outside a checkout."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():  # installed, perhaps inside of somebody else's repository
        return None
    words = ["git", "-C", str(here), "describe", "--always", "--exclude=*", "--abbrev=40"]
    try:
        return subprocess.run(
            [*words, "--dirty=+"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
