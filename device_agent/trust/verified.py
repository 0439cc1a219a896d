"""What one look at the metadata has proved; roles that are delegated follow as asked for."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.api.metadata import TargetFile, Targets

from device_agent.trust.explain import disk_or_trust, explain
from edge_sdk.base import ModelName, Version
from edge_sdk.trust import floors_in, namespace_role


class Walker(Protocol):
    """What this needs of the client (client.py)."""

    @property
    def now(self) -> datetime: ...

    def loaded(self) -> dict[str, Targets]: ...

    def get_targetinfo(self, target_path: str) -> TargetFile | None: ...


class Verified:
    """One consistent state of the repository. Used by one thread at a time."""

    def __init__(self, client: Walker) -> None:
        self._client = client

    @property
    def now(self) -> datetime:
        """The time that it is at least: the clock's, or the last signed one."""
        return self._client.now

    @property
    def targets(self) -> Targets:
        """The targets of the top level: who assigns, and who answers for which namespace."""
        return self._client.loaded()[Targets.type]

    def target(self, path: str) -> TargetFile | None:
        """What the publisher signed under ``path``; None where nobody did.

        Raises: TrustError, UnavailableError, ResourceError.
        """
        try:
            return self._client.get_targetinfo(path)
        except (RepositoryError, DownloadError) as error:
            raise explain(error) from error
        except OSError as error:
            raise disk_or_trust(error) from error

    def floor(self, model: ModelName) -> Version | None:
        """The highest floor that the publisher signed for any version of ``model``, as the
        namespace's own document says, which repeats the floors of all its bins. Ask for the
        version in question first: other documents may write what they like."""
        own = self._client.loaded().get(namespace_role(model.namespace))
        return floors_in([] if own is None else [own]).get(str(model))
