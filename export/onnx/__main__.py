"""`python -m export.onnx`."""

from __future__ import annotations

import sys

from export.onnx import main

if __name__ == "__main__":
    sys.exit(main())
