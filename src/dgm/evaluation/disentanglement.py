r"""Measures of codes beside known labels or factors: pure functions of codes z (N, K) and of factors v (N, F).

A code is disentangled if each of its dimensions depends on one factor, and complete if each factor has one dimension.
Factors are integers. Mutual information is that of 20 equal bins of each dimension, as in Challenging Common
Assumptions (Locatello et al., 2018), arXiv:1811.12359, appendix C; the source of the gap integrates over q(z|x).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from sklearn.cluster import KMeans
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    adjusted_rand_score,
    balanced_accuracy_score,
    mutual_info_score,
    normalized_mutual_info_score,
)
from torch import Tensor

from dgm.errors import BadInput

BINS = 20
TREES = 20
COLLAPSED = 0.02  # standard deviation, relative to the largest, below which a dimension is not compared
VOTES, DRAWS = 500, 100  # of the FactorVAE score: draws of a factor's value, and examples with it


class Clustering(NamedTuple):
    """Agreement of clusters with labels; 1 for the same partition. ``ari`` is 0 on average for a random one."""

    ari: float
    nmi: float


class DCI(NamedTuple):
    """Each in [0, 1]: 1 for a dimension with one factor, for a factor with one dimension, for predicted factors."""

    disentanglement: float
    completeness: float
    informativeness: float


def linear_probe(z: Tensor, v: Tensor, held_out_z: Tensor, held_out_v: Tensor) -> float:
    """The accuracy on held-out codes of multinomial logistic regression, fitted to standardised codes and labels."""
    if len(v.unique()) < 2:
        return float((held_out_v == v[0]).double().mean())
    scaled, held_out = standardised(z, z), standardised(held_out_z, z)
    probe = LogisticRegression(max_iter=5000).fit(scaled.numpy(), v.numpy())
    return float(probe.score(held_out.numpy(), held_out_v.numpy()))


def standardised(z: Tensor, like: Tensor) -> Tensor:
    scale = like.double().std(0)
    return (z.double() - like.double().mean(0)) / torch.where(scale > 0, scale, 1.0)


def clustering(z: Tensor, labels: Tensor, *, seed: int = 0) -> Clustering:
    """K-means with as many clusters as labels, beside the labels.

    Source: Comparing Partitions (Hubert & Arabie, 1985), equation 5, for the adjusted Rand index; Vinh et al. (2010),
    JMLR 11, table 2, for the mutual information over the mean of both entropies.
    """
    clusters = KMeans(len(labels.unique()), n_init=5, random_state=seed).fit_predict(z.double().numpy())
    ari, nmi = (score(labels.numpy(), clusters) for score in (adjusted_rand_score, normalized_mutual_info_score))
    return Clustering(float(ari), float(nmi))


def mutual_information_gap(z: Tensor, v: Tensor) -> float:
    r"""MIG: the mean over factors of the difference of the two largest normalised mutual informations.

    .. math:: \frac1F \sum_k \frac{1}{H(v_k)} \left(I(z_{j(k)}; v_k) - \max_{j \ne j(k)} I(z_j; v_k)\right)

    Source: Isolating Sources of Disentanglement in VAEs (Chen et al., 2018), arXiv:1802.04942, equation 6.
    """
    several(z, 2)
    codes, gaps = binned(z), []
    for factor in v.T:
        shared = torch.tensor([mutual_info_score(code.numpy(), factor.numpy()) for code in codes.T])
        most, second = shared.topk(2).values.tolist()
        gaps.append((most - second) / mutual_info_score(factor.numpy(), factor.numpy()))
    return sum(gaps) / len(gaps)


def binned(z: Tensor) -> Tensor:
    """The number of each value's bin, of `BINS` equal ones between the least and the largest value of its dimension."""
    low, high = z.double().amin(0), z.double().amax(0)
    width = torch.where(high > low, high - low, 1.0)
    return ((z.double() - low) / width * BINS).long().clamp(max=BINS - 1)


def separated_attribute_predictability(z: Tensor, v: Tensor, ordered: Sequence[bool]) -> float:
    """SAP: the mean over factors of the difference of the two largest scores of single dimensions. The score of an
    ordered factor is the squared correlation; of another, the balanced accuracy of a linear classifier.

    Source: Variational Inference of Disentangled Latent Concepts (Kumar et al., 2017), arXiv:1711.00848, section 3.
    Differs from it: logistic regression in place of a support-vector machine.
    """
    several(z, 2)
    gaps = []
    for factor, has_order in zip(v.T, ordered, strict=True):
        scores = squared_correlations(z, factor) if has_order else accuracies(z, factor)
        most, second = scores.topk(2).values.tolist()
        gaps.append(most - second)
    return sum(gaps) / len(gaps)


