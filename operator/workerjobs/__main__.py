"""``workerjobs`` and ``python -m workerjobs``."""

from __future__ import annotations

import sys

from workerjobs.cli import main

if __name__ == "__main__":
    sys.exit(main())
