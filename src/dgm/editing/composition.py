r"""Products, mixtures and negations of trained models: of energies, or of the scores of denoising models.

.. math::
    p \propto (p_1 + p_2 + \dots)_{or} \prod_{and} p_i \prod_{not} p_j^{-w}, \qquad
    E = -\log \sum_{or} e^{-E_k} + \sum_{and} E_i - w \sum_{not} E_j

Energies are composed as they are and sampled by the Langevin chains of the first one, at its temperature. Their
normalising constants are unknown, and so are the weights of a mixture. Of scores see `dgm.samplers.composition`;
there each sample takes one of the alternatives with equal probability.

Source: Compositional Visual Generation with Energy Based Models (Du et al., 2020), arXiv:2004.06030, equations 5-9.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from dgm.errors import BadInput, Unsupported
from dgm.models.energy.base import LangevinEnergy
from dgm.modes import evaluated
from dgm.protocols import Batch, Classifying, Conditions, Denoising, Model, PerExample, State, condition_of, has
from dgm.samplers.annealed_langevin import annealed_langevin
from dgm.samplers.composition import Factor, evidence, one_of, product, whole_density
from dgm.samplers.guidance import refuse_other_path
from dgm.samplers.times import times
from dgm.seeds import Seed, streams

STEP_SIZE = 0.6  # of Langevin steps over the variance of the noise, for one density; less for a product of many


class Term(NamedTuple):
    """A model and one condition, (1, *shape), or None for a model without one, or for its unconditional density."""

    model: Model
    y: Conditions | None = None


class Composition(NamedTuple):
    """The terms by their role; ``either`` has at least one."""

    either: Sequence[Term]
    also: Sequence[Term] = ()
    without: Sequence[Term] = ()
    weight: float = 1.0

    @property
    def terms(self) -> list[Term]:
        return [*self.either, *self.also, *self.without]


class ComposedEnergy(LangevinEnergy):
    """The composition of energies, as an energy with the scaling and the chains of the first."""

    def __init__(self, of: Composition, sampling_steps: int | None) -> None:
        first = energy_model(of.either[0])
        config = replace(first.config, **({} if sampling_steps is None else {"sampling_steps": sampling_steps}))
        super().__init__(first.space, config, None, step_size=first.step_size, noise=first.noise, buffer=0)
        self.of, self.models = of, models_of(of)
        self.scaling = first.scaling  # on the device of the models

    def potential(self, z: Tensor, y: Conditions | None = None) -> PerExample:
        of = self.of
        energy = -torch.stack([-energy_of(term, z) for term in of.either]).logsumexp(0)
        for term in of.also:
            energy = energy + energy_of(term, z)
        for term in of.without:
            energy = energy - of.weight * energy_of(term, z)
        return energy * self.temperature


def energy_of(term: Term, z: Tensor) -> PerExample:
    """E of scaled examples."""
    model, y = energy_model(term), term.y
    return model.potential(z, rows(y, z)) / model.temperature


def rows(y: Conditions | None, z: Tensor) -> Conditions | None:
    """The one condition of a term for each of the examples, on their device."""
    return None if y is None else y.to(z.device).expand(len(z), *y.shape[1:])


def energy_model(term: Term) -> LangevinEnergy:
    assert isinstance(term.model, LangevinEnergy)  # as `composed` found
    return term.model


class ComposedScore(nn.Module):
    """The composition of the scores of denoising models, with the scaling and the path of the first."""

    def __init__(self, of: Composition, sampling_steps: int, langevin_steps: int) -> None:
        super().__init__()
        self.of, self.models = of, models_of(of)
        self.sampling_steps, self.langevin_steps = sampling_steps, langevin_steps

    @evaluated
    @torch.no_grad()
    def trajectory(self, n: int, *, seed: Seed = None) -> Iterator[State]:
        """Langevin steps at each noise scale, equally spaced in log-SNR."""
        of, first = self.of, self.of.either[0].model
        loc, path = first.scaling.loc, first.path
        draw = streams(n, seed, loc.device)
        chosen = (draw.uniform(()) * len(of.either)).long()

        def noise() -> Tensor:
            return draw.normal(first.space.shape).to(loc)

        factors = [Factor(one_of([whole_density(t.model, rows(t.y, chosen)) for t in of.either], chosen), 1.0)]
        factors += [Factor(evidence(term.model, rows(term.y, chosen)), 1.0) for term in of.also]
        factors += [Factor(evidence(term.model, rows(term.y, chosen)), -of.weight) for term in of.without]
        grid = times(path, self.sampling_steps, "log_snr", t_min=first.t_min).to(loc)
        walk = annealed_langevin(
            product(factors, path),
            path,
            path.sigma(grid[0]) * noise(),
            grid,
            noise,
            langevin_steps=self.langevin_steps,
            step_size=STEP_SIZE / sum(abs(factor.weight) for factor in factors),
        )
        for step, x in enumerate(walk, 1):
            yield State(first.scaling.inverse(x), step, self.sampling_steps)


def models_of(of: Composition) -> nn.ModuleList:
    """Each model once, so that all change their mode and their device together."""
    return nn.ModuleList(cast(nn.Module, model) for model in {id(term.model): term.model for term in of.terms}.values())


def composed(of: Composition, *, sampling_steps: int | None = None, langevin_steps: int = 10) -> nn.Module:
    """A module with a ``trajectory`` of the composition's samples.

    Args:
        sampling_steps: Noise scales of scores (50), or Langevin steps of energies (those of the first).
        langevin_steps: Langevin steps at each noise scale; only of scores.

    Raises:
        BadInput: If the spaces or the paths of the models differ, or a model needs a condition.
        Unsupported: If the models are neither all energies nor all denoising models.
    """
    first, *others = of.terms
    for term in others:
        if term.model.space != first.model.space:
            wrong = f"a composition is of one space, got {first.model.space} and {term.model.space}"
            raise BadInput(wrong, "take runs on data of the same shape and values")
    if all(isinstance(term.model, LangevinEnergy) for term in of.terms):
        for term in of.terms:
            classifies = has(term.model, Classifying)  # whose E(x) is a density of its own
            if condition_of(term.model) is not None and term.y is None and not classifies:
                wrong = f"the energy of {type(term.model).__name__} needs a condition of its own"
                raise BadInput(wrong, "name it after the run: RUN@CONDITION")
        return ComposedEnergy(of, sampling_steps)
    if not all(has(term.model, Denoising) for term in of.terms):
        kinds = ", ".join(sorted({type(term.model).__name__ for term in of.terms}))
        raise Unsupported(
            f"a composition is of energies alone or of denoising models alone, got {kinds}", "take others"
        )
    for term in others:
        refuse_other_path(term.model, first.model)
    for term in of.terms:
        if condition_of(term.model) is not None and term.y is None:
            refuse_unconditional(term.model)
    return ComposedScore(of, sampling_steps or 50, langevin_steps)


def refuse_unconditional(model: Model) -> None:
    if not getattr(model.config, "condition_dropout", 0):
        wrong = f"this {type(model).__name__} was trained without condition dropout and needs a condition"
        raise BadInput(wrong, "name it after the run, RUN@CONDITION, or train with --model.condition-dropout 0.1")


def sampled(of: Composition, n: int, *, seed: Seed = 0, **how: int | None) -> Batch:
    """``n`` samples of a composition, (n, *shape)."""
    *_, last = composed(of, **how).trajectory(n, seed=seed)  # type: ignore[arg-type, operator]
    return last.x
