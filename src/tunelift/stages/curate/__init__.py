"""Curate: raw rows to a data set. Every row read ends as kept, dropped with a reason, or quarantined."""

from tunelift.stages.curate.read import source_fingerprint
from tunelift.stages.curate.replies import schema_fingerprint
from tunelift.stages.curate.stage import curate

VERSION = 10
"""Raised when the same input would give another data set."""

__all__ = ["VERSION", "curate", "schema_fingerprint", "source_fingerprint"]
