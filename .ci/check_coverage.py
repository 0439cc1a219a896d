"""Holds statement coverage: 95 % of edge_sdk, 85 % of each other package.

Usage: check_coverage.py build/coverage.json (as `coverage json` writes it)
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

FLOORS_PERCENT = {"edge_sdk": 95.0, "device_agent": 85.0, "distributor": 85.0, "quantize": 85.0}


def percent_by_package(report: dict) -> dict[str, float]:
    """The share of executed statements of each package of FLOORS_PERCENT."""
    statements: Counter[str] = Counter()
    covered: Counter[str] = Counter()
    for name, file in report["files"].items():
        for package in FLOORS_PERCENT:
            if package in Path(name).parts:
                statements[package] += file["summary"]["num_statements"]
                covered[package] += file["summary"]["covered_lines"]
    return {
        package: 100 * covered[package] / statements[package] if statements[package] else 0.0
        for package in FLOORS_PERCENT
    }


def main() -> int:
    found = percent_by_package(json.loads(Path(sys.argv[1]).read_text()))
    too_low = {package for package, floor in FLOORS_PERCENT.items() if found[package] < floor}
    for package, floor in FLOORS_PERCENT.items():
        mark = "TOO LOW" if package in too_low else "ok"
        print(f"coverage of {package:<14}{found[package]:6.1f} %  at least {floor:.0f} %  {mark}")  # noqa: T201
    return 1 if too_low else 0


if __name__ == "__main__":
    sys.exit(main())
