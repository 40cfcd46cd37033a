"""`python -m export.training`: labelled frames in, weights and the record of how they came about out."""

from __future__ import annotations

import sys

from export.training.train import main

if __name__ == "__main__":
    sys.exit(main())
