"""Train a detector from a YAML config; leaves a run directory.

python tools/train.py --config configs/digits.yaml --set train.seed=1
torchrun --nproc-per-node 8 tools/train.py --config configs/coco_r50_1x.yaml
"""

from __future__ import annotations

import sys

from detector.cli.train import main
from detector.errors import exit_codes

if __name__ == "__main__":
    with exit_codes():
        sys.exit(main())
