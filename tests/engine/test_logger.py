"""metrics.jsonl after an interruption."""

import os
from pathlib import Path

import pytest

from detector.engine.logger import RunLogger

LINES = b'{"step": 1}\n{"step": 2}\n{"step": 3}\n'  # of twelve bytes each


@pytest.mark.parametrize(
    ("there", "position", "kept", "lost"),
    [
        (LINES, 24, LINES[:24], False),  # written after the checkpoint
        (LINES[:24], 24, LINES[:24], False),
        (LINES[:24], 36, LINES[:24], True),  # a power cut took the last line
        (LINES[:30], 36, LINES[:24], True),  # and half of another
        (b"", 36, b"", True),
    ],
)
def test_where_a_resumed_run_goes_on(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    there: bytes,
    position: int,
    kept: bytes,
    lost: bool,
) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(there)
    logger = RunLogger(tmp_path, total_steps=9, position=position, step=3)
    logger.write({"step": 4})
    assert logger.position() == len(kept) + 12
    logger.close()
    assert file.read_bytes() == kept + b'{"step": 4}\n'
    said = capsys.readouterr().out
    assert lost == ("metrics.jsonl" in said) == (f"knew of {position}" in said)


def test_the_lines_are_on_the_disk_before_a_checkpoint_counts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    logger = RunLogger(tmp_path, total_steps=9)
    logger.write({"step": 1})
    assert logger.position() == 12 and synced == [12]
    logger.close()
