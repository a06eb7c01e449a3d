r"""Which dimensions of a code are in use: divergences, active units and mutual information.

A dimension whose posterior is the prior for every x says nothing about x: the posterior has collapsed.

Source: the divergence of each dimension; active units, those with Var_x(E_q[z_j]) > 0.01: Importance Weighted
Autoencoders (Burda et al., 2015), arXiv:1509.00519, section 5.2; the mutual information E_q[log q(z|x) - log q(z)]:
ELBO surgery (Hoffman & Johnson, 2016), equations 7-9.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from dgm.data import order
from dgm.errors import Unsupported
from dgm.likelihood import evaluation_batch
from dgm.modes import device_of, evaluating
from dgm.protocols import CodeDivergence, Codes, Conditions, Model, NormalPosterior, condition_of, has

EXAMPLES = 2000  # of the split, at most: the mutual information takes all pairs of them
ACTIVE = 0.01  # the variance of the posterior mean over the data, from which on a dimension is active
BLOCK = 50  # examples whose codes are compared with all posteriors at a time


@torch.no_grad()
def codes_in_use(model: Model, x: Tensor, y: Conditions | None, seed: int = 0) -> dict[str, Any] | None:
    """The divergence of each dimension of the code, the number of active ones, and the mutual information with x.

    Returns:
        ``kl`` in nats, averaged over examples, of each dimension or of all together; ``active_units`` of ``of``;
        ``mutual_information`` in nats, at most log n, None where the posterior is not normal; ``n`` and ``rule``.
        None for a model without a divergence.
    """
    if not has(model, CodeDivergence):
        return None
    rows = order(len(x), seed, 0)[:EXAMPLES]
    means, divergences, moments = [], [], []
    with evaluating(model):
        for part in rows.split(evaluation_batch(model)):
            pair = x[part].to(device_of(model)), conditions(model, y, part)
            means.append(model.encode(*pair).flatten(1))
            divergences.append(model.divergence(*pair))
            moments.append(normal_moments(model, *pair))
    kl, variances = torch.cat(divergences).double().mean(0), torch.cat(means).double().var(0)
    known = None if moments[0] is None else [torch.cat(each) for each in zip(*moments, strict=True)]
    return {
        "kl": kl.tolist(),
        "active_units": int((variances > ACTIVE).sum()),
        "of": len(variances),
        "mutual_information": None if known is None else mutual_information(*known),
        "n": len(rows),
        "rule": f"active: the variance of the posterior's mean over the data is above {ACTIVE}",
    }


def conditions(model: Model, y: Conditions | None, rows: Tensor) -> Conditions | None:
    return None if y is None or condition_of(model) is None else y[rows].to(device_of(model))


def normal_moments(model: Model, x: Tensor, y: Conditions | None) -> tuple[Codes, Codes] | None:
    """mu and log sigma of q(z|x); None where it is not normal."""
    if not has(model, NormalPosterior):
        return None
    try:
        mu, log_sigma = model.posterior(x, y)
    except Unsupported:
        return None
    return mu, log_sigma


def mutual_information(mu: Tensor, log_sigma: Tensor) -> float:
    r"""The mean of log q(z_i|x_i) - log 1/n sum_m q(z_i|x_m) in nats, at one z_i ~ q(z|x_i) of each of n examples."""
    mu, log_sigma = mu.double(), log_sigma.double()
    eps = torch.randn_like(mu)
    z, total = mu + log_sigma.exp() * eps, 0.0
    own = -(0.5 * (eps.square() + math.log(2 * math.pi)) + log_sigma).sum(1)
    for rows in torch.arange(len(mu)).split(BLOCK):
        standardised = (z[rows, None] - mu) / log_sigma.exp()
        pairs = -(0.5 * (standardised.square() + math.log(2 * math.pi)) + log_sigma).sum(-1)
        total += float((own[rows] - pairs.logsumexp(1) + math.log(len(mu))).sum())
    return total / len(mu)
