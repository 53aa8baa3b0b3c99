"""Evaluate: one arm answers the tasks' items, and each answer is scored."""

from tunelift.stages.evaluate.stage import Engine, evaluate

VERSION = 1
"""Raised when the same input would give other answers or scores."""

__all__ = ["VERSION", "Engine", "evaluate"]
