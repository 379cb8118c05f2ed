"""Train every variant of an ablation from every seed, and compare them.

python tools/ablate.py --config configs/ablations/background.yaml --output runs/background
"""

from __future__ import annotations

import sys

from detector.cli.ablate import main
from detector.errors import run_command

if __name__ == "__main__":
    sys.exit(run_command(main))
