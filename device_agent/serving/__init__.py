"""The inference process: answers requests from proved models, and swaps them while it does.

It never downloads, decides or writes the store (its files of answers are no part of that);
what to serve it is told by the updater on a socket, and on a start by the slots. A request
never waits for an update.
"""

from device_agent.serving.dispatch import Dispatcher
from device_agent.serving.generation import Generation
from device_agent.serving.hot_swap import Swapper
from device_agent.serving.model_table import ModelTable
from device_agent.serving.process import InferenceProcess

__all__ = ["Dispatcher", "Generation", "InferenceProcess", "ModelTable", "Swapper"]
