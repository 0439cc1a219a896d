"""Turns on the engines: by priority and weight, within bounds, and together where that pays."""

from device_agent.serving.scheduling.batching import BatchCosts
from device_agent.serving.scheduling.line import HIGH, LOW, MEDIUM, ModelQueue, WaitingLine
from device_agent.serving.scheduling.scheduler import ALONE, Load, Scheduler, Waiting, WhenGone

__all__ = [
    "ALONE",
    "HIGH",
    "LOW",
    "MEDIUM",
    "BatchCosts",
    "Load",
    "ModelQueue",
    "Scheduler",
    "Waiting",
    "WaitingLine",
    "WhenGone",
]
