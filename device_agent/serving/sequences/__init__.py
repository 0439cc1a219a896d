"""State that a model keeps from one request of a sequence to the next, as explicit tensors.

It never leaves this process: a restart, a switch to another artifact or too little memory ends
sequences with an error that says to start again, never with an answer from a wrong state.
"""

from device_agent.serving.sequences.states import SequenceStates, Turn
from device_agent.serving.sequences.values import Sequence

__all__ = ["Sequence", "SequenceStates", "Turn"]
