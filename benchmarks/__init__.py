"""Figures: what the product costs and saves, against named anchors, with their raw samples.

``python -m benchmarks.delivery`` (``make bench-delivery``), ``python -m benchmarks.bench``
(``make bench``). Nothing of the product imports this.
"""
