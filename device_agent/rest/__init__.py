"""The REST form of the inference protocol, so that curl works.

A process of its own that speaks gRPC to the inference process: no JSON is read or written in
threads that share an interpreter with what serves. Needs an extra.
"""

from device_agent.rest.run import check_rest, run_rest

__all__ = ["check_rest", "run_rest"]
