"""Builders of planning values: devices, artifacts and offers, and strategies that draw them."""

from __future__ import annotations

from hypothesis import strategies as st

from distributor.planning import (
    ArtifactFacts,
    DecoderFacts,
    DeltaOffer,
    DeviceFacts,
    EngineFacts,
)
from edge_sdk.base import Digest, ModelName, Version
from edge_sdk.manifest import Requirements

METHODS = ("copy", "literal", "patch", "residual")


def digest(name: str) -> Digest:
    return Digest.of(name.encode())


def decoder(
    *, methods: tuple[str, ...] = METHODS, versions: tuple[int, ...] = (0,), memory: int = 1 << 24
) -> DecoderFacts:
    return DecoderFacts(
        versions=frozenset(versions), methods=frozenset(methods), memory_bytes=memory
    )


def engine(name: str = "onnxruntime", *, ir: int = 10, opset: int = 21) -> EngineFacts:
    return EngineFacts(name=name, version="1.23.2", ir_version_max=ir, opset_max={"": opset})


def device(name: str = "gate-7", **changes: object) -> DeviceFacts:
    """An x86 device with ONNX Runtime and plenty of everything."""
    facts: dict[str, object] = {
        "decoder": decoder(),
        "engines": (engine(),),
        "architecture": "x86_64",
        "memory_bytes": 1 << 30,
        "disk_free_bytes": 1 << 40,
    }
    return DeviceFacts(device=name, **{**facts, **changes})


def artifact(
    variant: str = "fp32",
    version: str = "1.0.0",
    *,
    model: str = "team/digits",
    size: int = 1000,
    serve: str = "inference",
    parent: str | None = None,
    requires: Requirements | None = None,
    files: dict[str, int] | None = None,
) -> ArtifactFacts:
    wanted = requires if requires is not None else Requirements(engine="onnxruntime")
    named = files if files is not None else {f"{model} {version} {variant} file": size}
    return ArtifactFacts(
        artifact=digest(f"{model} {version} {variant}"),
        model=ModelName.parse(model),
        version=Version.parse(version),
        variant=variant,
        parent=Version.parse(parent) if parent else None,
        requires=wanted,
        serve=serve,
        size_bytes=size,
        files={digest(name): count for name, count in named.items()},
    )


def offer(
    source: ArtifactFacts | None,
    target: ArtifactFacts,
    wire: int,
    *,
    methods: tuple[str, ...] = ("literal",),
    version: int = 0,
    memory: int = 1 << 20,
    apply_s: float = 0.0,
) -> DeltaOffer:
    start = None if source is None else source.artifact
    return DeltaOffer(
        source=start,
        target=target.artifact,
        delta=digest(f"{start} {target.artifact} {wire} {methods} {memory}"),
        delta_bytes=wire,
        decoder_memory_bytes=memory,
        format_version=version,
        methods=frozenset(methods),
        apply_s=apply_s,
    )


_ENGINES = st.sampled_from(["onnxruntime", "litert"])
_ARCHITECTURES = st.sampled_from(["x86_64", "aarch64"])
_ACCELERATORS = st.sampled_from(["vnni", "cuda", "npu"])

requirements = st.builds(
    Requirements,
    engine=st.none() | _ENGINES,
    architectures=st.lists(_ARCHITECTURES, max_size=2, unique=True).map(tuple),
    memory_bytes=st.integers(0, 4000),
    ir_version=st.none() | st.integers(7, 12),
    opsets=st.dictionaries(st.sampled_from(["", "com.microsoft"]), st.integers(1, 26), max_size=2),
    accelerators=st.lists(_ACCELERATORS, max_size=2, unique=True).map(tuple),
)

variants = st.lists(
    st.builds(
        artifact,
        st.sampled_from(["fp32", "fp16", "int8", "int8-x86", "trt-orin", "tiny"]),
        size=st.integers(1, 2000),
        serve=st.sampled_from(["inference", "none"]),
        requires=requirements,
    ),
    max_size=6,
    unique_by=lambda facts: facts.artifact,
)

devices = st.builds(
    device,
    decoder=st.builds(
        decoder,
        methods=st.lists(st.sampled_from(METHODS), unique=True).map(tuple),
        versions=st.lists(st.sampled_from([0, 1]), unique=True).map(tuple),
        memory=st.integers(0, 1 << 24),
    ),
    engines=st.lists(
        st.builds(engine, _ENGINES, ir=st.integers(0, 12), opset=st.integers(1, 26)), max_size=2
    ).map(tuple),
    architecture=_ARCHITECTURES,
    memory_bytes=st.integers(0, 8000),
    accelerators=st.frozensets(_ACCELERATORS),
    disk_free_bytes=st.none() | st.integers(0, 4000),
)
