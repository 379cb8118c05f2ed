"""Why a run's AP is what it is: where its loss lies, calibration, kinds of error, classes.

python tools/diagnose.py --run runs/digits
"""

from __future__ import annotations

import sys

from detector.cli.diagnose import main
from detector.errors import exit_codes

if __name__ == "__main__":
    with exit_codes():
        sys.exit(main())
