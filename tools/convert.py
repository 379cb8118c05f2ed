"""Convert Pascal VOC, YOLO, LabelMe, CSV or a dialect of COCO to the COCO JSON of this project.

python tools/convert.py photographs/ --to data/mine --split 0.2
python tools/convert.py labels.csv --images photographs/ --to data/mine
"""

from __future__ import annotations

import sys

from detector.cli.convert import main
from detector.errors import exit_codes

if __name__ == "__main__":
    with exit_codes():
        sys.exit(main())
