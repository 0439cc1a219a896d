"""Finds out on this device how one of its models is served best, and keeps that.

Measures the real artifact in processes of their own; what serves is not touched.
"""

from device_agent.tuning.choose import Figures, Goal, Setting, Wish
from device_agent.tuning.kept import (
    Basis,
    Kept,
    Tuned,
    basis_here,
    forget,
    keep,
    package_of,
    read_kept,
    why_not,
)
from device_agent.tuning.search import Found, Search, Tried, words
from device_agent.tuning.trial import Job, ProcessTrials, Trials

__all__ = [
    "Basis",
    "Figures",
    "Found",
    "Goal",
    "Job",
    "Kept",
    "ProcessTrials",
    "Search",
    "Setting",
    "Trials",
    "Tried",
    "Tuned",
    "Wish",
    "basis_here",
    "forget",
    "keep",
    "package_of",
    "read_kept",
    "why_not",
    "words",
]
