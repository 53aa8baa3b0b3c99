"""Merge: base model and adapter to one model."""

from tunelift.stages.merge.stage import merge

VERSION = 5
"""Raised when the same input would give another model."""

__all__ = ["VERSION", "merge"]
