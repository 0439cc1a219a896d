"""``python -m edge_sdk.fleet`` is ``edge-fleet``."""

from __future__ import annotations

from edge_sdk.fleet.cli import main

if __name__ == "__main__":
    main()
