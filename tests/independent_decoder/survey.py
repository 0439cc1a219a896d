"""What a container uses, so that a test can say that it tests what it means to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.independent_decoder.code_tables import CodeTable
from tests.independent_decoder.decode import END, TABLE, Decoder
from tests.independent_decoder.predictions import Prediction
from tests.independent_decoder.reading import Reader


@dataclass
class Survey:
    """The kinds of records, of predictions and of code tables of one container."""

    methods: set[int] = field(default_factory=set)
    value_maps: set[int] = field(default_factory=set)
    strides: set[int] = field(default_factory=set)
    ranges: set[int] = field(default_factory=set)
    models: set[int] = field(default_factory=set)
    levels: set[int] = field(default_factory=set)


def survey(delta: bytes, sources: Sequence[bytes]) -> Survey:
    """What stands in the records; nothing is decoded but tables."""
    decoder = Decoder(delta, sources, 1 << 32)
    found = Survey()
    while (record := decoder.record()).kind != END:
        if record.kind != TABLE:
            found.methods.add(record.kind)
            continue
        reader = Reader(record.body)
        if reader.varint() >= 8:
            code = CodeTable(reader.rest())
            found.models.add(code.model)
            found.levels.add(code.levels)
            continue
        prediction = Prediction(reader.rest(), decoder.sources, decoder.prefix.header.maps)
        found.value_maps.add(prediction.map.number if prediction.map else 0)
        found.ranges.add(len(prediction.ranges))
        for one in prediction.ranges:
            found.strides |= {stride for _, stride in one.dimensions}
    return found
