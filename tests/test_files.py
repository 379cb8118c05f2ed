"""Files that a command reads, in any encoding, and folders that one process at a time writes to."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import HOME

from detector.build import load_config
from detector.cli.ablate import ablate
from detector.engine import run
from detector.errors import InputError
from detector.files import LOCK, locked, new_directory, occupied, read_json, read_object
from detector.lab.placement import Placement
from detector.lab.plan import Plan

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("read", [read_json, read_object])
def test_json_in_any_unicode_encoding(tmp_path: Path, read: Any, encoding: str) -> None:
    """As Notepad and PowerShell write it: with a byte-order mark, and in UTF-16."""
    path = tmp_path / "a.json"
    path.write_bytes(json.dumps({"é": "日"}, ensure_ascii=False).encode(encoding))
    assert read(path) == {"é": "日"}


@pytest.mark.parametrize("data", [b"", b"{", b"caf\xe9", b"[" * 100_000, b'{"a": 1} {}'])
def test_what_is_no_json_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.json: this is not a JSON file"):
        read_json(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.json: cannot be read \(No such"):
        read_json(tmp_path / "a.json")


HOLD = """
import sys, time
from pathlib import Path
from detector.files import locked, new_directory
context = {"locked": locked, "new_directory": new_directory}[sys.argv[1]]
with context(Path(sys.argv[2])):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(context: str, folder: Path) -> subprocess.Popen[str]:
    """A process that is in the context of the folder; to be killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, context, str(folder)],
        cwd=HOME, text=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_what_cannot_be_put_in_its_place_is_kept(tmp_path: Path) -> None:
    """Somebody filled the folder meanwhile."""
    with (
        pytest.raises(InputError, match=r"best.*kept in .*\.best\.\d+\.draft"),
        new_directory(tmp_path / "best") as draft,
    ):
        (draft / "figures.json").write_text("{}")
        (tmp_path / "best").mkdir()
        (tmp_path / "best" / "mine").touch()
    assert (draft / "figures.json").read_text() == "{}"
    assert [file.name for file in (tmp_path / "best").iterdir()] == ["mine"]


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    holder = hold("locked", tmp_path / "run")
    try:
        who = f"process {holder.pid} on {socket.gethostname()}"
        with pytest.raises(InputError, match=f"run: {who}.*--output"), locked(tmp_path / "run"):
            pass
    finally:
        kill(holder)
    assert (tmp_path / "run" / LOCK).exists() and not occupied(tmp_path / "run")
    with locked(tmp_path / "run"):
        assert str(os.getpid()) in (tmp_path / "run" / LOCK).read_text()
    assert not (tmp_path / "run" / LOCK).exists()


def test_a_second_ablation_in_a_folder_is_refused(tmp_path: Path) -> None:
    plan = Plan.read(HOME / "configs/ablations/background.yaml", [], load=load_config)
    holder = hold("locked", tmp_path)
    try:
        with pytest.raises(InputError, match=f"process {holder.pid} on "):
            ablate(plan, tmp_path, placement=Placement.of(plan, [], workers=1), say=print)
    finally:
        kill(holder)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_a_forked_child_that_lives_on_does_not_hold_it(tmp_path: Path) -> None:
    """As a loader's worker does for seconds after its parent is killed."""
    program = HOLD.replace("import sys, time", "import os, sys, time").replace(
        "    print", "    if os.fork() == 0: time.sleep(20)\n    print"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, "locked", str(tmp_path / "run")],
        cwd=HOME, text=True, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with locked(tmp_path / "run"):
        pass
    os.killpg(holder.pid, signal.SIGKILL)
    holder.stdout.close()


def test_a_new_folder_goes_with_its_lock_if_nothing_was_put_in(tmp_path: Path) -> None:
    with locked(tmp_path / "run"):
        assert not occupied(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "old").mkdir()
    with locked(tmp_path / "old"):
        pass
    assert (tmp_path / "old").exists()


def test_a_file_system_without_locks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(descriptor: int, how: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.lockf", fail)
    with locked(tmp_path / "run"):
        pass
    assert "no locks (Function not implemented)" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests may run as root, whom no permission stops."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="--output .*cannot be written to"), locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_run_sweeps_the_drafts_of_its_files_away(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "evaluation").mkdir()
    drafts = ["checkpoints/.last.pt.draft", ".config.yaml.draft", "evaluation/.best.7.draft"]
    for name in [*drafts, "checkpoints/last.pt"]:
        (tmp_path / name).write_text("")
    with run.held(tmp_path):
        left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {LOCK, "checkpoints/last.pt", "evaluation/.best.7.draft"}


def test_the_draft_of_a_killed_process_is_swept_away(tmp_path: Path) -> None:
    """That of a living one, and of another folder, stays."""
    killed, living = (hold("new_directory", tmp_path / "best") for _ in range(2))
    other = hold("new_directory", tmp_path / "last")
    kill(killed)
    kill(other)
    try:
        with new_directory(tmp_path / "best") as draft:
            (draft / "metrics.json").write_text("{}")
        assert {path.name for path in tmp_path.iterdir()} == {
            "best", f".best.{living.pid}.draft", f".last.{other.pid}.draft"
        }  # fmt: skip
        assert [path.name for path in (tmp_path / "best").iterdir()] == ["metrics.json"]
    finally:
        kill(living)
