"""What every tool may write to a terminal."""

import os
import sys

import pytest

from detector.command_line import harmless
from detector.errors import InputError, run_command

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
        raise InputError(text)

    assert run_command(main) == 2
    assert (sys.stdout, sys.stderr) == streams
    said = capsys.readouterr()
    assert said.out == f"{SHOWN[text]}\n" and said.err == f"error: {SHOWN[text]}\n"


def test_a_progress_bar_still_returns_to_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        sys.stderr.write("\rstep 2 of 9\r")
        return 0

    assert run_command(main) == 0
    assert capsys.readouterr().err == "\rstep 2 of 9\\r"
