"""Detect objects in images and videos, and draw them.

python tools/predict.py --run runs/digits data/digits/val --output found
"""

from __future__ import annotations

import sys

from detector.cli.predict import main
from detector.errors import exit_codes

if __name__ == "__main__":
    with exit_codes():
        sys.exit(main())
