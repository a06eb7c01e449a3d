"""Measures of a trained model: pure functions of tensors, and `evaluate`, which runs them all."""

from dgm.evaluation.evaluate import evaluate

__all__ = ["evaluate"]
