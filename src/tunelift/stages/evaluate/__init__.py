"""Evaluate: one arm answers the tasks' items, and each answer is scored."""

from tunelift.stages.evaluate.stage import check_askable, evaluate, is_asked

VERSION = 9
"""Raised when the same input would give other answers or scores."""

__all__ = ["VERSION", "check_askable", "evaluate", "is_asked"]
