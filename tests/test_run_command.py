"""What a command leaves behind when something ends it."""

import errno
import subprocess
import sys

import pytest

from detector.errors import run_command

PROGRAM = """
import sys
from detector.errors import run_command

def main():
    for _ in range(100_000):
        print("a line of output")
    return 0

sys.exit(run_command(main))
"""


def test_a_reader_that_goes_away_leaves_no_traceback() -> None:
    command = f"set -o pipefail; {sys.executable} -c '{PROGRAM}' | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (141, "a line of output\n", "")


def fail(number: int) -> int:
    raise OSError(number, "what the system says", "runs/a.json")


def test_a_full_disk_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(lambda: fail(errno.ENOSPC)) == 2
    assert capsys.readouterr().err == (
        "error: runs/a.json cannot be written whole: what the system says. Make room, then give "
        "the command again (a training: with --resume); what was whole stays.\n"
    )


def test_another_fault_of_the_system_keeps_its_traceback() -> None:
    with pytest.raises(OSError, match="what the system says"):
        run_command(lambda: fail(errno.EIO))
