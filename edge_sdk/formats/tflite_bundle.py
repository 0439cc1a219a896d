"""TFLite models within something else: bundles of tasks (ZIP files that store them as they are),
packs of assets, images of firmware.

Any file is one that has the identifier of TFLite somewhere and a model around it. There may be
more to such a file, so that it is no model that an engine could load.
"""

from __future__ import annotations

from edge_sdk.formats.model_file import Contents, Format, ModelFile
from edge_sdk.formats.tflite import models_within


def read(file: ModelFile) -> Contents | None:
    """The tensors of all models; None where there is none."""
    tensors = models_within(file, 0)
    return Contents(tensors=tensors) if tensors else None


FORMAT = Format(name="tflite_bundle", read=read)
