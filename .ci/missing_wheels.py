"""Names what a folder of wheels still lacks for a device's Python, one requirement a word.

Usage: missing_wheels.py FOLDER PYTHON_VERSION ARCHITECTURE EXTRA

Walks from our own wheel over the ``Requires-Dist`` of every wheel in the folder, with the
markers of the *device's* environment, which pip's own download does not use.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

OURS = "edge-model-sdk"


def requirements_of(wheel: Path) -> list[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    return [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]


def device_environment(version: str, architecture: str) -> dict[str, str]:
    return {
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": architecture,
        "python_version": version,
        "python_full_version": f"{version}.0",
        "implementation_version": f"{version}.0",
    }


def missing(wheels: dict[str, Path], environment: dict[str, str], extra: str) -> Iterator[str]:
    """Requirements (name and bounds) that apply on the device and have no wheel here."""
    waiting = [(OURS, extra)]
    seen = set(waiting)
    while waiting:
        name, extra = waiting.pop()
        for requirement in requirements_of(wheels[name]):
            marker = requirement.marker
            if marker and not marker.evaluate({**environment, "extra": extra}):
                continue
            needed = canonicalize_name(requirement.name)
            if needed not in wheels:
                yield f"{needed}{requirement.specifier}"
                continue
            for one in {(needed, asked) for asked in (*requirement.extras, "")} - seen:
                seen.add(one)
                waiting.append(one)


def main() -> None:
    folder, version, architecture, extra = sys.argv[1:]
    wheels = {
        canonicalize_name(parse_wheel_filename(path.name)[0]): path
        for path in sorted(Path(folder).glob("*.whl"))
    }
    found = missing(wheels, device_environment(version, architecture), extra)
    print(" ".join(sorted(set(found))))  # noqa: T201


if __name__ == "__main__":
    main()
