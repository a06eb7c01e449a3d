"""The accuracy of a model that has p(y|x) itself."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dgm.data import Split
from dgm.likelihood import evaluation_batch
from dgm.modes import device_of, evaluating
from dgm.protocols import Classifying, Model, has

BINS = 15  # of the confidence, in the calibration error


def classification(model: Model, real: Split, split: str) -> dict[str, Any] | None:
    """Accuracy, mean log p(y|x) and calibration error of the labels; None for a model without p(y|x)."""
    if not has(model, Classifying) or real.y is None or not len(real):
        return None
    log_p = label_log_probs(model, real.x)
    right = (log_p.argmax(1) == real.y).double()
    accuracy = float(right.mean())
    return {
        "accuracy": accuracy,
        "accuracy_se": math.sqrt(accuracy * (1 - accuracy) / len(right)),
        "log_p": float(log_p.gather(1, real.y[:, None]).mean()),
        "calibration_error": calibration_error(log_p.exp().amax(1), right),
        "n": len(right),
        "split": split,
        "rule": f"the label with the largest p(y|x) of the model; calibration error in {BINS} bins of confidence",
    }


@torch.no_grad()
def label_log_probs(model: Model, x: Tensor) -> Tensor:
    """log p(y|x) of each label, (N, labels) float64."""
    with evaluating(model):
        blocks = x.split(evaluation_batch(model))
        return torch.cat([model.label_log_probs(block.to(device_of(model))).double().cpu() for block in blocks])


def calibration_error(confidence: Tensor, right: Tensor) -> float:
    r"""The mean of |accuracy - confidence| over bins of equal width, weighted by their examples.

    Source: On Calibration of Modern Neural Networks (Guo et al., 2017), arXiv:1706.04599, equation 3.
    """
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    gaps = torch.zeros(BINS, dtype=torch.float64).index_add_(0, bins, right - confidence)
    return float(gaps.abs().sum() / len(right))
