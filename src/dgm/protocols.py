"""The capabilities of models. Each is a Protocol of methods; a model has the capabilities whose methods it defines.

Every model is a `torch.nn.Module` with the constructor ``Model(space, config)``, or ``Model(space, config, condition)``
if it is conditional on y in the space ``condition``. The arguments are stored as ``self.space``, ``self.config`` and
``self.condition``. Its methods receive and return x in the space of the data. Optional class attributes:

``spaces``
    The kinds of space that the model supports, by default all but records. A model that supports only continuous x is
    dequantised by `dgm.create` on ordered discrete values and on a record.
``conditions``
    The kinds of condition that the model supports; by default none.
``defaults``
    The optimiser settings of the model's paper, defaults of `dgm.training.Settings` for this model. The settings of one
    player of a game are under its name in ``"players"``: ``{"lr": 1e-4, "players": {"discriminator": {"lr": 4e-4}}}``.
``players``
    The names of a game's players, for the options of the command line.
``loss_unit``
    ``"nats a dimension"`` if the loss is a negative log-likelihood, or a bound of it, divided by the number of
    dimensions. By default it is in nats per example, or it is not a likelihood, such as the squared error of a
    denoiser.
``remedy``
    What to do if the training diverges, in the imperative; by default a lower learning rate or clipping.
``likelihood_method``
    A short description of the likelihood for a table; ``estimate_method`` is the description of the estimate, for a
    model that has an estimate and a better kind of likelihood.

A composite is a model that consists of other models, such as a dequantised model of real numbers, or a first stage with
a prior of its codes. Its constructor is ``Composite(space, config, condition, **parts)``, and it has two more
attributes:

``parts``
    The models that it consists of, by name: submodules with these names. Its description contains theirs.
``capabilities``
    The capabilities that it has. It defines the methods of all capabilities that some parts allow, so the methods do
    not determine its capabilities. Use `has`, never ``isinstance``. A model whose settings choose
    between capabilities, such as between two ways of training, has this attribute, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from dgm.seeds import Seed, Streams
from dgm.space import Space

if TYPE_CHECKING:
    from dgm.condition import Names
    from dgm.distributions.output import OutputDistribution
    from dgm.distributions.scaling import Scaling
    from dgm.processes.gaussian import GaussianPath
    from dgm.processes.parameterisation import Prediction
    from dgm.samplers.diffusion import SamplerConfig

Batch: TypeAlias = Shaped[Tensor, "batch *shape"]
PerExample: TypeAlias = Float[Tensor, "batch"]
Conditions: TypeAlias = Shaped[Tensor, "batch *condition"]  # a batch of the model's condition space: labels are (B,)
Codes: TypeAlias = Shaped[Tensor, "batch *latent"]


class PartlyHidden(NamedTuple):
    """A batch of conditions, some of which are dropped for classifier-free guidance.

    Attributes:
        y: (B, *shape), a batch of the condition space.
        hidden: (B,), True for conditions that are dropped.
    """

    y: Tensor
    hidden: Tensor


class Module(Protocol):
    """The used part of `torch.nn.Module`."""

    training: bool

    def train(self, mode: bool = True) -> Self: ...
    def eval(self) -> Self: ...
    def to(self, device: torch.device | str) -> Self: ...
    def double(self) -> Self: ...
    def requires_grad_(self, requires_grad: bool = True) -> Self: ...
    def zero_grad(self, set_to_none: bool = True) -> None: ...
    def get_submodule(self, target: str) -> nn.Module: ...
    def modules(self) -> Iterator[nn.Module]: ...
    def named_modules(self) -> Iterator[tuple[str, nn.Module]]: ...
    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]: ...
    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]: ...
    def buffers(self, recurse: bool = True) -> Iterator[Tensor]: ...
    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True) -> Any: ...


class BaseModel(Module, Protocol):
    """A module with a space, of which nothing else is known: the interface of all models."""

    @property
    def space(self) -> Space: ...
    @property
    def config(self) -> Any: ...
    @property
    def condition(self) -> Space | None:
        """The space of y. An unconditional model need not have it: read it by `condition_of`."""


def loss_unit(model: Model) -> str:
    """The unit of the loss, or an empty string."""
    return str(getattr(model, "loss_unit", ""))


class State(NamedTuple):
    """One state of a sampler: a batch in the space of the data, after some of the sampling steps."""

    x: Batch
    sampling_step: int
    sampling_steps: int


@runtime_checkable
class Trainable(Protocol):
    """Trained by gradient descent on the mean of a loss."""

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """One value for each example; a negative log-likelihood or bound is in the unit ``loss_unit``.

        It has no side effects: with the same random state two calls give the same result. See `Stateful` for buffers
        that are updated in training.
        """
        ...


@runtime_checkable
class MultiPlayer(Protocol):
    """Trained as a game: each player is a submodule with its own loss."""

    def losses(self, x: Batch, y: Conditions | None = None) -> Iterator[tuple[str, PerExample]]:
        """Yields (name of a submodule, its loss); the loop then takes an optimiser step of that submodule."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """Has buffers that are updated in training: running moments, a replay buffer, an average.

    If an update needs results of the loss, the model also has ``loss_and_outputs(x, y)``, which returns the loss and a
    tuple of tensors without gradient, one row for each example. A game returns the tuple at the end of ``losses``.
    """

    def after_step(self, *outputs: Tensor) -> None:
        """Updates the buffers; called once after each optimiser step, also in a custom training loop.

        Args:
            outputs: The outputs of the loss for the whole batch, over all processes.
        """
        ...


@runtime_checkable
class DataDependent(Protocol):
    """Has parameters that start as functions of data."""

    def initialise(self, x: Batch, y: Conditions | None = None) -> None:
        """Sets them from the first batch; called once before the first step. A second call changes nothing."""
        ...


class Regulariser(NamedTuple):
    """A penalty that is added to the loss of one player at every ``interval``-th step, multiplied by the interval.

    Its average gradient equals that of a penalty at every step. Source: Analyzing and Improving the Image Quality
    of StyleGAN (Karras et al., 2020), arXiv:1912.04958, section 3.1, lazy regularisation. Differs from it: the penalty
    is added to the loss of that step, where the source takes an optimiser step of its own for it.

    Attributes:
        player: The name of the submodule; ``"model"`` for a model with one loss.
        interval: In steps; the first step has the penalty.
        penalty: A function of x and y with one value for each example.
    """

    player: str
    interval: int
    penalty: Callable[[Batch, Conditions | None], PerExample]


@runtime_checkable
class Regularised(Protocol):
    def regularisers(self) -> Sequence[Regulariser]: ...


class Symptom(NamedTuple):
    """A number that says how well a training goes.

    Attributes:
        value: The number now.
        limit: Above it the training is going wrong, if it stays there.
        warning: A sentence that says what is wrong and the remedy.
    """

    value: float
    limit: float = math.inf
    warning: str = ""


@runtime_checkable
class Diagnosed(Protocol):
    def diagnose(self, x: Batch, y: Conditions | None = None) -> Mapping[str, Symptom]:
        """The symptoms of the present weights on one batch of training data, in evaluation mode; no side effects."""
        ...


@runtime_checkable
class Fittable(Protocol):
    """Fitted without gradients, by passes over the data."""

    def fit(self, batches: Iterable[tuple[Tensor, Tensor | None]]) -> Iterator[float]:
        """Yields the mean loss of each pass. ``batches`` can be iterated repeatedly.

        All results of a pass are in the buffers of the module, so that training continues from a checkpoint. It ends
        at convergence; a converged model yields nothing.
        """
        ...


@runtime_checkable
class Samplable(Protocol):
    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        """``n`` samples in the space of the data, in evaluation mode. Sample k depends on the seed and on k alone.

        A conditional model draws its conditions where ``y`` is None. Users call `dgm.sample`.
        """
        ...


@runtime_checkable
class Imputing(Protocol):
    """Draws some dimensions of x given the others from their exact distribution, and has their marginal density.

    Users call `dgm.sample`.
    """

    def impute(
        self, x: Batch, observed: Shaped[Tensor, "batch *shape"], y: Conditions | None = None, *, seed: Seed = None
    ) -> Batch:
        """x where ``observed``, bool, is True, and a draw of p(x_missing | x_observed) elsewhere.

        Missing values are not used. Sample k depends on row k, on the seed and on k alone.
        """
        ...

    def log_prob_observed(
        self, x: Batch, observed: Shaped[Tensor, "batch *shape"], y: Conditions | None = None
    ) -> PerExample:
        """log p(x_observed) in nats, of the kind of the model's likelihood."""
        ...


