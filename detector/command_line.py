"""What all commands share: `--set`, and output whose control characters are escaped."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TextIO, cast

# C0 and C1 controls but tab and newline, overrides of the writing direction, lone surrogates
COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def program(command: str) -> str:
    """What a person typed to start `command`, for its usage: tools/COMMAND.py, or `detector`."""
    script = Path(sys.argv[0]).name
    return script if script == f"{command}.py" else f"detector {command}"


def python_arguments() -> list[str]:
    """What Python was started with: SCRIPT WORDS ..., or -m detector WORDS ..."""
    script, *words = sys.argv
    # that file as a script would find the package's modules, and not the package
    return ["-m", "detector", *words] if Path(script).name == "__main__.py" else list(sys.argv)


def add_set(parser: argparse.ArgumentParser, help: str) -> None:  # noqa: A002 as argparse has it
    """Add the option --set KEY=VALUE ..., which may be repeated; its value is a list of texts."""
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", type=_pair, help=help
    )


def _pair(text: str) -> str:
    if "=" not in text:
        raise argparse.ArgumentTypeError(
            f"found {text!r}, it should be KEY=VALUE, as optimizer.lr=1e-3; anything else goes "
            "before --set"
        )
    return text


def harmless(text: str) -> str:
    r"""`text` with control characters escaped, as `\x1b`: they could move cursors or set titles."""
    return COMMANDS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


@contextmanager
def harmless_output() -> Iterator[None]:
    """Escape control characters in what the block writes to stdout and stderr."""
    stdout, stderr = (cast(TextIO, _Harmless(stream)) for stream in (sys.stdout, sys.stderr))
    with redirect_stdout(stdout), redirect_stderr(stderr):
        yield


class _Harmless:
    """A text stream that writes to another one, with control characters escaped."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        # with which a progress bar returns to the start of its line
        bar = "\r" if text.startswith("\r") else ""
        self.stream.write(bar + harmless(text.removeprefix("\r")))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
