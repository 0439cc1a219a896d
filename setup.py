"""Builds what is compiled, where there is a C compiler: the coder's kernel, and on Linux the fast
lane's channel and the counting of requests. All else is in pyproject.toml.

EDGE_DELTA_KERNEL=require makes a failure to build them an error; =skip leaves them out. Without
them the package works with NumPy and Python alone, slower; ``edge-delta inspect`` tells which
coder is used.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel

_SWITCH = os.environ.get("EDGE_DELTA_KERNEL", "auto")
_SOURCES = ("common", "statistics", "encoder", "decoder", "parser", "module")
# The buffers of the limited API came with 3.11, and builds without the interpreter's lock have
# no limited API.
_LIMITED = sys.version_info >= (3, 11) and not sysconfig.get_config_var("Py_GIL_DISABLED")


def _extension(name: str, sources: Sequence[str], depends: Sequence[Path] = ()) -> Extension:
    return Extension(
        name,
        [f"csrc/{source}.c" for source in sources],
        depends=[str(path) for path in depends],
        extra_compile_args=["-std=c11", "-O3", "-g0", "-Wall", "-Wextra"],
        define_macros=[("Py_LIMITED_API", "0x030B0000")] if _LIMITED else [],
        py_limited_api=_LIMITED,
        optional=_SWITCH != "require",
    )


def _extensions() -> list[Extension]:
    if _SWITCH == "skip":
        return []
    made = [_extension("edge_sdk.delta._kernel", _SOURCES, sorted(Path("csrc").glob("*.h")))]
    if sys.platform == "linux":
        made.append(_extension("edge_sdk.fastlane._channel", ["channel"]))
        made.append(_extension("device_agent.statistics_page._sums", ["sums"]))
    return made


class _Wheel(bdist_wheel):
    """Tags the wheel by what was built into it."""

    def finalize_options(self) -> None:
        if _LIMITED and self.distribution.ext_modules:
            self.py_limited_api = "cp311"
        super().finalize_options()

    def get_tag(self) -> tuple[str, str, str]:
        build = self.get_finalized_command("build_ext")
        outputs = [Path(path) for path in build.get_outputs()]
        if any(path.exists() for path in outputs):
            return super().get_tag()
        return ("py3", "none", "any")


setup(
    ext_modules=_extensions(),
    cmdclass={"bdist_wheel": _Wheel},
)
