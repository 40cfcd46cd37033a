"""`python -m export.trt`."""

from __future__ import annotations

import sys

from export.trt import main

if __name__ == "__main__":
    sys.exit(main())
