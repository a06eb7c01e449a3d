"""Quality and coverage by nearest neighbours, and samples that are copies."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dgm.errors import BadInput
from dgm.evaluation.jackknife import Folds, LeftOut

BLOCK = 512
K_PRECISION, K_COVERAGE = 3, 5  # which neighbour's distance is a ball's radius, itself not counted


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


def precision_recall_density_coverage(real: Tensor, generated: Tensor) -> Coverage:
    """Two ways to tell whether samples are good, and two to tell whether they are all there.

    A ball reaches to the third neighbour for precision and recall and to the fifth for density and coverage, as in
    the paper of each.

    Source: Improved Precision and Recall Metric (Kynkäänniemi et al., 2019), arXiv:1904.06991, equations 1 and 2, k = 3
    in section 3; Reliable Fidelity and Diversity Metrics (Naeem et al., 2020), arXiv:2002.09797, equations 3 and 4,
    k = 5 in section 4.

    Args:
        real: (N, D) features.
        generated: (M, D) features.
    """
    return Coverage(*coverage_left_out([real], [generated]).value)


def coverage_left_out(real: Folds, generated: Folds) -> LeftOut:
    """The four numbers of `Coverage`, also without each fold where there are several; each distance is computed once.

    Args:
        real: Folds of features, each (n_k, D).
        generated: The same of samples.

    Raises:
        BadInput: Where a set without its largest fold has no more than `K_COVERAGE` examples.
    """
    refuse_few(real, generated)
    x, y = torch.cat([fold.double() for fold in real]), torch.cat([fold.double() for fold in generated])
    keep_x, keep_y = kept(real), kept(generated)
    real_radii, radii = neighbour_distances(x, real, keep_x), neighbour_distances(y, generated, keep_y)
    small, large, made = real_radii[K_PRECISION - 1], real_radii[K_COVERAGE - 1], radii[K_PRECISION - 1]
    precise, inside = torch.zeros(len(small), len(y), dtype=torch.bool), torch.zeros(len(small), len(y))
    covered, recalled = torch.zeros(len(large), len(x)), torch.zeros(len(made), len(x))
    covering = torch.zeros(len(x), len(generated))  # whether a sample of that fold is in the ball
    for rows in torch.arange(len(x)).split(BLOCK):
        distance = squared_distances(x[rows], y)
        for k in range(len(large)):
            precise[k] |= (distance < small[k, rows, None]).any(0)
            within = distance < large[k, rows, None]
            inside[k] += within.sum(0)
            covered[k, rows] = within.any(1).float()
            if k == 0:
                parts = within.split([len(fold) for fold in generated], dim=1)
                covering[rows] = torch.stack([part.any(1) for part in parts], 1).float()
        for k in range(len(made)):
            recalled[k, rows] = (distance < made[k]).any(1).float()
    others = torch.cat([covering.any(1)[:, None], covering.sum(1, keepdim=True) > covering], 1)[:, : len(made)].mT
    without_real = [share(precise), share(recalled[0], keep_x), share(inside) / K_COVERAGE, share(covered, keep_x)]
    without_made = [share(precise[0], keep_y), share(recalled), share(inside[0], keep_y) / K_COVERAGE, share(others)]
    by_real, by_made = torch.stack(without_real, 1), torch.stack(without_made, 1)
    return LeftOut(by_real[0], by_real[1:], by_made[1:])


def refuse_few(real: Folds, generated: Folds) -> None:
    for folds, what in ((real, "real examples"), (generated, "samples")):
        sizes = [len(fold) for fold in folds]
        left = sum(sizes) - (max(sizes) if len(sizes) > 1 else 0)
        if left <= K_COVERAGE:
            wrong = f"{K_COVERAGE} neighbours need more than {K_COVERAGE} {what} when a fold is left out, got {left}"
            raise BadInput(wrong, "take more")


def kept(parts: Folds) -> Tensor:
    """(1 + G, n) bool: all, then all but the members of each fold, where there are several."""
    sizes = torch.tensor([len(part) for part in parts])
    of = torch.arange(len(parts)).repeat_interleave(sizes)
    left = torch.arange(-1, len(parts) if len(parts) > 1 else 0)
    return of != left[:, None]


def neighbour_distances(x: Tensor, parts: Folds, keep: Tensor) -> Tensor:
    """Squared distances to the nearest neighbours, (K_COVERAGE, 1 + G, n): among all, then among all but each fold.

    Each fold gives its own nearest ones, among which those of any union of folds are. Who is left out himself gets
    -1: nothing is within that.
    """
    near = torch.cat([nearest_by_fold(x, rows, parts) for rows in torch.arange(len(x)).split(BLOCK)])
    found = []
    for k in range(len(keep)):
        among = near if k == 0 else torch.cat([near[:, : k - 1], near[:, k:]], 1)
        found.append(among.flatten(1).topk(K_COVERAGE, largest=False).values.mT)
    return torch.stack(found, 1).masked_fill(~keep, -1)


def nearest_by_fold(x: Tensor, rows: Tensor, parts: Folds) -> Tensor:
    """Squared distances from these rows to the nearest of each fold, (rows, G, K_COVERAGE); infinite past its size."""
    distance = squared_distances(x[rows], x)
    distance[torch.arange(len(rows)), rows] = torch.inf  # oneself is no neighbour
    near = torch.full((len(rows), len(parts), K_COVERAGE), torch.inf, dtype=torch.float64)
    for k, columns in enumerate(distance.split([len(part) for part in parts], dim=1)):
        most = min(K_COVERAGE, columns.shape[1])
        near[:, k, :most] = columns.topk(most, largest=False).values
    return near


def share(hits: Tensor, keep: Tensor | None = None) -> Tensor:
    """The mean of each row of (1 + G, n), over those that are kept."""
    keep = torch.ones_like(hits, dtype=torch.bool) if keep is None else keep
    return (hits * keep).double().sum(-1) / keep.sum(-1)


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
