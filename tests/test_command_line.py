"""What every tool reads behind --set, and what it may write to a terminal."""

import os
import sys
from pathlib import Path

import pytest
from conftest import HOME, exit_code, load_script

from detector.command_line import harmless
from detector.errors import InputError

SHOWN = {
    "caf\u00e9 \u732b\tone\ntwo": "caf\u00e9 \u732b\tone\ntwo",  # lines and every script stay
    "\x1b]0;owned\x07": r"\x1b]0;owned\x07",  # sets the window's title
    "\x9b2J \x7f \x00": r"\x9b2J \x7f \x00",  # C1: clears the screen without ESC
    "a\rb\b": r"a\rb\x08",
    "gpj.\u202egnp": r"gpj.\u202egnp",
    os.fsdecode(b"caf\xe9.jpg"): r"caf\udce9.jpg",  # a file name in Latin-1
}


@pytest.mark.parametrize("text", SHOWN)
def test_control_characters_are_spelt_out(text: str) -> None:
    assert harmless(text) == SHOWN[text]


@pytest.mark.parametrize("text", SHOWN)
def test_whatever_a_command_writes_is_harmless(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    streams = sys.stdout, sys.stderr

    def main() -> int:
        sys.stdout.write(f"{text}\n")
        sys.stdout.writelines([f"{text}\n", text])
        raise InputError(text)

    assert exit_code(main) == 2
    assert (sys.stdout, sys.stderr) == streams
    said = capsys.readouterr()
    assert (
        said.out == f"{SHOWN[text]}\n{SHOWN[text]}\n{SHOWN[text]}"
        and said.err == f"error: {SHOWN[text]}\n"
    )


def test_a_progress_bar_still_returns_to_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        sys.stderr.write("\rstep 2 of 9\r")
        return 0

    assert exit_code(main) == 0
    assert capsys.readouterr().err == "\rstep 2 of 9\\r"


REQUIRED = {
    "ablate": ["--config", "f"], "benchmark": ["--output", "o"], "diagnose": ["--run", "r"],
    "evaluate": ["--run", "r"], "plot_losses": [], "train": ["--config", "f"],
    "predict": ["--run", "r", "a.jpg", "--output", "o"], "check": ["--config", "f"],
    "export": ["--run", "r", "--output", "o.onnx"],
}  # fmt: skip


def with_set() -> list[Path]:
    files = [*(HOME / "tools").glob("*.py"), *(HOME / "detector" / "cli").glob("*.py")]
    return sorted((path for path in files if "add_set(" in path.read_text()), key=lambda p: p.stem)


@pytest.mark.parametrize("path", with_set(), ids=lambda path: path.stem)
def test_set_takes_one_or_several_in_every_tool(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*REQUIRED[path.stem], "--set", "a.b=1", "c={d: 2}", "--set", "e==x y"]
    monkeypatch.setattr("sys.argv", [path.name, *words])
    assert load_script(path).arguments().set == ["a.b=1", "c={d: 2}", "e==x y"]


@pytest.mark.parametrize("tool", ["predict", "train"])
def test_what_is_no_pair_is_named(
    tool: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Images behind --set are the usual slip."""
    monkeypatch.setattr("sys.argv", [tool, "--run", "r", "--set", "a.b=1", "cat.jpg"])
    with pytest.raises(SystemExit) as caught:
        load_script(HOME / "detector" / "cli" / f"{tool}.py").arguments()
    assert caught.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert all(word in said for word in ("--set", "'cat.jpg'", "KEY=VALUE", "before"))
