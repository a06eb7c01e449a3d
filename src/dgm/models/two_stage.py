r"""Two stages: a first stage with a code for each x, and a prior, which is a model of the codes.

.. math:: p(x) = \int p(x|z) \, p(z) \, dz

The prior is any model of the first stage's latent space. It replaces the distribution of codes that the first stage was
trained with, and is trained after the first stage. The kind of the likelihood follows from both:

- An invertible first stage z = f(x) is a change of variables: log p(x) = log p(z) + log \|det dz/dx\| has the same kind
  as log p(z).
- A first stage with p(x|z) and q(z|x) has the bound log p(x) >= E_q[log p(x|z) + log p(z) - log q(z|x)], in which log
  p(z) is exact or a bound; an estimate of log p(z) makes it an estimate of the bound.
- With any other first stage, such as an autoencoder, there is no likelihood, since it has no density of x given z.

Source: Diagnosing and Enhancing VAE Models (Dai & Wipf, 2019), arXiv:1903.05789, section 4, where both stages are VAEs;
Neural Discrete Representation Learning (van den Oord et al., 2017), arXiv:1711.00937, section 3.3; High-Resolution
Image Synthesis with Latent Diffusion Models (Rombach et al., 2021), arXiv:2112.10752, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dgm.composite import StatesOfPart, TrainsPart
from dgm.errors import BadInput, Unsupported
from dgm.likelihood import Kind, kind_of, stated_method
from dgm.modes import device_of
from dgm.networks.conditions import sampled_condition
from dgm.networks.raster import raster_order
from dgm.protocols import (
    Batch,
    BoundedLikelihood,
    Conditions,
    DataDependent,
    Diagnosed,
    EstimatedLikelihood,
    ExactLikelihood,
    Fittable,
    ImportanceWeighted,
    Invertible,
    Latent,
    Model,
    MultiPlayer,
    PerExample,
    Progressive,
    Regularised,
    Samplable,
    State,
    Stateful,
    Trainable,
    Unnormalised,
    Variational,
    condition_of,
    has,
)
from dgm.seeds import Seed, Streams, streams
from dgm.space import Space

BY_BATCHES = (Trainable, MultiPlayer, Fittable, Stateful, DataDependent, Regularised, Diagnosed)
OF_THE_PRIOR = (*BY_BATCHES, Samplable, Progressive)
# capability of the prior -> those of the pair, if the first stage is invertible, and if it is variational
INVERTIBLE: Mapping[type, tuple[type, ...]] = {
    ExactLikelihood: (ExactLikelihood,),
    BoundedLikelihood: (BoundedLikelihood,),
    ImportanceWeighted: (ImportanceWeighted,),
    EstimatedLikelihood: (EstimatedLikelihood,),
    Unnormalised: (Unnormalised,),
}
VARIATIONAL: Mapping[type, tuple[type, ...]] = {
    ExactLikelihood: (BoundedLikelihood, ImportanceWeighted),
    BoundedLikelihood: (BoundedLikelihood,),
    ImportanceWeighted: (ImportanceWeighted,),
    EstimatedLikelihood: (EstimatedLikelihood,),
}


class TwoStage(TrainsPart):
    """A frozen first stage and a trained prior of its codes.

    Args:
        space: The space of the first stage.
        condition: The space of y, the condition of one stage or of both; each conditional stage receives all of y.
        first_stage: A `dgm.protocols.Latent`. It is frozen.
        prior: A model of its ``latent_space``, whose space may have a typical location and scale of the codes.

    Example:
        >>> from dgm.registry import create
        >>> vae = create("vae", Space.binary((1, 4, 4)), latent=2)
        >>> model = TwoStage.of(vae, create("realnvp", vae.latent_space, layers=2))
        >>> model.sample(3, seed=0).shape
        torch.Size([3, 1, 4, 4])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config: ...

    def __init__(
        self, space: Space, config: Config, condition: Space | None = None, *, first_stage: Model, prior: Model
    ) -> None:
        super().__init__()
        self.refuse_without_codes(first_stage, space)
        if bare(prior.space) != bare(first_stage.latent_space):
            wrong = f"a prior of {prior.space} does not fit a first stage of {first_stage.space} to "
            raise BadInput(f"{wrong}{first_stage.latent_space}", "make it of the first stage's latent_space")
        if condition != common_condition(first_stage, prior):
            raise BadInput(f"neither stage is conditional on {condition}", "give the condition of its stages")
        self.space, self.config, self.condition = space, config, condition
        self.first_stage, self.prior = first_stage.requires_grad_(False), prior
        self.defaults, self.loss_unit = getattr(prior, "defaults", {}), getattr(prior, "loss_unit", "")
        self.capabilities = frozenset(capabilities(first_stage, prior))
        self.deterministic_codes = has_deterministic_codes(first_stage)
        self.likelihood_method = self.stated(kind_of(self))
        self.estimate_method = self.stated(Kind.ESTIMATE)

    @classmethod
    def of(cls, first_stage: Model, prior: Model) -> TwoStage:
        """The two, as a model of the first stage's space."""
        condition = common_condition(first_stage, prior)
        return cls(first_stage.space, cls.Config(), condition, first_stage=first_stage, prior=prior)

    @staticmethod
    def refuse_without_codes(first_stage: Model, space: Space) -> None:
        """
        Raises:
            BadInput: If the first stage has no codes, or the prior has another space than its codes.
        """
        if not has(first_stage, Latent) or not hasattr(first_stage, "latent_space"):
            wrong = f"{type(first_stage).__name__} states no latent space, of which a prior would be a model"
            raise BadInput(wrong, "choose a first stage with codes, such as an autoencoder, a vae or a flow")
        if space != first_stage.space:
            wrong = f"the first stage is of {first_stage.space}, the data of {space}"
            raise BadInput(wrong, "give the first stage data like that it was trained on")

    def stated(self, kind: Kind | None) -> str:
        """How a kind of likelihood is computed."""
        if kind is None:
            of_x = has(self.first_stage, Invertible) or has(self.first_stage, Variational)
            return "the prior has none" if of_x else "x has no density given its code"
        of_the_prior = Kind.EXACT if kind is Kind.LOWER_BOUND and has(self.prior, ExactLikelihood) else kind
        first = getattr(self.first_stage, "likelihood_method", "two stages")
        return f"{first}, prior: {stated_method(self.prior, of_the_prior) or of_the_prior.replace('_', ' ')}"

    @property
    def parts(self) -> dict[str, Model]:
        return {"first_stage": self.first_stage, "prior": self.prior}

    @property
    def latent_space(self) -> Space:
        return self.prior.space

    def train(self, mode: bool = True) -> TwoStage:
        """The first stage stays in evaluation mode."""
        super().train(mode)
        self.first_stage.eval()
        return self

    @property
    def trained_part(self) -> tuple[str, Model]:
        return "prior", self.prior

    def for_part(self, x: Batch, y: Conditions | None) -> tuple[Tensor, Conditions | None]:
        return self.sample_code(x, y), taken(self.prior, y)

    def on_codes(self) -> OnCodes:
        return OnCodes(self)

    # -- codes

    def encode(self, x: Batch, y: Conditions | None = None) -> Tensor:
        return self.first_stage.encode(x, taken(self.first_stage, y))

    def decode(self, z: Tensor, y: Conditions | None = None) -> Batch:
        return self.first_stage.decode(z, taken(self.first_stage, y))

    def encode_and_ladj(self, x: Batch, y: Conditions | None = None) -> tuple[Tensor, PerExample]:
        return self.first_stage.encode_and_ladj(x, taken(self.first_stage, y))

    def code_and_log_ratio(self, x: Batch, y: Conditions | None = None) -> tuple[Tensor, PerExample]:
        return self.first_stage.code_and_log_ratio(x, taken(self.first_stage, y))

    @torch.no_grad()
    def sample_code(self, x: Batch, y: Conditions | None = None) -> Tensor:
        """The code that the prior is trained on."""
        return sample_code(self.first_stage, x, y)

    def sample_given_code(self, z: Tensor, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        """A draw of p(x|z), or else the only x of this code."""
        y = taken(self.first_stage, y)
        if has(self.first_stage, Variational):
            return self.first_stage.sample_given_code(z, y, seed=seed)
        return self.first_stage.decode(z, y)

    @torch.no_grad()
    def observed_codes(self, x: Batch, observed: int, y: Conditions | None = None) -> tuple[Tensor, int, Tensor]:
        """The codes of the first values of an image, for an autoregressive prior to complete.

        A code is observed if it is in a row of codes all of whose pixels are observed. The codes at the lower edge also
        depend on the rows below, for which the last observed row is repeated.

        Args:
            x: (B, C, H, W), of which the first ``observed`` values in raster order are used.

        Returns:
            The codes (B, *latent), the number of the first ones that are observed, and the observed values of x, bool.

        Raises:
            Unsupported: If the codes are not a grid on an image.
            BadInput: If no row of codes is observed.
        """
        shape, latent = self.space.shape, self.latent_space.shape
        if len(shape) != 3 or len(latent) < 2:
            wrong = f"codes of the shape {latent} have no positions in x of the shape {shape}"
            raise Unsupported(wrong, "leave the given part out, or choose a first stage such as a vq_vae of images")
        rows = observed // (shape[0] * shape[2])
        of_codes = rows * latent[-2] // shape[1]
        if not of_codes:
            wrong = f"{rows} given rows of the image hold no row of codes, which is one of {latent[-2]}"
            raise BadInput(wrong, f"give at least {-(-shape[1] // latent[-2])} of its {shape[1]} rows")
        filled = torch.cat([x[:, :, :rows], x[:, :, rows - 1 : rows].expand(-1, -1, shape[1] - rows, -1)], 2)
        known = torch.zeros(self.space.dim, dtype=torch.bool, device=x.device)
        known[torch.as_tensor(raster_order(self.space)[:observed], device=x.device)] = True
        dims = of_codes * math.prod(latent) // latent[-2]
        return self.sample_code(filled, y), dims, known.view(shape)

    # -- likelihood

    def code_and_log_factor(self, x: Batch, y: Conditions | None) -> tuple[Tensor, PerExample]:
        """z, and the log-density ratio that is added to log p(z)."""
        return self.encode_and_ladj(x, y) if has(self.first_stage, Invertible) else self.code_and_log_ratio(x, y)

    def log_prob(self, x: Batch, y: Conditions | None = None) -> PerExample:
        z, ladj = self.code_and_log_factor(x, y)
        return self.prior.log_prob(z, taken(self.prior, y)) + ladj

    def elbo(self, x: Batch, y: Conditions | None = None) -> PerExample:
        z, log_factor = self.code_and_log_factor(x, y)
        bound = self.prior.log_prob if has(self.prior, ExactLikelihood) else self.prior.elbo
        return bound(z, taken(self.prior, y)) + log_factor

    def log_weight(self, x: Batch, y: Conditions | None = None) -> PerExample:
        z, log_factor = self.code_and_log_factor(x, y)
        weight = self.prior.log_prob if has(self.prior, ExactLikelihood) else self.prior.log_weight
        return weight(z, taken(self.prior, y)) + log_factor

    def log_prob_estimate(self, x: Batch, y: Conditions | None = None) -> PerExample:
        z, log_factor = self.code_and_log_factor(x, y)
        return self.prior.log_prob_estimate(z, taken(self.prior, y)) + log_factor

    def energy(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """E(z) - log |det dz/dx|, with the prior's Z."""
        z, ladj = self.encode_and_ladj(x, y)
        return self.prior.energy(z, taken(self.prior, y)) - ladj

    # -- samples

    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        """x ~ p(x|z) at z ~ p(z)."""
        z, y, noise = self.drawn(n, y, seed)
        return self.sample_given_code(z, y, seed=noise)

    def sample_mean(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        """decode(z) at the z of `sample`."""
        z, y, _ = self.drawn(n, y, seed)
        return self.decode(z, y)

    @torch.no_grad()
    def drawn(self, n: int, y: Conditions | None, seed: Seed) -> tuple[Tensor, Conditions | None, Streams]:
        """Codes, conditions, and the streams after both."""
        noise = streams(n, seed, device_of(self))
        y = sampled_condition(y, self, noise)
        return self.prior.sample(n, taken(self.prior, y), seed=noise), y, noise

    @torch.no_grad()
    def through_part(
        self, states: StatesOfPart, y: Conditions | None, noise: Streams, *, mean: bool = False
    ) -> Iterator[State]:
        """The prior's states decoded; the last one is a draw of p(x|z)."""
        y = sampled_condition(y, self, noise)
        for state in states(taken(self.prior, y), noise):
            drawn = state.sampling_step == state.sampling_steps and not mean
            x = self.sample_given_code(state.x, y, seed=noise) if drawn else self.decode(state.x, y)
            yield state._replace(x=x)


class OnCodes(TrainsPart):
    """Two stages that are trained by batches of codes in place of x."""

    def __init__(self, model: TwoStage) -> None:
        super().__init__()
        self.prior, self.space, self.condition = model.prior, model.prior.space, model.condition
        self.capabilities = frozenset(one for one in BY_BATCHES if has(model.prior, one))
        self.defaults, self.loss_unit = model.defaults, model.loss_unit

    @property
    def trained_part(self) -> tuple[str, Model]:
        return "prior", self.prior

    def through_part(
        self, states: StatesOfPart, y: Conditions | None, noise: Streams, *, mean: bool = False
    ) -> Iterator[State]:
        return states(taken(self.prior, y), noise)

    def for_part(self, x: Batch, y: Conditions | None) -> tuple[Tensor, Conditions | None]:
        return x, taken(self.prior, y)


def sample_code(first_stage: Model, x: Batch, y: Conditions | None) -> Tensor:
    """A draw of q(z|x), or else the only code of x."""
    sample = first_stage.sample_code if has(first_stage, Variational) else first_stage.encode
    return sample(x, taken(first_stage, y))


def taken(stage: Model, y: Conditions | None) -> Conditions | None:
    """y, for a stage that is conditional."""
    return None if condition_of(stage) is None else y


def bare(space: Space) -> Space:
    """The space without the typical location and scale, which do not affect the set of its values."""
    return replace(space, loc=(), scale=())


def common_condition(first_stage: Model, prior: Model) -> Space | None:
    """That of whichever stage has one.

    Raises:
        BadInput: For stages with different ones.
    """
    first, second = (condition_of(stage) for stage in (first_stage, prior))
    if first is not None and second is not None and first != second:
        raise BadInput(f"the first stage is conditional on {first}, the prior on {second}", "give both the same")
    return first if second is None else second


def has_deterministic_codes(first_stage: Model) -> bool:
    """Whether q(z|x) is a point mass on a discrete code."""
    return getattr(first_stage, "deterministic_codes", False)


def capabilities(first_stage: Model, prior: Model) -> Iterator[type]:
    """Those of the two together."""
    yield Latent
    yield from (one for one in OF_THE_PRIOR if has(prior, one))
    for of_codes, table in ((Invertible, INVERTIBLE), (Variational, VARIATIONAL)):
        if has(first_stage, of_codes):
            yield of_codes
            both = {one for own, found in table.items() if has(prior, own) for one in found}
            # the other codes of x, which a point mass leaves out, are missing from its weights
            yield from both - {ImportanceWeighted} if has_deterministic_codes(first_stage) else both
            return
