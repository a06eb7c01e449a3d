"""What a model can do. A capability is a Protocol of methods; a model has those whose methods it defines.

Every model is an `torch.nn.Module` built as ``Model(space, config)``, or as ``Model(space, config, condition)`` where
it is conditional on a y of the space ``condition``. It keeps them as ``self.space``, ``self.config`` and
``self.condition``, and it takes and gives x in the data's own space. Class attributes that dgm reads where they exist:

``spaces``
    The kinds of space that the model takes, all four where absent. A model that takes only continuous x is
    dequantised by `dgm.create` on a discrete space.
``conditions``
    The kinds of space that its condition may be of; a model without takes no condition.
``defaults``
    The optimiser settings of the model's paper, defaults of `dgm.training.Settings` for this model. Those of one player
    of a game stand under its name in ``"players"``: ``{"lr": 1e-4, "players": {"discriminator": {"lr": 4e-4}}}``.
``players``
    The names of a game's players, for the options of the command line.
``loss_unit``
    ``"nats a dimension"`` where the loss is a likelihood, or a bound of one, over the number of dimensions; it is in
    nats an example where absent, or no likelihood at all, as a denoiser's squared error.
``likelihood_method``
    How its likelihood is computed, in a few words for a table; ``estimate_method`` is the same of the estimate of a
    model that has a better one besides.

A composite is a model that is made of others, such as a model of real numbers dequantised, or a first stage and the
prior of its codes. It is built as ``Composite(space, config, condition, **parts)`` and has two attributes besides:

``parts``
    The models that it is made of, by name: submodules of these names. They are described and made again with it.
``capabilities``
    The capabilities that it has. It defines the methods of all that some parts allow, so that its methods do not
    decide, and its parts do. Ask `has`, never ``isinstance``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from dgm.seeds import Seed
from dgm.space import Space

Batch: TypeAlias = Shaped[Tensor, "batch *shape"]
PerExample: TypeAlias = Float[Tensor, "batch"]
Conditions: TypeAlias = Shaped[Tensor, "batch *condition"]  # a batch of the model's condition space: labels are (B,)
Codes: TypeAlias = Shaped[Tensor, "batch *latent"]


class PartlyHidden(NamedTuple):
    """A batch of conditions of which some are hidden from a denoiser, as if they were not given.

    Attributes:
        y: (B, *shape), a batch of the condition space.
        hidden: (B,), true for those that are hidden.
    """

    y: Tensor
    hidden: Tensor


class Module(Protocol):
    """What is used of an `torch.nn.Module`. As that does, the type leaves open what else there is by a name."""

    training: bool

    def train(self, mode: bool = True) -> Self: ...
    def eval(self) -> Self: ...
    def to(self, device: torch.device | str) -> Self: ...
    def zero_grad(self, set_to_none: bool = True) -> None: ...
    def modules(self) -> Iterator[nn.Module]: ...
    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]: ...
    def buffers(self, recurse: bool = True) -> Iterator[Tensor]: ...
    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True) -> Any: ...
    def __getattr__(self, name: str) -> Any: ...
    def __setattr__(self, name: str, value: Any) -> None: ...


class Model(Module, Protocol):
    """A module of one space. Which of the capabilities below it has besides is for `has` to ask."""

    def __init__(self, space: Space, config: Any, *condition: Space | None, **parts: Model) -> None: ...
    @property
    def space(self) -> Space: ...
    @property
    def config(self) -> Any: ...


def loss_unit(model: Model) -> str:
    """What the model states as the unit of its loss; nothing where it states none."""
    return str(getattr(model, "loss_unit", ""))


class State(NamedTuple):
    """One state of a sampler on its way: a batch in the data's own space, after ``step`` of ``steps`` steps."""

    x: Batch
    step: int
    steps: int


