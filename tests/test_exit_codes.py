"""What a command leaves behind when something ends it."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import exit_code

PROGRAM = """
import sys
from detector.errors import exit_codes

def main():
    for _ in range(100_000):
        print("a line of output")
    return 0

with exit_codes():
    sys.exit(main())
"""


def test_a_reader_that_goes_away_leaves_no_traceback() -> None:
    command = f"set -o pipefail; {sys.executable} -c '{PROGRAM}' | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (141, "a line of output\n", "")


def test_a_text_on_a_full_disk_is_named_and_leaves_no_draft(tmp_path: Path) -> None:
    """In a process of its own: a limit on the size of a file stands for the end of the disk."""
    program = (
        "import resource, sys; from pathlib import Path; from detector.errors import exit_codes;"
        "from detector.files import write_text; resource.setrlimit(resource.RLIMIT_FSIZE, (9, 9))\n"
        "with exit_codes(): write_text(Path(sys.argv[1]), 'x' * 10_000)"
    )
    file = tmp_path / "config.yaml"
    done = subprocess.run(
        [sys.executable, "-c", program, str(file)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith(f"error: {file} cannot be written whole: File too large.")
    assert not list(tmp_path.iterdir())


def fail(number: int) -> int:
    raise OSError(number, "what the system says", "runs/a.json")


def test_a_full_disk_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(lambda: fail(errno.ENOSPC)) == 2
    assert capsys.readouterr().err == (
        "error: runs/a.json cannot be written whole: what the system says. Make room, then give "
        "the command again (a training: with --resume); what was whole stays.\n"
    )


def test_a_name_too_long_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    name = "x" * 256
    assert exit_code(lambda: int(Path(name).exists())) == 2
    assert capsys.readouterr().err == f"error: {name}: File name too long; shorten it.\n"


def test_a_name_that_is_no_text_is_printed_harmlessly() -> None:
    program = (
        "import sys; from detector.errors import exit_codes\nwith exit_codes(): print(sys.argv[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, b"caf\xe9"],
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"caf\\udce9\n", b"")


def test_another_fault_of_the_system_keeps_its_traceback() -> None:
    with pytest.raises(OSError, match="what the system says"):
        exit_code(lambda: fail(errno.EIO))