def squared_correlations(z: Tensor, factor: Tensor) -> Tensor:
    """Of each dimension with the factor, (K,); 0 for a constant dimension."""
    a, b = standardised(z, z), standardised(factor[:, None], factor[:, None])
    return ((a * b).sum(0) / (len(z) - 1)).square()


def accuracies(z: Tensor, factor: Tensor) -> Tensor:
    """The balanced accuracy of a linear classifier of the factor from each dimension alone, (K,)."""
    found = []
    for column in standardised(z, z).T:
        probe = LogisticRegression(C=100.0, max_iter=5000, class_weight="balanced")
        guess = probe.fit(column[:, None].numpy(), factor.numpy()).predict(column[:, None].numpy())
        found.append(balanced_accuracy_score(factor.numpy(), guess))
    return torch.tensor(found)


def dci(z: Tensor, v: Tensor, held_out_z: Tensor, held_out_v: Tensor, *, seed: int = 0) -> DCI:
    """Disentanglement, completeness and informativeness, by the importance of dimensions in random forests.

    Source: A Framework for the Quantitative Evaluation of Disentangled Representations (Eastwood & Williams, 2018),
    section 2. Differs from it: informativeness is the accuracy on held-out codes, and not an error.
    """
    columns, scores = [], []
    for k in range(v.shape[1]):
        forest = RandomForestClassifier(TREES, max_features=None, random_state=seed).fit(z.numpy(), v[:, k].numpy())
        columns.append(torch.from_numpy(forest.feature_importances_))
        scores.append(forest.score(held_out_z.numpy(), held_out_v[:, k].numpy()))
    importance = torch.stack(columns, 1)
    return DCI(disentanglement(importance), disentanglement(importance.T), float(sum(scores) / len(scores)))


def disentanglement(importance: Tensor) -> float:
    r"""The weighted mean of 1 - H(P_i) over dimensions; of the transposed matrix, completeness.

    .. math:: \sum_i \rho_i (1 - H_F(P_i)), \quad P_{ij} = R_{ij} / \sum_k R_{ik}, \quad
        \rho_i = \sum_j R_{ij} / \sum_{ij} R_{ij}

    Args:
        importance: R, (K, F), the importance of dimension i for factor j; F is the base of the entropy's logarithm.
    """
    several(importance, 2)
    total = importance.sum(1)
    p = importance / torch.where(total > 0, total, 1.0)[:, None]
    entropy = -torch.special.xlogy(p, p).sum(1) / torch.tensor(float(importance.shape[1])).log()
    return float((total * (1 - entropy)).sum() / total.sum()) if total.sum() > 0 else 0.0


def factor_vae_score(z: Tensor, v: Tensor, *, seed: int = 0) -> float:
    """The accuracy of a majority vote for the fixed factor, given the dimension that varies least.

    A factor k is drawn, and examples with the same value of it; the dimension with the smallest variance, relative to
    its variance over all examples, votes for k.

    Source: Disentangling by Factorising (Kim & Mnih, 2018), arXiv:1802.05983, section 4. Differs from it: examples are
    drawn from given ones, and half of the votes make the classifier whose accuracy is that of the other half.
    """
    scale = z.double().std(0)
    active = scale > COLLAPSED * scale.max()
    if not active.any():
        return 0.0
    generator = torch.Generator().manual_seed(seed)
    scaled, factors = z.double()[:, active] / scale[active], torch.randint(v.shape[1], (VOTES,), generator=generator)
    votes = torch.zeros(2, int(active.sum()), v.shape[1])
    for k, factor in enumerate(factors.tolist()):
        value = v[torch.randint(len(v), (), generator=generator), factor]
        rows = (v[:, factor] == value).nonzero()[:, 0]
        chosen = rows[torch.randint(len(rows), (DRAWS,), generator=generator)]
        votes[k % 2, scaled[chosen].var(0).argmin(), factor] += 1
    return float(votes[1].gather(1, votes[0].argmax(1, keepdim=True)).sum() / votes[1].sum())


def several(z: Tensor, least: int) -> None:
    if z.shape[1] < least:
        raise BadInput(f"the measure compares {least} columns, got {z.shape[1]}", "give more dimensions or factors")
