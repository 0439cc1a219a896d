"""``python -m distributor`` is ``edge-distributor``."""

from __future__ import annotations

from distributor.cli import main

if __name__ == "__main__":
    main()
