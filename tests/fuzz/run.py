"""Runs fuzz targets, one after the other, each in a process of its own with bounded memory.

    python -m tests.fuzz.run [--seconds 60] [--findings build/fuzz] [TARGET ...]

Needs atheris; ``make fuzz`` makes an environment that has it. What a target finds is written
to the folder of findings: copied to ``seeds/TARGET``, it is a test for ever.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

MEMORY_BYTES_MAX = 2 << 30
INPUT_BYTES_MAX = 16 << 10
# One input; the slowest seed takes a hundredth of this.
INPUT_SECONDS_MAX = 10


def fuzz_one(name: str, seconds: int, findings: Path) -> None:
    """Never returns: ends as libFuzzer ends."""
    import atheris

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    with atheris.instrument_imports(include=["edge_sdk"]):
        from edge_sdk.base import EdgeError
        from tests.fuzz.targets import SEEDS, TARGETS

    target = TARGETS[name]

    def test_one(data: bytes) -> None:
        with suppress(EdgeError):
            target(data)

    corpus = findings / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    options = {
        "max_total_time": seconds,
        "timeout": INPUT_SECONDS_MAX,
        "max_len": INPUT_BYTES_MAX,
        "rss_limit_mb": MEMORY_BYTES_MAX >> 20,
        "artifact_prefix": f"{findings}/{name}-",
        "print_final_stats": 1,
        "verbosity": 1,
    }
    flags = [f"-{option}={value}" for option, value in options.items()]
    atheris.Setup([sys.argv[0], *flags, str(corpus), str(SEEDS / name)], test_one)
    atheris.Fuzz()


def fuzz_all(names: list[str], seconds: int, findings: Path) -> int:
    """The number of targets that found something."""
    findings.mkdir(parents=True, exist_ok=True)
    found = []
    for name in names:
        log = findings / f"{name}.log"
        command = [sys.executable, "-m", "tests.fuzz.run", "--alone", name]
        options = ["--seconds", str(seconds), "--findings", str(findings)]
        with log.open("wb") as stream:
            ended = subprocess.run(
                [*command, *options], stdout=stream, stderr=subprocess.STDOUT, check=False
            )
        stats = dict(
            line.removeprefix("stat::").split(":", 1)
            for line in log.read_text("utf-8", "replace").splitlines()
            if line.startswith("stat::")
        )
        runs = stats.get("number_of_executed_units", "?").strip()
        memory = stats.get("peak_rss_mb", "?").strip()
        verdict = "nothing found" if ended.returncode == 0 else f"FOUND SOMETHING: see {log}"
        print(f"{name}: {runs} inputs, {memory} MB, {verdict}", flush=True)
        if ended.returncode != 0:
            found.append(name)
    return len(found)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run fuzz targets.")
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--seconds", type=int, default=60, help="per target")
    parser.add_argument("--findings", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        fuzz_one(options.alone, options.seconds, options.findings)
        return 0
    from tests.fuzz.targets import TARGETS

    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(
            f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}"
        )
    return min(1, fuzz_all(options.targets or list(TARGETS), options.seconds, options.findings))


if __name__ == "__main__":
    raise SystemExit(main())
