"""Quality and coverage by nearest neighbours, and samples that are copies."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dgm.errors import BadInput

BLOCK = 2048


class Coverage(NamedTuple):
    """Each a float64 scalar; all but density lie in [0, 1].

    Attributes:
        precision: Share of samples within the k-nearest ball of some real example.
        recall: Share of real examples within the k-nearest ball of some sample.
        density: Mean number of real balls that a sample lies in, over k.
        coverage: Share of real examples whose ball has a sample in it.
    """

    precision: Tensor
    recall: Tensor
    density: Tensor
    coverage: Tensor


def precision_recall_density_coverage(real: Tensor, generated: Tensor, k: int = 5) -> Coverage:
    """Two ways to tell whether samples are good, and two to tell whether they are all there.

    Source: Improved Precision and Recall Metric (Kynkäänniemi et al., 2019), arXiv:1904.06991, equations 1 and 2;
    Reliable Fidelity and Diversity Metrics (Naeem et al., 2020), arXiv:2002.09797, equations 3 and 4.

    Args:
        real: (N, D) features.
        generated: (M, D) features.
        k: Which neighbour's distance is the radius of a ball, itself not counted.
    """
    if min(len(real), len(generated)) <= k:
        wrong = f"{k} neighbours need more than {k} examples, got {len(real)} real and {len(generated)} generated"
        raise BadInput(wrong, "draw more samples")
    real, generated = real.double(), generated.double()
    real_radius = nearest(real, real, k + 1)[0][:, -1]
    generated_radius = nearest(generated, generated, k + 1)[0][:, -1]
    inside, near = torch.zeros(len(generated), dtype=torch.float64), torch.zeros(len(real), dtype=torch.bool)
    recalled = torch.zeros(len(real), dtype=torch.bool)
    for rows in torch.arange(len(real)).split(BLOCK):
        distance = squared_distances(real[rows], generated)
        within = distance < real_radius[rows, None]
        inside += within.sum(0)
        near[rows] = within.any(1)
        recalled[rows] = (distance < generated_radius).any(1)
    return Coverage((inside > 0).double().mean(), recalled.double().mean(), inside.mean() / k, near.double().mean())


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """(N, M), by one matrix product."""
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.mT).clamp_min(0)


def nearest(a: Tensor, b: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Squared distances and indices of the k nearest of ``b`` to each of ``a``, each (N, k), the nearest first."""
    found = [squared_distances(part, b).topk(k, dim=1, largest=False) for part in a.split(BLOCK)]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


class Copies(NamedTuple):
    """Samples beside the training examples nearest to them.

    Attributes:
        share: Share of samples that are copies.
        exact: Share of samples equal to a training example.
        nearest: (M,) the nearest training example of each sample.
        distance: (M,) Euclidean distance to it.
    """

    share: float
    exact: float
    nearest: Tensor
    distance: Tensor


def copies(training: Tensor, samples: Tensor, threshold: float = 1 / 3) -> Copies:
    """Samples nearer to a training example than ``threshold`` times that example's distance to the next one.

    Source: Diffusion Probabilistic Models Generalize when They Fail to Memorize (Yoon et al., 2023), whose ratio test
    this is, with its threshold of 1/3. Differs from it: the sample's distance to its nearest training example is held
    against that example's own distance to its nearest neighbour, and not against the sample's second nearest.

    Args:
        training: (N, D).
        samples: (M, D), in the same numbers.
    """
    training, samples = training.double(), samples.double()
    squared, index = nearest(samples, training, 1)
    spacing = nearest(training, training, 2)[0][:, 1]
    squared, index = squared[:, 0], index[:, 0]
    share = (squared < threshold**2 * spacing[index]).double().mean().item()
    exact = (samples == training[index]).all(1).double().mean().item()
    return Copies(share, exact, index, squared.sqrt())
