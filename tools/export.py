"""Export a detector, with decoding and NMS inside, to ONNX or torch.export.

python tools/export.py --run runs/digits --output runs/digits/detector.onnx
"""

from __future__ import annotations

import sys

from detector.cli.export import main
from detector.errors import exit_codes

if __name__ == "__main__":
    with exit_codes():
        sys.exit(main())
