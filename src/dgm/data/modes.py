"""The modes of a data set, which samples are assigned to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Modes:
    """A number of modes, all of the same probability.

    Attributes:
        count: Their number.
        of: From (N, *shape) to the mode of each example, (N,) int64; -1 for an example of no mode.
        rule: The condition for an example to belong to a mode.
    """

    count: int
    of: Callable[[Tensor], Tensor]
    rule: str

    def describe(self, samples: Tensor) -> dict[str, Any]:
        """How many modes the samples cover, and how evenly; JSON-serialisable.

        ``kl`` is KL(q || p) in nats of the shares q of the modes among the samples that are of any, and the data's
        uniform p: 0 for all modes evenly, log(count) for one.
        """
        index = self.of(samples)
        inside = index[index >= 0]
        share = inside.bincount(minlength=self.count).double() / max(len(inside), 1)
        missed = (share == 0).nonzero()[:, 0].tolist()
        return {
            "found": self.count - len(missed),
            "of": self.count,
            "missed": missed,
            "kl": float(torch.special.xlogy(share, share * self.count).sum()) if len(inside) else None,
            "total_variation": float((share - 1 / self.count).abs().sum() / 2),
            "outside": 1 - len(inside) / len(samples),
            "n": len(samples),
            "shares": share.tolist(),
            "rule": self.rule,
        }


def near(centres: Tensor, radius: float) -> Modes:
    """The modes of points in the plane: within ``radius`` of a centre.

    >>> near(torch.tensor([[0.0, 0.0], [1.0, 0.0]]), 0.3).of(torch.tensor([[0.9, 0.0], [0.5, 0.0]]))
    tensor([ 1, -1])
    """

    def of(x: Tensor) -> Tensor:
        distance, index = torch.cdist(x.double(), centres.double()).min(1)
        return torch.where(distance <= radius, index, -1)

    return Modes(len(centres), of, f"modes with a sample within {radius:g} of their centre")
