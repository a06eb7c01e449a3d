"""Precision, recall, density and coverage by nearest neighbours, and the share of memorised samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dgm.errors import BadInput
from dgm.evaluation.jackknife import Folds, LeftOut

BLOCK = 512
K_PRECISION, K_COVERAGE = (
    3,
    5,
)  # the neighbour whose distance is the radius of a ball; the example itself does not count


class Coverage(NamedTuple):
    """Four metrics, each a float64 scalar; all but density lie in [0, 1].

    Attributes:
        precision: Share of samples within the k-nearest ball of some real example.
        recall: Share of real examples within the k-nearest ball of some sample.
        density: Mean number of real balls that a sample lies in, over k.
        coverage: Share of real examples whose ball contains a sample.
    """

    precision: Tensor
    recall: Tensor
    density: Tensor
    coverage: Tensor


def precision_recall_density_coverage(real: Tensor, generated: Tensor) -> Coverage:
    """Precision and density, which measure quality, recall and coverage, which measure diversity.

    The radius of a ball is the distance to the third neighbour for precision and recall and to the fifth for density
    and coverage, as in the papers.

    Source: Improved Precision and Recall Metric (Kynkäänniemi et al., 2019), arXiv:1904.06991, equations 1 and 2, k = 3
    in section 3; Reliable Fidelity and Diversity Metrics (Naeem et al., 2020), arXiv:2002.09797, equations 3 and 4,
    k = 5 in section 4.

    Args:
        real: (N, D) features.
        generated: (M, D) features.
    """
    return Coverage(*coverage_left_out([real], [generated]).value)


def coverage_left_out(real: Folds, generated: Folds) -> LeftOut:
    """The metrics of `Coverage`, also without each fold where there are several; each distance is computed once.

    Args:
        real: Folds of features, each (n_k, D).
        generated: Folds of the features of samples.

    Raises:
        BadInput: If a set without its largest fold has at most `K_COVERAGE` examples.
    """
    refuse_few(real, generated)
    x, y = torch.cat([fold.double() for fold in real]), torch.cat([fold.double() for fold in generated])
    mask_x, mask_y = fold_masks(real), fold_masks(generated)
    real_radii, radii = neighbour_distances(x, real, mask_x), neighbour_distances(y, generated, mask_y)
    precision_radii, coverage_radii, generated_radii = (
        real_radii[K_PRECISION - 1],
        real_radii[K_COVERAGE - 1],
        radii[K_PRECISION - 1],
    )
    precision_hits, density_counts = (
        torch.zeros(len(precision_radii), len(y), dtype=torch.bool),
        torch.zeros(len(precision_radii), len(y)),
    )
    coverage_hits, recall_hits = torch.zeros(len(coverage_radii), len(x)), torch.zeros(len(generated_radii), len(x))
    covering = torch.zeros(len(x), len(generated))  # whether a sample of that fold is in the ball
    near = torch.empty(min(BLOCK, len(x)), len(y), dtype=torch.bool)
    for rows, distance in distance_blocks(x, y):
        within = near[: len(distance)]
        for k in range(len(coverage_radii)):
            torch.lt(distance, precision_radii[k, rows, None], out=within)
            precision_hits[k] |= some(within, 0)
            torch.lt(distance, coverage_radii[k, rows, None], out=within)
            density_counts[k] += count(within)
            coverage_hits[k, rows] = some(within, 1).float()
            if k == 0:
                parts = within.split([len(fold) for fold in generated], dim=1)
                covering[rows] = torch.stack([some(part, 1) for part in parts], 1).float()
        for k in range(len(generated_radii)):
            recall_hits[k, rows] = some(torch.lt(distance, generated_radii[k], out=within), 1).float()
    others = torch.cat([covering.any(1)[:, None], covering.sum(1, keepdim=True) > covering], 1)[
        :, : len(generated_radii)
    ].mT
    without_real = [
        share(precision_hits),
        share(recall_hits[0], mask_x),
        share(density_counts) / K_COVERAGE,
        share(coverage_hits, mask_x),
    ]
    without_generated = [
        share(precision_hits[0], mask_y),
        share(recall_hits),
        share(density_counts[0], mask_y) / K_COVERAGE,
        share(others),
    ]
    by_real, by_generated = torch.stack(without_real, 1), torch.stack(without_generated, 1)
    return LeftOut(by_real[0], by_real[1:], by_generated[1:])


def refuse_few(real: Folds, generated: Folds) -> None:
    for folds, what in ((real, "real examples"), (generated, "samples")):
        sizes = [len(fold) for fold in folds]
        left = sum(sizes) - (max(sizes) if len(sizes) > 1 else 0)
        if left <= K_COVERAGE:
            wrong = f"{K_COVERAGE} neighbours need more than {K_COVERAGE} {what} when a fold is left out, got {left}"
            raise BadInput(wrong, "take more")


def fold_masks(parts: Folds) -> Tensor:
    """(1 + G, n) bool: all examples, then all but the members of each fold where there are several."""
    sizes = torch.tensor([len(part) for part in parts])
    of = torch.arange(len(parts)).repeat_interleave(sizes)
    left = torch.arange(-1, len(parts) if len(parts) > 1 else 0)
    return of != left[:, None]


def neighbour_distances(x: Tensor, parts: Folds, mask: Tensor) -> Tensor:
    """Squared distances to the nearest neighbours, (K_COVERAGE, 1 + G, n): among all examples, then without each fold.

    The neighbours in a union of folds are among the neighbours in each of them. An example that is left out has the
    distance -1, so that its ball is empty.
    """
    nearest_distances = torch.cat([nearest_by_fold(block, rows, parts) for rows, block in distance_blocks(x, x)])
    distances = []
    for k in range(len(mask)):
        among = nearest_distances if k == 0 else torch.cat([nearest_distances[:, : k - 1], nearest_distances[:, k:]], 1)
        distances.append(among.flatten(1).topk(K_COVERAGE, largest=False).values.mT)
    return torch.stack(distances, 1).masked_fill(~mask, -1)


def nearest_by_fold(distance: Tensor, rows: Tensor, parts: Folds) -> Tensor:
    """Squared distances from these rows to the nearest of each fold, (rows, G, K_COVERAGE), padded by infinity.

    Args:
        distance: Those of the rows to all examples; those to themselves are overwritten.
    """
    distance[torch.arange(len(rows)), rows] = torch.inf  # an example is no neighbour of itself
    nearest_distances = torch.full((len(rows), len(parts), K_COVERAGE), torch.inf, dtype=torch.float64)
    for k, columns in enumerate(distance.split([len(part) for part in parts], dim=1)):
        most = min(K_COVERAGE, columns.shape[1])
        nearest_distances[:, k, :most] = columns.topk(most, largest=False).values
    return nearest_distances


def share(hits: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean of each row of (1 + G, n) over the masked entries."""
    mask = torch.ones_like(hits, dtype=torch.bool) if mask is None else mask
    return (hits * mask).double().sum(-1) / mask.sum(-1)


