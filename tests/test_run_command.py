"""What a command leaves behind when something ends it."""

import subprocess
import sys

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
