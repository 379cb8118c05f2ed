"""`detector COMMAND`: which command is run, and how the lab's children find the package."""

import sysconfig
from pathlib import Path

import pytest
from conftest import HOME, exit_code

from detector import __version__
from detector.__main__ import HELP, main
from detector.command_line import program, python_arguments
from detector.lab.sweep import import_path

COMMANDS = sorted(
    path.stem for path in (HOME / "detector/cli").glob("*.py") if "def main(" in path.read_text()
)


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["/x/detector/__main__.py", *words])
    return exit_code(main)


def test_help_names_every_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "--help") == call(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"{HELP}detector {__version__}\n"
    listed = [line.split()[0] for line in HELP.splitlines() if line.startswith("  ")]
    assert sorted(word for word in listed if not word.startswith("-")) == COMMANDS


@pytest.mark.parametrize(("words", "said"), [(["nonsense"], "'nonsense'"), ([], "no command")])
def test_no_such_command(
    words: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, *words) == 2
    error = capsys.readouterr().err
    assert said in error and "detector --help" in error and error.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_its_arguments(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, command, "--help") == 0
    assert capsys.readouterr().out.startswith(f"usage: detector {command} ")


def test_what_a_run_says_that_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/x/detector/__main__.py", "train", "--config", "c"])
    assert python_arguments() == ["-m", "detector", "train", "--config", "c"]
    assert program("train") == "detector train"
    monkeypatch.setattr("sys.argv", ["tools/train.py", "--config", "c"])
    assert python_arguments() == ["tools/train.py", "--config", "c"]
    assert program("train") == "train.py"


def test_children_import_this_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before whatever else is named; an installed one is not put before Python's own modules."""
    monkeypatch.setenv("PYTHONPATH", "/other")
    assert import_path() == {"PYTHONPATH": f"{HOME}:/other", "PYTHONSAFEPATH": "1"}
    monkeypatch.delenv("PYTHONPATH")
    assert import_path()["PYTHONPATH"] == str(HOME)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(Path(HOME)))
    assert import_path()["PYTHONPATH"] == ""
