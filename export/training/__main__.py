"""`python -m export.training`."""

from __future__ import annotations

import sys

from export.training.train import main

if __name__ == "__main__":
    sys.exit(main())