@runtime_checkable
class Reparameterised(Protocol):
    def rsample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        """The values of `Samplable.sample`, as a differentiable function of the parameters, of real-valued x.

        E[f(x)] may be descended by its gradient. An `Unsupported` is raised in a discrete space.
        """
        ...


@runtime_checkable
class Progressive(Protocol):
    """Samples step by step; `Samplable.sample` gives the x of the last state."""

    def trajectory(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Iterator[State]: ...


@runtime_checkable
class ExactLikelihood(Protocol):
    def log_prob(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """log p(x) in nats, exact or up to the stated tolerance of a solver."""
        ...


@runtime_checkable
class Autoregressive(Protocol):
    r"""p(x) is the product of p(x_i | x_<i), in the order of `dgm.networks.raster`.

    ``observed``, a `dgm.distributions.output.OutputDistribution`, is the distribution of each conditional given
    outputs.
    """

    def conditionals(self, x: Batch, y: Conditions | None = None) -> Float[Tensor, "batch *shape outputs"]:
        """The outputs of every p(x_i | x_<i), given all of x."""
        ...

    def sequential_conditionals(
        self, x: Batch, y: Conditions | None = None
    ) -> Iterator[Float[Tensor, "batch outputs"]]:
        """The same outputs one dimension at a time, in raster order, with caching of earlier results.

        ``x`` is a buffer that the caller fills: its i-th dimension is read when the next outputs are computed.
        """
        ...


@runtime_checkable
class Denoising(Protocol):
    r"""Predicts data and noise from a noisy state, for any solver and any guidance of `dgm.samplers`.

    It has the attributes ``path``, the `dgm.processes.gaussian.GaussianPath` from its data to noise; ``scaling``, the
    affine map from x to the x_0 of that path; ``t_min``, the earliest time of training; and ``sampler``, the
    `dgm.samplers.diffusion.SamplerConfig` of its default sampler.
    """

    def predict(self, x_t: Tensor, t: PerExample, y: Conditions | PartlyHidden | None = None) -> Prediction:
        """E[x_0 | x_t] and E[eps | x_t], of x_t's shape.

        ``y`` of None gives the unconditional prediction.
        """
        ...


@runtime_checkable
class BoundedLikelihood(Protocol):
    def elbo(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """One unbiased draw of a lower bound on log p(x), in nats."""
        ...


@runtime_checkable
class ImportanceWeighted(Protocol):
    def log_weight(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """log w in nats, where E[w] = p(x): the log of the mean of K draws is a bound that tightens with K."""
        ...


@runtime_checkable
class ManyWeights(Protocol):
    """An `ImportanceWeighted` that computes q(z|x) once for many draws of each example."""

    def log_weights(self, x: Batch, y: Conditions | None = None, *, draws: int) -> Float[Tensor, "draws batch"]:
        """``draws`` independent values of log w of each example."""
        ...


@runtime_checkable
class EstimatedLikelihood(Protocol):
    def log_prob_estimate(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """An estimate of log p(x) in nats that is neither exact nor a bound, such as one with a stochastic trace."""
        ...


@runtime_checkable
class Unnormalised(Protocol):
    def energy(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """E(x) in nats, where p(x) = exp(-E(x)) / Z and Z is unknown."""
        ...


@runtime_checkable
class Classifying(Protocol):
    """A label-conditional model whose p(y|x) is known, and whose `Unnormalised.energy` of x without y is that of p(x)
    with the same log Z.
    """

    def label_log_probs(self, x: Batch) -> Float[Tensor, "batch labels"]:
        """log p(y|x) of each label, in nats."""
        ...


@runtime_checkable
class AnnealedConstant(Protocol):
    """An `Unnormalised` whose log Z is estimated by annealed importance sampling, from both ends.

    Its attribute ``temperatures`` is their default number, also for its `EstimatedLikelihood`.
    """

    def log_z_weights(
        self, y: Conditions | None = None, *, temperatures: int | None = None, backward: bool = False
    ) -> Float[Tensor, "batch chains"]:
        """log w of each chain for each condition, or (1, chains) without one: E[w] is Z, or backward 1 / Z."""
        ...


@runtime_checkable
class Latent(Protocol):
    """Has a latent code z of each x; ``decode(encode(x))`` is x or close to it.

    It has the attribute ``latent_space``, the `dgm.space.Space` of z, so that any model of that space can be a prior of
    the codes: see `dgm.models.two_stage`.
    """

    def encode(self, x: Batch, y: Conditions | None = None) -> Codes: ...

    def decode(self, z: Codes, y: Conditions | None = None) -> Batch: ...


@runtime_checkable
class CodeMoments(Protocol):
    """A `Latent` with a differentiable decoder: a measurement of x can be a condition of a diffusion of its codes."""

    def moments_given_code(self, z: Codes, y: Conditions | None = None) -> tuple[Tensor, Tensor]:
        """The mean and the variance of each dimension of x given z, (B, *shape), differentiable functions of z.

        x is scaled by `dgm.distributions.scaling.Scaling`. A decoder without a distribution has a variance of 0.
        """
        ...


@runtime_checkable
class Invertible(Protocol):
    """A `Latent` whose ``decode`` is the inverse of ``encode``, so that a density of codes is a density of x."""

    def encode_and_ladj(self, x: Batch, y: Conditions | None = None) -> tuple[Codes, PerExample]:
        """encode(x), and log |det dz/dx| in nats, which is 0 for discrete x and z."""
        ...


@runtime_checkable
class Variational(Protocol):
    r"""A `Latent` with distributions p(x|z) and q(z|x): its likelihood is a bound under any density of codes.

    .. math:: \log p(x) \ge E_{q(z|x)}[\log p(x|z) - \log q(z|x) + \log p(z)]

    A model whose q(z|x) is a point mass on a discrete code, where log q(z|x) = 0, sets ``deterministic_codes``: its
    codes are computed once, and the bound has no importance weights.
    """

    def sample_code(self, x: Batch, y: Conditions | None = None) -> Codes:
        """z ~ q(z|x)."""
        ...

    def code_and_log_ratio(self, x: Batch, y: Conditions | None = None) -> tuple[Codes, PerExample]:
        """z ~ q(z|x), and log p(x|z) - log q(z|x) in nats."""
        ...

    def sample_given_code(self, z: Codes, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        """x ~ p(x|z), with one random stream for each example."""
        ...


@runtime_checkable
class JointDensity(Protocol):
    """A `Variational` with a density p(z) of continuous codes: annealed importance sampling needs both factors."""

    def log_prior(self, z: Codes, y: Conditions | None = None) -> PerExample:
        """log p(z) in nats."""
        ...

    def likelihood(self, x: Batch, z: Codes, y: Conditions | None = None) -> PerExample:
        """log p(x|z) in nats."""
        ...

    def prior_code(self, noise: Streams, y: Conditions | None) -> Codes:
        """z ~ p(z), one for each stream."""
        ...


@runtime_checkable
class CodeDivergence(Protocol):
    """A `Latent` whose divergence from the posterior to the prior shows which dimensions of the code are in use."""

    def divergence(self, x: Batch, y: Conditions | None = None) -> Float[Tensor, "batch groups"]:
        """KL(q(z|x) || p(z)) in nats, or one draw of it: of each dimension, or of all where it is no sum over them."""
        ...


@runtime_checkable
class NormalPosterior(Protocol):
    """A `Latent` whose q(z|x) is a normal distribution with independent dimensions."""

    def posterior(self, x: Batch, y: Conditions | None = None) -> tuple[Codes, Codes]:
        """mu and log sigma of q(z|x).

        Raises:
            Unsupported: Where a setting makes the posterior another distribution.
        """
        ...


class DenoisingModel(BaseModel, Denoising, Protocol):
    """A model with the capability `Denoising`, and the attributes that this capability implies."""

    @property
    def path(self) -> GaussianPath: ...
    @property
    def scaling(self) -> Scaling: ...
    @property
    def t_min(self) -> float: ...
    @property
    def sampler(self) -> SamplerConfig: ...


class AutoregressiveModel(BaseModel, Autoregressive, Protocol):
    """A model with the capability `Autoregressive`, and its output distribution."""

    @property
    def observed(self) -> OutputDistribution: ...


class JointModel(BaseModel, JointDensity, Protocol):
    """A model with p(z) and p(x|z), which can be simulated."""

    def sample_given_code(self, z: Tensor, y: Conditions | None = None, *, seed: Seed = None) -> Batch: ...


class Model(
    DenoisingModel,
    AutoregressiveModel,
    Trainable,
    MultiPlayer,
    Stateful,
    DataDependent,
    Regularised,
    Diagnosed,
    Fittable,
    Samplable,
    Imputing,
    Reparameterised,
    Progressive,
    ExactLikelihood,
    BoundedLikelihood,
    ImportanceWeighted,
    ManyWeights,
    EstimatedLikelihood,
    Unnormalised,
    Classifying,
    AnnealedConstant,
    Latent,
    CodeMoments,
    Invertible,
    Variational,
    JointDensity,
    CodeDivergence,
    NormalPosterior,
    Protocol,
):
    """Any model. It has those of these methods, and the attributes that belong to them, whose capabilities `has` finds.

    A type checker knows their signatures; which of them a model defines is known at run time only.
    """

    names: Names  # of the conditions
    temperatures: int

    def __init__(self, space: Space, config: Any, *condition: Space | None, **parts: Model) -> None: ...
    @property
    def latent_space(self) -> Space: ...


CAPABILITIES: Sequence[type] = [base for base in Model.__mro__ if base.__bases__ == (Protocol,) and base is not Module]


def condition_of(model: Any) -> Space | None:
    """The space of the model's conditions; None for an unconditional model, which need not have the attribute."""
    return getattr(model, "condition", None)


def has(model: Any, *capabilities: type) -> bool:
    """Whether a model, or a class of models, has all of these capabilities.

    A composite states its capabilities, since they follow from its parts; any other model has those of its methods.

    Example:
        >>> class Constant:
        ...     def energy(self, x, y=None): ...
        >>> has(Constant(), Unnormalised), has(Constant(), Unnormalised, Samplable)
        (True, False)
    """
    stated = getattr(model, "capabilities", None)
    if stated is not None:
        return stated.issuperset(capabilities)
    cls = model if isinstance(model, type) else type(model)
    return all(issubclass(cls, capability) for capability in capabilities)


def parts_of(model: Model) -> Mapping[str, Model]:
    """The parts of a composite, by name; empty for any other model."""
    found = getattr(model, "parts", None)
    return found if isinstance(found, Mapping) else {}


def nested(model: Model) -> Iterator[Model]:
    """The model itself, its parts, and theirs."""
    yield model
    for part in parts_of(model).values():
        yield from nested(part)
