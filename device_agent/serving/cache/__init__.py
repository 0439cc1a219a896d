"""Answers that were computed before, for models whose owner asked for it.

Identical requests at the same time run once. A request is found by its whole content, never by
a digest of it, and only among answers of the artifact that serves. Only for models that answer
the same to the same: one that draws random numbers or keeps state between requests must not
be given a cache.
"""

from device_agent.serving.cache.file_level import FileLevel, remove_others
from device_agent.serving.cache.kept import Kept, keep
from device_agent.serving.cache.memory_level import MemoryLevel
from device_agent.serving.cache.request_key import RequestKey
from device_agent.serving.cache.response_cache import CacheUse, ResponseCache

__all__ = [
    "CacheUse",
    "FileLevel",
    "Kept",
    "MemoryLevel",
    "RequestKey",
    "ResponseCache",
    "keep",
    "remove_others",
]