@runtime_checkable
class Trainable(Protocol):
    """Trained by descending the mean of a loss."""

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """One value an example; where it is a likelihood or a bound of one, in the model's ``loss_unit``.

        It changes nothing: from the same random state two calls give the same bits. See `Stateful` for what moves
        with training beside the weights.
        """
        ...


@runtime_checkable
class MultiPlayer(Protocol):
    """Trained as a game: each player is a submodule that descends its own loss."""

    def losses(self, x: Batch, y: Conditions | None = None) -> Iterator[tuple[str, PerExample]]:
        """Yields (submodule's name, its loss); between two yields the loop steps that submodule's optimiser."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """Has buffers that move with training beside its weights: running moments, a replay buffer, an average.

    Buffers that move by what the loss has computed come from ``loss_and_outputs(x, y)``, which such a model has beside
    `Trainable.loss`: the loss, and a tuple of tensors without gradient, a row an example. A game returns the tuple at
    the end of ``losses``.
    """

    def after_step(self, *outputs: Tensor) -> None:
        """Moves the buffers; called once after each step of training, by a loop of one's own too.

        Args:
            outputs: Those of the loss, of the whole batch over all processes.
        """
        ...


class Regulariser(NamedTuple):
    """A penalty that is added to one player's loss at every ``interval``-th step, multiplied by the interval.

    So its gradient is on average that of the penalty at every step. Source: Analyzing and Improving the Image Quality
    of StyleGAN (Karras et al., 2020), arXiv:1912.04958, section 3.1, lazy regularisation. Differs from it: the penalty
    is added to the loss of that step, where the source takes an optimiser step of its own for it.

    Attributes:
        player: The submodule's name, ``"model"`` for a model of one loss.
        interval: In steps; the first step has the penalty.
        penalty: From x and y to one value an example.
    """

    player: str
    interval: int
    penalty: Callable[[Batch, Conditions | None], PerExample]


@runtime_checkable
class Regularised(Protocol):
    def regularisers(self) -> Sequence[Regulariser]: ...


@runtime_checkable
class Fittable(Protocol):
    """Fitted without gradients, by passes over the data."""

    def fit(self, batches: Iterable[tuple[Tensor, Tensor | None]]) -> Iterator[float]:
        """Yields the mean loss of each pass. ``batches`` can be gone through again and again.

        All that a pass learns is in the module's buffers, so that training continues from a checkpoint: a model
        whose buffers are already fitted goes on from them. It ends when it has converged; one that has
        yields nothing.
        """
        ...


@runtime_checkable
class Samplable(Protocol):
    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        """``n`` examples in the data's own space, in evaluation mode. Sample k depends on the seed and on k alone.

        A conditional model draws its conditions where ``y`` is None. `dgm.sample` is what a user calls.
        """
        ...


@runtime_checkable
class Progressive(Protocol):
    """Samples in steps worth watching; `Samplable.sample` gives the last state's x."""

    def trajectory(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Iterator[State]: ...


@runtime_checkable
class ExactLikelihood(Protocol):
    def log_prob(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """log p(x) in nats, exact or exact up to a solver's stated tolerance."""
        ...


@runtime_checkable
class Autoregressive(Protocol):
    r"""p(x) is the product of p(x_i | x_<i), in the order of `dgm.networks.raster`.

    ``observed``, a `dgm.distributions.output.OutputDistribution`, turns outputs into the conditionals' distributions.
    """

    def conditionals(self, x: Batch, y: Conditions | None = None) -> Float[Tensor, "batch *shape outputs"]:
        """The outputs of every p(x_i | x_<i), given all of x."""
        ...

    def sequential_conditionals(
        self, x: Batch, y: Conditions | None = None
    ) -> Iterator[Float[Tensor, "batch outputs"]]:
        """The same outputs one dimension at a time, in order, at the cost of that dimension alone.

        ``x`` is a buffer that the caller fills: its i-th dimension is read once the iterator is asked for the next.
        """
        ...


@runtime_checkable
class Denoising(Protocol):
    r"""Undoes Gaussian noise: any solver of `dgm.samplers` samples it, any guidance steers it.

    Besides, it keeps ``path``, the `dgm.processes.gaussian.GaussianPath` from its data to noise; ``scaling``, the
    affine map from x to the x_0 of that path; ``t_min``, the earliest time that the network knows; and ``sampler``, the
    `dgm.samplers.diffusion.SamplerConfig` of its default sampler.
    """

    def predict(self, x_t: Tensor, t: PerExample, y: Conditions | PartlyHidden | None = None) -> tuple[Tensor, Tensor]:
        """E[x_0 | x_t] and E[eps | x_t], of x_t's shape, as `dgm.processes.parameterisation.Prediction`.

        ``y`` of None hides the condition of every example, also of a model that was trained with one.
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
class EstimatedLikelihood(Protocol):
    def log_prob_estimate(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """An estimate of log p(x) in nats that is neither exact nor a bound, such as a stochastic trace's."""
        ...


@runtime_checkable
class Unnormalised(Protocol):
    def energy(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """E(x) in nats, where p(x) = exp(-E(x)) / Z and Z is unknown."""
        ...


@runtime_checkable
class Latent(Protocol):
    """Has a code z, flat or shaped, for each x. ``decode(encode(x))`` is x or near it.

    Besides, it keeps ``latent_space``, the `dgm.space.Space` of z, so that any model of that space is a prior of its
    codes: see `dgm.models.two_stage`.
    """

    def encode(self, x: Batch, y: Conditions | None = None) -> Codes: ...

    def decode(self, z: Codes, y: Conditions | None = None) -> Batch: ...


@runtime_checkable
class Invertible(Protocol):
    """A `Latent` whose ``decode`` is the inverse of ``encode``, so that a density of codes is a density of x."""

    def encode_and_ladj(self, x: Batch, y: Conditions | None = None) -> tuple[Codes, PerExample]:
        """encode(x), and log |det dz/dx| in nats, which is 0 where x and z are counted."""
        ...


@runtime_checkable
class Variational(Protocol):
    r"""A `Latent` with distributions p(x|z) and q(z|x): its likelihood is a bound under any density of codes.

    .. math:: \log p(x) \ge E_{q(z|x)}[\log p(x|z) - \log q(z|x) + \log p(z)]

    A model whose q(z|x) is a point mass on a discrete code, where log q(z|x) = 0, says so by ``deterministic_codes``:
    its codes are made once, and the bound has no importance weights.
    """

    def sample_code(self, x: Batch, y: Conditions | None = None) -> Codes:
        """z ~ q(z|x)."""
        ...

    def code_and_log_ratio(self, x: Batch, y: Conditions | None = None) -> tuple[Codes, PerExample]:
        """z ~ q(z|x), and log p(x|z) - log q(z|x) in nats."""
        ...

    def sample_given_code(self, z: Codes, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        """x ~ p(x|z), with the random numbers of one stream an example."""
        ...


CAPABILITIES: Sequence[type] = (
    Trainable,
    MultiPlayer,
    Fittable,
    Samplable,
    Progressive,
    ExactLikelihood,
    Autoregressive,
    Denoising,
    BoundedLikelihood,
    ImportanceWeighted,
    EstimatedLikelihood,
    Unnormalised,
    Latent,
    Stateful,
    Regularised,
    Invertible,
    Variational,
)


def has(model: Any, *capabilities: type) -> bool:
    """Whether a model, or a class of models, has all of these capabilities.

    A composite states those that it has, since they follow from its parts; the methods of any other model decide.

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
    """The models that a composite is made of, by name; none of any other model."""
    found = getattr(model, "parts", None)
    return found if isinstance(found, Mapping) else {}


def nested(model: Model) -> Iterator[Model]:
    """The model itself, its parts, and theirs."""
    yield model
    for part in parts_of(model).values():
        yield from nested(part)
