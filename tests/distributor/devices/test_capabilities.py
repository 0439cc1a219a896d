"""What a device can do survives its way through JSON."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from distributor.devices.capabilities import read_facts, write_facts
from distributor.planning import DecoderFacts, DeviceFacts, EngineFacts

NAMES = st.text(max_size=10)
FACTS = st.builds(
    DeviceFacts,
    device=st.just("cam-1"),
    decoder=st.builds(
        DecoderFacts,
        versions=st.frozensets(st.integers(0, 9)),
        methods=st.frozensets(NAMES),
        memory_bytes=st.integers(0, 2**53),
    ),
    engines=st.lists(
        st.builds(
            EngineFacts,
            name=NAMES,
            version=NAMES,
            ir_version_max=st.integers(0, 99),
            opset_max=st.dictionaries(NAMES, st.integers(0, 99)),
        ),
        max_size=3,
    ).map(tuple),
    architecture=NAMES,
    memory_bytes=st.integers(0, 2**53),
    accelerators=st.frozensets(NAMES),
    disk_free_bytes=st.none() | st.integers(0, 2**53),
    labels=st.dictionaries(NAMES, NAMES),
)


@settings(max_examples=100, deadline=None)
@given(FACTS)
def test_facts_come_back(facts: DeviceFacts) -> None:
    """Writing facts as JSON and reading them gives the same facts."""
    stored = json.loads(json.dumps(write_facts(facts)))
    found = read_facts("cam-1", stored, disk_free_bytes=facts.disk_free_bytes, labels=facts.labels)
    assert found == facts
