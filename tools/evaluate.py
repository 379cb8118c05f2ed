"""COCO metrics of a run on its validation set, or of anybody's COCO result file.

python tools/evaluate.py --run runs/digits
python tools/evaluate.py --detections detections.json --ground-truth annotations.json
"""

from __future__ import annotations

import sys

from detector.cli.evaluate import main
from detector.errors import exit_codes

if __name__ == "__main__":
    with exit_codes():
        sys.exit(main())
