"""The run directory: what a run leaves, and how another command finds it again."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
import torchvision

from detector import __version__
from detector.distributed import gather_objects, is_main, world_size
from detector.engine import checkpoint
from detector.errors import InputError
from detector.files import locked, occupied, sweep_files, write_json, write_text

CONFIG = "config.yaml"


@contextmanager
def held(run: Path) -> Iterator[None]:
    """The lock of a run directory, by the first process for all; InputError in each if it is held.

    Drafts of files that a killed process left are swept away.
    """
    if os.fsencode(run).decode(errors="replace") != str(run):
        raise InputError(
            f"--output {str(run)!r}: the name is no UTF-8 text, which TensorBoard needs; choose "
            "another."
        )
    with ExitStack() as stack:
        refusal = ""
        if is_main():
            try:
                stack.enter_context(locked(run))
            except InputError as error:
                refusal = str(error)
        refusal = str(gather_objects(refusal)[0])
        if refusal:
            raise InputError(refusal)
        if is_main():
            sweep_files(run)
            sweep_files(run / "checkpoints")
        yield


def refuse_existing(run: Path) -> None:
    """InputError where a new run would overwrite something."""
    if occupied(run):
        raise InputError(
            f"{run}: it exists already and is never overwritten; go on with it by --resume, "
            "or name another --output."
        )


def create(run: Path, config: str, command: Sequence[str]) -> None:
    """Make the directory with the resolved config and the environment."""
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{run}: the run directory cannot be made ({error.strerror}); name another --output."
        ) from error
    # first: with it the folder is a run, which --resume goes on with
    write_text(run / CONFIG, config)
    write_json(run / "environment.json", environment(command))


def note_resumption(run: Path, command: Sequence[str], step: int) -> None:
    """Keep the environment that goes on at `step` beside the one that began."""
    write_json(run / f"environment.resumed_at_{step}.json", environment(command))


def config_file(run: Path) -> Path:
    """The resolved config of a run; InputError if `run` is none."""
    if not run.is_dir():
        raise InputError(f"{run}: there is no such folder; name the run directory of a training.")
    if not (run / CONFIG).is_file():
        raise InputError(f"{run}: it holds no {CONFIG}, so it is not a run of detector train.")
    return run / CONFIG


def checkpoint_file(run: Path, name: str) -> Path:
    """The file of `best`, `last` or a path."""
    path = run / "checkpoints" / f"{name}.pt" if name in {"best", "last"} else Path(name)
    if not path.is_file():
        kept = sorted(p.stem for p in (run / "checkpoints").glob("*.pt"))
        raise InputError(
            f"{path}: there is no such checkpoint; {run} has {', '.join(kept) or 'none'}."
        )
    return path


def last_state(run: Path) -> dict[str, Any] | None:
    """The state to resume from; None for a run that was stopped before it saved any."""
    config_file(run)
    path = run / "checkpoints" / "last.pt"
    return checkpoint.load(path) if path.exists() else None


def environment(command: Sequence[str]) -> dict[str, Any]:
    """Versions, devices, revision and command: what another person needs to repeat the run."""
    return {
        "command": list(command),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "detector": __version__,
        "git": _revision(),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())],
        "processes": world_size(),
    }


def _revision() -> str | None:
    """The commit of the source tree, with `+` if it was changed; None outside a checkout."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():  # installed, perhaps inside of somebody else's repository
        return None
    try:
        said = [
            subprocess.run(
                ["git", "-C", str(here), *words], capture_output=True, text=True, check=True
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.CalledProcessError):
        return None
    return said[0] + ("+" if said[1] else "")
