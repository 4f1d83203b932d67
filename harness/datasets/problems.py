"""Kinds of samples that cannot be used; the doctor counts them by kind. The first line of each class names the kind."""

from __future__ import annotations

from harness.errors import SampleError


class MissingFile(SampleError):
    """missing or ambiguous pair"""


class Unreadable(SampleError):
    """unreadable file"""


class SizeMismatch(SampleError):
    """mask and image of different size"""


class EmptyMask(SampleError):
    """mask without an object"""


def kind_of(error: SampleError) -> str:
    """Readable kind of a bad sample."""
    known = isinstance(error, (MissingFile, Unreadable, SizeMismatch, EmptyMask))
    return (type(error).__doc__ or "").strip() if known else "other"
