"""Branches of everything that decodes: at least 95 % of each file, with kernel and with twin.

Usage: coverage_delta.py FOLDER [WORKERS]

Tests run in a copy of the tree below FOLDER, with a kernel that counts its branches, so that
nothing that counts is left in the tree itself. What was decoded is printed as a table.
"""

# ruff: noqa: T201  # a table is what it is for

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections import defaultdict
from pathlib import Path

FLOOR_PERCENT = 95.0
DELTA = [
    *("__init__", "addresses", "apply", "container", "decoder", "files", "frames", "low_rank"),
    *("prediction", "products", "prover", "records", "strides", "text_map"),
    *("value_maps", "varint"),
]
CODER = ("kernel", "leaning", "rans", "rawbits", "tables", "twin")
WHOLE_FOLDERS = ("edge_sdk/delta/methods", "edge_sdk/formats")
KERNEL_PARTS = ("common", "statistics", "encoder", "decoder", "parser")
KERNEL_FILES = (
    "common.c",
    "common.h",
    "decoder.c",
    "decoder_passes.h",
    "elements.h",
    "module.c",
    "parser.c",
)
# Nothing of it runs where the processor has no such passes. (What asks the processor, processor.h,
# has one answer on each machine.)
WIDE_FILES = ("decoder_avx512.h",)
# Those that are about decoding. All others take the same branches again.
TESTS = (
    *(f"tests/edge_sdk/delta/test_{name}.py" for name in DELTA if name != "__init__"),
    *("tests/edge_sdk/delta/coder", "tests/edge_sdk/delta/methods", "tests/edge_sdk/formats"),
    *("tests/fuzz", "tests/attacks/test_bad_inputs.py"),
)
# Their processes are measured by nobody, and take a minute.
LEFT_OUT = "tests/edge_sdk/delta/coder/test_kernel.py::test_nothing_outside_is_touched"
FUZZ_INPUTS, FUZZ_SEED = "500", "1"
Percents = dict[str, float]


def main() -> int:
    folder = Path(sys.argv[1]).resolve()
    workers = sys.argv[2] if len(sys.argv) > 2 else "2"
    tree = copied_tree(Path.cwd(), folder / "tree")
    objects = build_kernel(tree, folder / "objects")
    ways = {way: measure(tree, folder, way, workers) for way in ("require", "skip")}
    subprocess.run([objects / "fuzz", FUZZ_INPUTS, FUZZ_SEED], check=True, cwd=tree)
    kernel = kernel_branches(objects)
    low = print_table(tree, ways["require"], ways["skip"], kernel)
    print(f"below {FLOOR_PERCENT:.0f} %: {', '.join(low) or 'none'}")
    return 1 if low else 0


