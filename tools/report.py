"""The page of a run: RUN/report.html, which needs nothing else; evaluates the run where it must.

python tools/report.py --run runs/digits
"""

from __future__ import annotations

import sys

from detector.cli.report import main
from detector.errors import exit_codes

if __name__ == "__main__":
    with exit_codes():
        sys.exit(main())
