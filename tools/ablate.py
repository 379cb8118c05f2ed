"""Train every variant of an ablation from every seed, and compare them.

python tools/ablate.py --config configs/ablations/background.yaml --output runs/background
"""

from __future__ import annotations

import sys

from detector.cli.ablate import main
from detector.errors import exit_codes

if __name__ == "__main__":
    with exit_codes():
        sys.exit(main())