def some(within: Tensor, dim: int) -> Tensor:
    """``within.any(dim)``, by numpy, which is many times as fast on the first dimension."""
    return torch.from_numpy(within.numpy().any(dim))


def count(within: Tensor) -> Tensor:
    """``within.sum(0)``, by numpy, which adds bytes."""
    return torch.from_numpy(within.numpy().view(np.uint8).sum(0, dtype=np.int32))


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """(N, M), by one matrix product: (-2 a, |a|^2, 1) (b, 1, |b|^2)^T."""
    left, right = factors(a, b)
    return (left @ right).clamp_min_(0)


def factors(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """(N, D + 2) and (D + 2, M), whose product is the squared distances."""
    of_a, of_b = a.square().sum(1, keepdim=True), b.square().sum(1, keepdim=True)
    left = torch.cat([-2 * a, of_a, torch.ones_like(of_a)], 1)
    return left, torch.cat([b, torch.ones_like(of_b), of_b], 1).mT


def distance_blocks(a: Tensor, b: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of ``a`` and their squared distances to all of ``b``, a block at a time.

    Each block overwrites the one before: to reserve memory anew would take as long as the product.
    """
    left, right = factors(a, b)
    memory = a.new_empty(min(BLOCK, len(a)), len(b))
    for rows in torch.arange(len(a)).split(BLOCK):
        yield rows, torch.mm(left[rows], right, out=memory[: len(rows)]).clamp_min_(0)


def nearest(a: Tensor, b: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Squared distances and indices of the k nearest neighbours of ``a`` in ``b``, each (N, k), in ascending order."""
    blocks = [block.topk(k, dim=1, largest=False) for _, block in distance_blocks(a, b)]
    return torch.cat([f.values for f in blocks]), torch.cat([f.indices for f in blocks])


class Memorisation(NamedTuple):
    """Memorised samples and nearest training examples.

    Attributes:
        share: Share of memorised samples.
        exact: Share of samples equal to a training example.
        nearest: (M,) index of the nearest training example of each sample.
        distance: (M,) Euclidean distance to it.
        authenticity: Share of samples farther from their nearest training example than that one is from its own
            nearest. 0 of copies; to be compared with that of held-out examples.
    """

    share: float
    exact: float
    nearest: Tensor
    distance: Tensor
    authenticity: float


def memorised(training: Tensor, samples: Tensor, threshold: float = 1 / 3) -> Memorisation:
    """Finds samples nearer to a training example than ``threshold`` times its distance to the next training example.

    Source: Diffusion Probabilistic Models Generalize when They Fail to Memorize (Yoon et al., 2023), the
    ratio test with its threshold of 1/3. Differs from it: the sample's distance to its nearest training example is
    compared with that example's distance to its nearest neighbour, and not with the sample's second nearest.
    Authenticity: How Faithful is your Synthetic Data? (Alaa et al., 2022), arXiv:2102.08921, section 3.3.

    Args:
        training: (N, D).
        samples: (M, D).
    """
    training, samples = training.double(), samples.double()
    squared, index = nearest(samples, training, 1)
    spacing = nearest(training, training, 2)[0][:, 1]
    squared, index = squared[:, 0], index[:, 0]
    share = (squared < threshold**2 * spacing[index]).double().mean().item()
    exact = (samples == training[index]).all(1).double().mean().item()
    authenticity = (squared > spacing[index]).double().mean().item()
    return Memorisation(share, exact, index, squared.sqrt(), authenticity)
