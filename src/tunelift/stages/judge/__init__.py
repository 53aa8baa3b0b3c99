"""Judge: a model that has passed an examination grades answers that no rule can grade."""

from tunelift.stages.judge.labels import calibration_fingerprint
from tunelift.stages.judge.stage import check, judge

VERSION = 4
"""Raised when the same input would give other judgements."""

__all__ = ["VERSION", "calibration_fingerprint", "check", "judge"]
