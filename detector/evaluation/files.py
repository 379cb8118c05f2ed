"""Files that an evaluation leaves: they appear whole, and overwrite nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path

from detector.errors import InputError


def new_directory(directory: Path) -> None:
    """Make an output directory; InputError where it holds anything already."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {directory} cannot be made ({error.strerror}).") from error
    if any(directory.iterdir()):
        raise InputError(
            f"--output {directory}: it holds files already, and nothing is overwritten; "
            "choose another --output."
        )


def write_json(path: Path, content: object) -> None:
    """Write `content` to `path`, which appears whole or not at all. NaN is refused (ValueError)."""
    draft = path.with_name(path.name + ".draft")
    draft.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(draft, path)
