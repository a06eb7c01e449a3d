"""The accuracy and the calibration of p(y|x): a model's own, or from log p(x|y) by Bayes' rule."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dgm.data import Split
from dgm.likelihood import Kind, evaluation_batch, kind_of, log_likelihood
from dgm.modes import device_of, evaluating
from dgm.networks.conditions import labels_of, marginal_of
from dgm.protocols import Classifying, Model, has

BINS = 15  # of the confidence, in the calibration error
EXAMPLES = 500  # at most, for Bayes' rule, which takes one pass for each label


def classification(model: Model, real: Split, split: str) -> dict[str, Any] | None:
    """Accuracy, mean log p(y|x) and calibration error of the labels; None for a model without p(y|x) and p(x|y)."""
    own = has(model, Classifying)
    if real.y is None or not len(real) or not (own or has_bayes_rule(model)):
        return None
    x, y = (real.x, real.y) if own else (real.x[:EXAMPLES], real.y[:EXAMPLES])
    log_p = label_log_probs(model, x) if own else posterior(model, x)
    right = (log_p.argmax(1) == y).double()
    accuracy = float(right.mean())
    of = "of the model" if own else f"by Bayes' rule from its {str(kind_of(model)).replace('_', ' ')} log p(x|y)"
    return {
        "accuracy": accuracy,
        "accuracy_se": math.sqrt(accuracy * (1 - accuracy) / len(right)),
        "log_p": float(log_p.gather(1, y[:, None]).mean()),
        "calibration_error": calibration_error(log_p.exp().amax(1), right),
        "n": len(right),
        "split": split,
        "rule": f"the label with the largest p(y|x) {of}; calibration error in {BINS} bins of confidence",
    }


def has_bayes_rule(model: Model) -> bool:
    """Whether a model has log p(x|y) of labels, exact or as a bound; that of an ODE would take hours."""
    return labels_of(model) > 1 and kind_of(model) in (Kind.EXACT, Kind.LOWER_BOUND)


def posterior(model: Model, x: Tensor) -> Tensor:
    r"""log p(y|x) of each label, (N, labels) float64, with p(y) the shares of the training data.

    .. math:: p(y|x) = \frac{p(y) \, p(x|y)}{\sum_k p(k) \, p(x|k)}

    The bounds of all labels have the same random draws, whose noise does not select the label then. A label that the
    training data lacks has the probability 0.
    """
    shares = marginal_of(model).shares.cpu()
    joint = torch.full((len(x), len(shares)), -math.inf, dtype=torch.float64)
    for label in shares.nonzero()[:, 0].tolist():
        with torch.random.fork_rng():
            nats = log_likelihood(model, x, torch.full((len(x),), label)).nats
        joint[:, label] = nats.double().cpu() + shares[label].log()
    return joint.log_softmax(1)


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
