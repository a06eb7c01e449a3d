"""Draws of the missing values of x given the observed ones, p(x_m | x_o), by the best method of each model.

* A model with conditionals in closed form, such as `gmm` of real numbers, draws from them.
* An autoregressive model draws dimension by dimension, with particles where a dimension is observed after a missing
  one: see `dgm.editing.particles`. `orderless_made` does so under each of its orders, and chooses one of the draws
  by the probability of the observed values under its order.
* A denoising model generates the missing values as RePaint does: see `dgm.editing.restore`. It is approximate.
* Any other model with a density draws by importance sampling: see `dgm.editing.proposals`. The density may be a lower
  bound with importance weights, which is exact for many draws too, or unnormalised.
* Of any other model that can be sampled, samples close to the observed values are used. It is approximate, and its
  error grows with the number of observed values.

Where the model says that values of x may be missing, the drawn values may be known to be present, as in the
imputation of a table; otherwise a missing value may be drawn, too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from dgm.editing import particles, proposals, restore
from dgm.editing.particles import Drawn, Factors
from dgm.editing.resampling import Resampling
from dgm.errors import Unsupported
from dgm.likelihood import Kind, kind_of
from dgm.models.autoregressive.orderless_made import OrderlessMADE
from dgm.networks.raster import raster_order, to_sequence
from dgm.protocols import Autoregressive, Conditions, Denoising, Imputing, Model, Samplable, condition_of, has
from dgm.seeds import Streams, categorical, mix
from dgm.space import Space

PARTICLES, OF_AN_ORDER, DRAWS = 64, 16, 128
NEAREST = 5  # samples that one is chosen from
TOGETHER = 1 << 13  # rows of particles or draws that are computed together


class Completer(ABC):
    """A means to complete examples with one model.

    Attributes:
        method: In words.
        draws: The particles or draws for each example.
        exact: Whether the draws are exact, or become so with the number of draws.
        kind: The kind of the log p(x_o) that it finds; None where it finds none.
    """

    method: str
    draws = 1
    exact = True
    kind: Kind | None = None

    def __init__(self, model: Model, seed: int) -> None:
        self.model, self.seed = model, seed

    def streams(self, keys: Sequence[int]) -> Streams:
        return Streams(self.seed, keys)

    @abstractmethod
    def __call__(self, x: Tensor, seen: Tensor, y: Conditions | None, keys: Sequence[int], *, present: bool) -> Drawn:
        """Completed examples; the draw of key k depends on the seed, on k and on its example alone.

        Args:
            x: (B, D), flattened, with a value of the space also where nothing is observed.
            seen: bool (B, D).
        """


class InClosedForm(Completer):
    method = "exactly, in closed form"

    def __init__(self, model: Model, seed: int) -> None:
        super().__init__(model, seed)
        self.kind = kind_of(model)

    def __call__(self, x: Tensor, seen: Tensor, y: Conditions | None, keys: Sequence[int], *, present: bool) -> Drawn:
        shape = self.model.space.shape
        found = self.model.impute(x.view(-1, *shape), seen.view(-1, *shape), y, seed=self.streams(keys))
        log_p = self.model.log_prob_observed(x.view(-1, *shape), seen.view(-1, *shape), y)
        return without_weights(found.flatten(1))._replace(log_p=log_p.double())


class ByParticles(Completer):
    method = f"one after another in the order of the model, with {PARTICLES} particles where the order needs them"
    draws = PARTICLES
    kind = Kind.LOWER_BOUND

    def __call__(self, x: Tensor, seen: Tensor, y: Conditions | None, keys: Sequence[int], *, present: bool) -> Drawn:
        space = self.model.space
        raster = raster_order(space)

        def conditionals(x: Tensor, y: Conditions | None) -> Tensor:
            return to_sequence(self.model.conditionals(x, y), space)

        factors = Factors(conditionals, range(space.dim), raster, self.model.observed, space.shape)
        how = {"present": present, "particles": self.draws}
        return particles.drawn(factors, x, seen, y, self.streams(keys), **how)  # type: ignore[arg-type]


class ByOrders(Completer):
    method = (
        f"one after another in each order of the model, with {OF_AN_ORDER} particles in each, weighted by the order"
    )
    draws = OF_AN_ORDER
    kind = Kind.LOWER_BOUND

    def __call__(self, x: Tensor, seen: Tensor, y: Conditions | None, keys: Sequence[int], *, present: bool) -> Drawn:
        noise, of_each = self.streams(keys), []
        for k in range(self.model.config.orders):
            how = {"present": present, "particles": self.draws}
            of_each.append(particles.drawn(self.factors(k), x, seen, y, noise, **how))  # type: ignore[arg-type]
        log_p = torch.stack([drawn.log_p for drawn in of_each], 1)
        order = categorical(log_p, noise.uniform((1,))[:, 0])
        found = torch.stack([drawn.x for drawn in of_each], 1)[torch.arange(len(x)), order]
        least = torch.stack([drawn.effective for drawn in of_each], 1)
        return Drawn(found, particles.mean_weight(log_p), least.gather(1, order[:, None])[:, 0])

    def factors(self, k: int) -> Factors:
        """Of order k."""
        model: OrderlessMADE = self.model  # type: ignore[assignment]
        outputs = partial(model.made.outputs, m=model.m[k], places=model.places[k])
        order = model.places[k].argsort().tolist()
        return Factors(outputs, order, raster_order(model.space), model.made.each, model.space.shape)


class ByInpainting(Completer):
    method = "by RePaint, approximately"
    exact = False

    def __init__(self, model: Model, seed: int) -> None:
        super().__init__(model, seed)
        self.representation = proposals.Representation(model)

    def __call__(self, x: Tensor, seen: Tensor, y: Conditions | None, keys: Sequence[int], *, present: bool) -> Drawn:
        model, noise = self.representation, self.streams(keys)
        part = model.part
        known = model.spread(seen, present=present).view(-1, *part.space.shape)
        v = model.lifted(x, noise, 1)[0][:, 0].float().view(-1, *part.space.shape)
        *_, last = restore.inpaint(part, v, known, y, seed=noise, resampling=Resampling())
        return without_weights(model.floor(last.x.flatten(1).double()))


class ByImportance(Completer):
    draws = DRAWS

    def __init__(self, model: Model, seed: int) -> None:
        super().__init__(model, seed)
        self.representation = proposals.Representation(model)
        self.proposal = proposals.Proposal(self.representation.samples(proposals.SAMPLES, seed), seed)
        normalised = self.representation.kind is not Kind.UNNORMALISED
        self.kind = Kind.LOWER_BOUND if normalised else None
        self.method = f"by importance sampling from the model's density, {DRAWS} draws"

    def __call__(self, x: Tensor, seen: Tensor, y: Conditions | None, keys: Sequence[int], *, present: bool) -> Drawn:
        def of_proposal(draws: int) -> Streams:
            return Streams(mix(self.seed, draws), [key * draws + k for key in keys for k in range(draws)])

        how = {"present": present, "draws": self.draws}
        noise = self.streams(keys)
        return proposals.drawn(self.representation, self.proposal, x, seen, y, noise, of_proposal, **how)  # type: ignore[arg-type]


class BySamples(Completer):
    method = (
        f"from the {NEAREST} samples of {proposals.SAMPLES:,} that are closest to the observed values, approximately"
    )
    exact = False

    def __init__(self, model: Model, seed: int) -> None:
        super().__init__(model, seed)
        if condition_of(model) is not None:
            wrong = f"{type(model).__name__} has neither a density nor a denoiser to draw by under a condition"
            raise Unsupported(wrong, "use a model with a likelihood; `dgm models` lists them")
        samples = model.sample(proposals.SAMPLES, seed=Streams(mix(seed, 1), range(proposals.SAMPLES)))
        self.samples = samples.flatten(1).double()
        self.unordered, self.spread = unordered(model.space), std(self.samples)

    def __call__(self, x: Tensor, seen: Tensor, y: Conditions | None, keys: Sequence[int], *, present: bool) -> Drawn:
        distance = self.distances(x.double(), seen)
        if present:
            gaps = self.samples.isnan().double() @ (~seen).double().mT
            distance = distance.masked_fill(gaps.mT > 0, torch.inf)
        close = distance.topk(NEAREST, largest=False).indices
        which = (self.streams(keys).uniform((1,)) * NEAREST).long()
        drawn = self.samples[close.gather(1, which)[:, 0]]
        return without_weights(torch.where(seen, x.double(), drawn).to(x))

    def distances(self, x: Tensor, seen: Tensor) -> Tensor:
        """(B, samples): squared differences of standardised numbers, and 1 for other categories and for gaps."""
        total = x.new_zeros(len(x), len(self.samples))
        for dim in range(x.shape[1]):
            off = (x[:, dim, None] - self.samples[:, dim]).div(self.spread[dim]).square()
            off = (off > 0).double() if self.unordered[dim] else off
            both = x[:, dim, None].isnan() & self.samples[:, dim].isnan()
            total += torch.where(both, 0.0, off.nan_to_num(1.0)) * seen[:, dim, None]
        return total


def without_weights(x: Tensor) -> Drawn:
    return Drawn(x, torch.full((len(x),), torch.nan), torch.full((len(x),), torch.inf))


def std(x: Tensor) -> Tensor:
    """Of the known values of each column, and 1 where it is 0."""
    n = (~x.isnan()).sum(0).clamp_min(1)
    mean = x.nan_to_num().sum(0) / n
    found = ((x - mean).nan_to_num().square().sum(0) / n).sqrt()
    return torch.where(found > 0, found, 1.0)


def unordered(space: Space) -> list[bool]:
    """Which numbers of x are those of categories."""
    parts = [part for _, part in space.parts] or [space]
    return [part.kind in ("categories", "tokens") for part in parts for _ in range(part.dim)]


def completer(model: Model, seed: int) -> Completer:
    """The best means of a model.

    Raises:
        Unsupported: If there is none.
    """
    return best(model)(model, seed)


def best(model: Model) -> type[Completer]:
    if has(model, Imputing):
        return InClosedForm
    if has(model, Autoregressive):
        return ByParticles
    if isinstance(model, OrderlessMADE):
        return ByOrders
    representation = proposals.Representation(model)
    if has(representation.part, Denoising):
        return ByInpainting
    if representation.kind is not None and has(representation.part, Samplable):
        return ByImportance
    if has(model, Samplable) and model.space.kind != "tokens":
        return BySamples
    wrong = f"{type(model).__name__} cannot draw a part of x given the others"
    raise Unsupported(wrong, "use a model that draws samples; `dgm models` lists them")
