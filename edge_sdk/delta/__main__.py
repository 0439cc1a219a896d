"""``python -m edge_sdk.delta`` is ``edge-delta``."""

from __future__ import annotations

from edge_sdk.delta.cli import main

if __name__ == "__main__":
    main()
