r"""The inception score of a classifier's predictions, and its two factors."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Score(NamedTuple):
    r"""exp I(x; y) = sharpness × diversity.

    Attributes:
        score: From 1 to the number of classes.
        sharpness: exp(-E H(y|x)), 1 where the classifier is certain of each sample.
        diversity: exp(H(y)), the number of classes where all are equally frequent.
    """

    score: Tensor
    sharpness: Tensor
    diversity: Tensor


def inception_score(log_p: Tensor) -> Score:
    r"""exp(E KL(p(y|x) || p(y))) from log p(y|x), (N, classes).

    Source: Improved Techniques for Training GANs (Salimans et al., 2016), arXiv:1606.03498, section 4. It does
    not use real data; it depends on the classifier, so only scores of the same classifier are comparable.
    """
    log_p = log_p.double()
    p = log_p.exp()
    marginal = p.mean(0)
    conditional_entropy = -(p * log_p).sum(1).mean()
    entropy = -(marginal * marginal.clamp_min(1e-300).log()).sum()
    return Score((entropy - conditional_entropy).exp(), (-conditional_entropy).exp(), entropy.exp())
