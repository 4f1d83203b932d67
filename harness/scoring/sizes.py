"""Object-size bins: the object's share of its image."""

from __future__ import annotations

SIZE_BINS = ("<1%", "1-5%", "5-20%", ">20%")
"""The bins, from small to large; every table, plot and workload has these."""
_EDGES = (0.01, 0.05, 0.20)


def size_bin(object_share: float) -> str:
    """Bin of an object's share of the image (0..1); an edge belongs to the bin above it.

    >>> size_bin(0.0099), size_bin(0.01), size_bin(0.5)
    ('<1%', '1-5%', '>20%')
    """
    return SIZE_BINS[sum(object_share >= edge for edge in _EDGES)]
