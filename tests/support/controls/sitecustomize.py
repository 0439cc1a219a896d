"""Takes exactly one check out of a process of the product, for the controls of tests/attacks.

Python runs this module at its start in every process whose PYTHONPATH names this folder. What
EDGE_TEST_CONTROL names is changed right after the module that has it was imported: the product
itself has no switch for it.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

Change = Callable[[Any], None]


def _nothing(*_: object, **__: object) -> None:
    pass


def _replace(name: str, value: object) -> Change:
    """``Class.attribute`` or ``function`` of the module is ``value`` from now on."""

    def change(module: Any) -> None:
        owner, _, attribute = name.rpartition(".")
        setattr(getattr(module, owner) if owner else module, attribute, value)

    return change


def _unsealed(module: Any) -> None:
    from edge_sdk.trust import peek_assignment

    module.check_signed = lambda envelope, targets: peek_assignment(envelope)


def _one_is_enough(module: Any) -> None:
    module.VerificationResult.verified = property(lambda found: len(found.signed) >= 1)


def _without_waiting(module: Any) -> None:
    module.judge = lambda others, needed: module.Verdict.GO


def _whatever_comes(module: Any) -> None:
    def fetch(transfer: Any, span: Any) -> None:
        for data in transfer._link.fetch(transfer._delta, offset=span.offset, length=span.length):
            if transfer._stopped:
                return
            if data:
                transfer._room.acquire()
                transfer._loop.put(transfer._deliver(data))

    module.Transfer._fetch = fetch


def _any_size(module: Any) -> None:
    module.metadata_bytes_max = lambda role: 1 << 30


def _hasty(module: Any) -> None:
    """The check as it is, with less patience: a test cannot wait for two minutes."""
    module.Pace.__init__.__kwdefaults__.update(deadline_s=3.0)


def _unhurried(module: Any) -> None:
    module.keep_pace = lambda chunks, *_: chunks


def _open_when_it_cannot_see(module: Any) -> None:
    """Takes an assignment as it is where the metadata cannot be had."""
    from edge_sdk.base import UnavailableError
    from edge_sdk.manifest import decode_assignment
    from edge_sdk.trust import peek_assignment

    judge = module.Gate.judge

    def open_judge(gate: Any, envelope: bytes, **told: Any) -> Any:
        try:
            return judge(gate, envelope, **told)
        except UnavailableError:
            document = peek_assignment(envelope)
            return module.Judged(
                document=document, assignment=decode_assignment(document), floors={}
            )

    module.Gate.judge = open_judge


def _ever_fresh(module: Any) -> None:
    module.Signed.is_expired = lambda signed, reference_time=None: False


def _signed_by_anyone(module: Any) -> None:
    module._DelegatorMixin.verify_delegate = _nothing


def _bare_version_marks(module: Any) -> None:
    """Remembers the highest version of a timestamp instead of its verified bytes."""
    from tuf.api.exceptions import BadVersionNumberError

    load = module.Client._load_timestamp

    def load_with_mark(client: Any) -> None:
        load(client)
        version = client._trusted_set.timestamp.version
        mark = client._cache.parent / "highest"
        highest = int(mark.read_text()) if mark.exists() else 0
        if version < highest:
            raise BadVersionNumberError(f"version {version} is below {highest}")
        mark.write_text(str(version))

    module.Client._load_timestamp = load_with_mark


CONTROLS: dict[str, tuple[str, Change]] = {
    "announced": ("device_agent.updater.fetch", _whatever_comes),
    "authority": (
        "edge_sdk.identity.calls",
        _replace("check_authority", lambda token, shown: shown[0]),
    ),
    "bare marks": ("device_agent.trust.client", _bare_version_marks),
    "clock": ("device_agent.trust.client", _replace("Client._raise_clock", _nothing)),
    "device": ("device_agent.trust.assignment", _replace("check_device", _nothing)),
    "envelope": ("device_agent.trust.gate", _unsealed),
    "expiry": ("tuf.api._payload", _ever_fresh),
    "fail closed": ("device_agent.trust.gate", _open_when_it_cannot_see),
    "floor": ("device_agent.trust.assignment", _replace("check_floor", _nothing)),
    "group": ("device_agent.updater.together", _without_waiting),
    "its own name": ("device_agent.updater.admit", _replace("check_name", _nothing)),
    "marks": ("device_agent.trust.marks", _replace("put_back", _nothing)),
    "patience": ("device_agent.trust.fetcher", _hasty),
    "pace": ("device_agent.trust.fetcher", _unhurried),
    "root digest": ("edge_sdk.identity.calls", _replace("check_root", _nothing)),
    "signature": ("tuf.api._payload", _signed_by_anyone),
    "size": ("edge_sdk.trust", _any_size),
    "steps": (
        "device_agent.updater.deliver",
        _replace("Deliverer._believed", lambda deliverer, steps, known: steps),
    ),
    "target": ("device_agent.trust.gate", _replace("check_target", _nothing)),
    "threshold": ("tuf.api._payload", _one_is_enough),
}


class _After(importlib.abc.MetaPathFinder):
    """Finds one module as everybody else does, and changes it once it is there."""

    def __init__(self, name: str, change: Change) -> None:
        self._name = name
        self._change = change

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        loader: Any = spec.loader if spec is not None else None
        if loader is None:
            return spec
        execute = loader.exec_module

        def changed(module: ModuleType) -> None:
            execute(module)
            self._change(module)

        loader.exec_module = changed
        return spec


for _control in filter(None, os.environ.get("EDGE_TEST_CONTROL", "").split(",")):
    sys.meta_path.insert(0, _After(*CONTROLS[_control]))
