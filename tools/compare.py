"""The difference in AP of two evaluated runs, or of two COCO result files, with its interval.

python tools/compare.py runs/cross_entropy runs/focal
python tools/compare.py first.json second.json --ground-truth annotations.json
"""

from __future__ import annotations

import sys

from detector.cli.compare import main
from detector.errors import exit_codes

if __name__ == "__main__":
    with exit_codes():
        sys.exit(main())
