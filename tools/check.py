"""What is wrong with a config's data set, and how its anchors fit, before a training.

python tools/check.py --config configs/digits.yaml
"""

from __future__ import annotations

import sys

from detector.cli.check import main
from detector.errors import exit_codes

if __name__ == "__main__":
    with exit_codes():
        sys.exit(main())
