r"""Joint energy-based model: a classifier whose logits are the energies of x with each label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dgm.errors import BadInput
from dgm.models.energy.base import LangevinEnergy, default_noise
from dgm.models.energy.ebm import EBM
from dgm.models.energy.trainers import COLD
from dgm.networks.conditions import check_condition, is_label
from dgm.networks.energy import EnergyFeatures
from dgm.protocols import (
    Batch,
    Classifying,
    Conditions,
    Diagnosed,
    PerExample,
    Progressive,
    Samplable,
    Stateful,
    Symptom,
    Trainable,
    Unnormalised,
)
from dgm.settings import setting
from dgm.space import Space


class JEM(LangevinEnergy):
    r"""Joint energy-based model of x and its label; an unnormalised log-likelihood and an exact p(y|x).

    .. math::
        p(y|x) = \frac{e^{l_y(z)}}{\sum_k e^{l_k(z)}}, \qquad f(z, y) = -l_y(z), \qquad
        f(z) = -\log \sum_k e^{l_k(z)}

    z is the scaled x, l_y the logits. Each step minimises -log p(y|x) + f(z+) - f(z-) + alpha (f(z+)² + f(z-)²), with
    z- the final states of chains of exp(-f(z) / T) from a replay buffer. As in the source, chains have a temperature T
    far below 1 and the classifier has none: the energy f / T is in the units of the chains, p(y|x) is of T = 1.

    ``energy(x, y)`` is of the chains given y and ``energy(x)`` of those without. At T = 1 they have the same unknown
    log Z and differ by -log p(y|x); at any other T each has a log Z of its own. Without labels the model has one logit
    and is an `EBM`.

    Source: Your Classifier is Secretly an Energy Based Model and You Should Treat it Like One (Grathwohl et al., 2020),
    arXiv:1912.03263, equations 5-8 and algorithm 1. Differs from it: a small network; chains as those of `EBM`, with a
    smaller buffer and a clipped drift; the squared energies, without which the source's trainings diverge and are
    restarted.

    Args:
        space: Any space but tokens.
        condition: A label.

    Example:
        >>> jem = JEM(Space.continuous((2,)), JEM.Config(), Space.categories(3))
        >>> torch.allclose(jem.label_log_probs(torch.zeros(4, 2)).exp().sum(1), torch.ones(4))
        True
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        width: int = setting(
            32, "channels at full resolution, doubled at each halving; of perceptrons, a quarter", low=1
        )
        langevin_steps: int = setting(20, "Langevin steps of the chains in each training step", low=1, high=100_000)
        sampling_steps: int = setting(300, "Langevin steps of a sample", low=1, high=100_000)
        step_size: float = setting(0.2, "step size eta of the chains, for scaled data", low=1e-6)
        noise: float = setting(
            default_noise(0.2, COLD), "standard deviation of the noise of each step, for scaled data", low=0.0
        )
        data_noise: float = setting(0.03, "standard deviation of the noise added to scaled data", low=0.0)
        regularisation: float = setting(0.1, "alpha, weight of the squared energies", low=0.0)
        buffer: int = setting(1024, "chains in the replay buffer", low=1)

    conditions: ClassVar[frozenset[str]] = frozenset({"categories"})
    defaults: ClassVar[dict[str, Any]] = EBM.defaults

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        if condition is not None and not is_label(condition):
            raise BadInput(f"jem classifies by one label, got {condition}", "leave the condition out, or take ebm")
        step_size, noise, buffer = config.step_size, config.noise, config.buffer
        super().__init__(space, config, condition, step_size=step_size, noise=noise, buffer=buffer)
        labels = 1 if condition is None else condition.values or 1
        self.features = EnergyFeatures(space.shape, config.width)
        self.last = nn.Linear(self.features.features, labels)
        capabilities = {Trainable, Samplable, Progressive, Unnormalised, Stateful, Diagnosed}
        self.capabilities = frozenset(capabilities | ({Classifying} if condition is not None else set()))

    def logits(self, z: Tensor) -> Tensor:
        """l of scaled examples, (B, labels)."""
        return self.last(self.features(z))

    def potential(self, z: Tensor, y: Conditions | None = None) -> PerExample:
        return potential_of(self.logits(z), y)

    def energy(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """E(x, y), or E(x) without y, which has the same log Z only at T = 1."""
        y = None if y is None else check_condition(y, self.condition)
        return self.potential(self.scaling(x), y) / self.temperature - self.scaling.ladj

    def label_log_probs(self, x: Batch) -> Tensor:
        return self.logits(self.scaling(x)).log_softmax(1)

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """-log p(y|x), and the difference of f between data and chains; no likelihood."""
        return self.loss_and_outputs(x, y)[0]

    def loss_and_outputs(self, x: Batch, y: Conditions | None = None) -> tuple[PerExample, tuple[Tensor, ...]]:
        """The loss, the rows of the chains in the replay buffer, and their final states."""
        y, z = check_condition(y, self.condition), self.scaling(x)
        z = z + self.config.data_noise * torch.randn_like(z)
        rows, start, _ = self.continued(z, None)
        ends = self.end(start, None)
        of_data, of_chains = self.logits(torch.cat([z, ends])).chunk(2)
        positive, negative = potential_of(of_data), potential_of(of_chains)
        loss = positive - negative + self.config.regularisation * (positive.square() + negative.square())
        return (loss if y is None else loss + cross_entropy(of_data, y, reduction="none")), (rows, ends)

    @torch.no_grad()
    def diagnose(self, x: Batch, y: Conditions | None = None) -> dict[str, Symptom]:
        symptoms = super().diagnose(x, None)
        if y is not None:
            right = (self.label_log_probs(x).argmax(1) == y).double().mean()
            symptoms["accuracy"] = Symptom(float(right))
        return symptoms


def potential_of(logits: Tensor, y: Conditions | None = None) -> PerExample:
    """f(z, y), or f(z) of all labels."""
    return -logits.logsumexp(1) if y is None else -logits.gather(1, y[:, None])[:, 0]