def copied_tree(root: Path, tree: Path) -> Path:
    """What tests need, without what was built."""
    shutil.rmtree(tree, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        cwd=root,
        capture_output=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (root / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, tree / name)
    return tree


def build_kernel(tree: Path, objects: Path) -> Path:
    """The extension in the tree and the fuzzer of the kernel, both of the same counting objects.
    Nothing is optimised, so that each branch of the source is one."""
    shutil.rmtree(objects, ignore_errors=True)
    objects.mkdir(parents=True)
    compiler = os.environ.get("CC", "gcc")
    flags = ["-std=c11", "-O0", "-g", "-fPIC", "--coverage", "-fprofile-update=atomic"]
    include = f"-I{sysconfig.get_path('include')}"
    for name in (*KERNEL_PARTS, "module", "fuzz_decode"):
        defined = ["-DFUZZ_MAIN", "-DPy_LIMITED_API=0x030B0000", include]
        command = [compiler, *flags, *defined, "-c", f"csrc/{name}.c", "-o", objects / f"{name}.o"]
        subprocess.run(command, check=True, cwd=tree)
    parts = [objects / f"{name}.o" for name in KERNEL_PARTS]
    extension = tree / "edge_sdk" / "delta" / "_kernel.abi3.so"
    link = [compiler, "--coverage"]
    subprocess.run([*link, "-shared", *parts, objects / "module.o", "-o", extension], check=True)
    subprocess.run([*link, *parts, objects / "fuzz_decode.o", "-o", objects / "fuzz"], check=True)
    return objects


def measure(tree: Path, folder: Path, way: str, workers: str) -> Percents:
    """Branches that the tests take in Python, by file; ``way``: which kernel is used."""
    settings = folder / "coveragerc"
    settings.write_text(
        "[run]\nbranch = true\nsource_pkgs = edge_sdk\npatch = subprocess\nparallel = true\n"
        "sigterm = true\ndisable_warnings = module-not-imported, no-data-collected\n"
    )
    data = folder / f"{way}.coverage"
    for old in folder.glob(f"{data.name}*"):
        old.unlink()
    environment = {**os.environ, "EDGE_DELTA_KERNEL": way, "COVERAGE_FILE": str(data)}
    # An environment without the tree's package, and one where it is installed, find it here.
    environment["PYTHONPATH"] = str(tree)
    coverage = [sys.executable, "-m", "coverage"]
    configured = f"--rcfile={settings}"
    tests = ["-m", "pytest", "-q", "-n", workers, "--dist", "loadfile", *TESTS]
    tests += ["--deselect", LEFT_OUT]
    for command in (
        ["run", configured, *tests],
        ["combine", "-q", configured],
        ["json", "-q", configured, "-o", f"{data}.json"],
    ):
        subprocess.run([*coverage, *command], check=True, cwd=tree, env=environment)
    report = json.loads(Path(f"{data}.json").read_text())
    return {
        path: 100 * found["covered_branches"] / (found["num_branches"] or 1)
        if found["num_branches"]
        else 100.0
        for path, found in ((path, one["summary"]) for path, one in report["files"].items())
    }


def kernel_branches(objects: Path) -> Percents:
    """Branches that were taken in C, by file. A function of several widths is as many."""
    counts: dict[str, dict[tuple[object, ...], int]] = defaultdict(lambda: defaultdict(int))
    for name in (*KERNEL_PARTS, "module"):
        command = ["gcov", "--branch-probabilities", "--json-format", "--stdout", f"{name}.gcda"]
        found = subprocess.run(command, check=True, cwd=objects, capture_output=True)
        for file in json.loads(found.stdout)["files"]:
            for line in file["lines"]:
                for number, branch in enumerate(line["branches"]):
                    place = (line["line_number"], line.get("function_name"), number)
                    counts[Path(file["file"]).name][place] += branch["count"]
    return {
        name: 100 * sum(count > 0 for count in branches.values()) / len(branches)
        for name, branches in counts.items()
    }


def python_files(tree: Path) -> list[str]:
    """Those that decode."""
    listed = [f"edge_sdk/delta/{name}.py" for name in DELTA]
    listed += [f"edge_sdk/delta/coder/{name}.py" for name in CODER]
    for folder in WHOLE_FOLDERS:
        listed += sorted(str(path.relative_to(tree)) for path in (tree / folder).glob("*.py"))
    return listed


def print_table(tree: Path, kernel: Percents, twin: Percents, parts: Percents) -> list[str]:
    """Returns the names of those that are below the floor."""
    low = []
    print(f"{'file':<44}{'kernel':>9}{'twin':>9}")
    for path in python_files(tree):
        alone = path.endswith("coder/kernel.py")  # not loaded where the twin is
        shown = [kernel[path]] if alone else [kernel[path], twin[path]]
        print(f"{path:<44}" + "".join(f"{percent:8.1f}%" for percent in shown))
        low += [path] if min(shown) < FLOOR_PERCENT else []
    for name in (*KERNEL_FILES, *WIDE_FILES):
        percent = parts.get(name, 100.0)
        is_idle = name in WIDE_FILES and not percent
        note = "  not on this processor" if is_idle else ""
        print(f"csrc/{name:<39}{percent:8.1f}%{note}")
        low += [f"csrc/{name}"] if percent < FLOOR_PERCENT and not is_idle else []
    return low


if __name__ == "__main__":
    sys.exit(main())
