"""The command's name before training had a package of its own; `python -m export.training` is the same."""

from __future__ import annotations

import sys

from export.training.train import main

if __name__ == "__main__":
    sys.exit(main())
