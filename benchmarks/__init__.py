"""Figures: what the product costs and saves, against named anchors, with their raw samples.

``python -m benchmarks.delivery`` (``make bench-delivery``), ``python -m benchmarks.bench``
(``make bench``). Nothing of the product imports this.
"""

import os

# What is measured and shown here is not who calls.
os.environ.setdefault("EDGE_TEST_PLAINTEXT", "1")
