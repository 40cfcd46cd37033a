"""`python -m export.coreml`."""

from __future__ import annotations

import sys

from export.coreml import main

if __name__ == "__main__":
    sys.exit(main())
