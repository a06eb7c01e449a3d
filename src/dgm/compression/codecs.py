r"""Codecs: a distribution of x as a pair of inverse functions of a stack of bits.

``push`` turns a batch into bits, about -log2 p(x) of them, and ``pop`` turns the bits into the same batch. The codec
of a model follows from its capabilities:

- An autoregressive model codes each dimension by its conditional distribution, given the earlier dimensions; real
  numbers of a table on a grid of their decimals (`dgm.compression.reals`).
- A variational autoencoder, also one with a chain of latent variables or with discrete ones, and an average over
  orders code by bits back (`dgm.compression.bits_back`).
- A flow of integers codes the parts of z by their priors.
- A masked diffusion model codes one position at a time in a random order, given the positions before.
- A VQ-VAE codes z by its prior, uniform or that of a second stage, and x given z.

Networks compute in float64; see `dgm.compression.frequencies`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy
import torch
from torch import Tensor

from dgm.compression.frequencies import Frequencies
from dgm.compression.reals import Grid, RealColumn
from dgm.compression.stack import START, Stack
from dgm.distributions.output import OutputDistribution
from dgm.errors import Unsupported
from dgm.models.autoregressive.orderless_made import OrderlessMADE
from dgm.models.discrete_diffusion.masked_diffusion import MaskedDiffusion
from dgm.models.flow.integer_flow import IntegerFlow
from dgm.models.two_stage import TwoStage, taken
from dgm.models.vae.base import GaussianVAE
from dgm.models.vae.discrete_vae import DiscreteVAE
from dgm.models.vae.factor_vae import FactorVAE
from dgm.models.vae.hierarchy import Hierarchy
from dgm.models.vae.vq_vae import VQVAE
from dgm.networks.raster import raster_order, to_sequence
from dgm.protocols import Autoregressive, Batch, Conditions, Model, has
from dgm.space import Space


class Codec(Protocol):
    """A distribution of batches of a space. ``initial`` are the words on the stack before the first example."""

    space: Space
    initial: numpy.ndarray

    def push(self, stack: Stack, x: Batch, y: Conditions | None) -> None: ...

    def pop(self, stack: Stack, n: int, y: Conditions | None) -> Batch: ...


class Values:
    """The values of each dimension, and their log-probabilities given outputs of a network.

    Args:
        grids: The grid of each dimension of real numbers.
    """

    def __init__(self, space: Space, observed: OutputDistribution, grids: Mapping[int, Grid] | None = None) -> None:
        self.space, self.observed = space, observed
        self.reals = {dim: RealColumn(observed, dim, grid) for dim, grid in (grids or {}).items()}
        self.parts = [part for _, part in space.parts for _ in range(part.dim)]
        self.counts = [0 if dim in self.reals else count_of(part) for dim, part in enumerate(self.parts)]

    def push(self, stack: Stack, x: Tensor, outputs: Tensor, dim: int) -> None:
        """Pushes (B,) values of one dimension, given (B, outputs)."""
        if dim in self.reals:
            self.reals[dim].push(stack, x, outputs)
        else:
            stack.push(self.symbols(x, dim), self.frequencies(outputs, dim))

    def pop(self, stack: Stack, outputs: Tensor, dim: int) -> Tensor:
        """The (B,) values that were pushed last."""
        if dim in self.reals:
            return self.reals[dim].pop(stack, outputs)
        return self.values(stack.pop(self.frequencies(outputs, dim)), dim)

    def count(self, dim: int) -> int:
        """The number of values of a dimension. A missing value is the last."""
        return self.counts[dim] if self.parts else self.space.values or 0

    def symbols(self, x: Tensor, dim: int) -> Tensor:
        """(B,) values of a dimension as whole numbers from 0 on."""
        missing = self.count(dim) - 1
        return x.nan_to_num(missing).long() if x.is_floating_point() else x.long()

    def values(self, symbols: Tensor, dim: int) -> Tensor:
        """The inverse of `symbols`."""
        if self.parts and self.parts[dim].optional:
            return symbols.double().masked_fill(symbols == self.count(dim) - 1, torch.nan)
        return symbols.to(self.space.dtype)

    def frequencies(self, outputs: Tensor, dim: int) -> Frequencies:
        """Of the values of one dimension, given (B, outputs)."""
        each = self.values(torch.arange(self.count(dim)), dim)
        return Frequencies(self.observed.log_prob(outputs[:, None], each[None], dim).double())

    def joint(self, outputs: Tensor) -> list[tuple[Tensor, Frequencies]]:
        """The flattened dimensions of x in groups, with the frequencies of the values of each group.

        Args:
            outputs: (B, *shape, outputs).
        """
        if self.parts:
            return [(torch.tensor([dim]), self.frequencies(outputs[:, dim], dim)) for dim in range(self.space.dim)]
        each = torch.arange(self.space.values or 0).view(-1, *[1] * len(self.space.shape)).to(self.space.dtype)
        log_p = self.observed.log_prob(outputs[:, None], each[None])  # (B, K, *shape)
        return [(torch.arange(self.space.dim), Frequencies(log_p.flatten(2).mT.flatten(0, 1).double()))]


def count_of(part: Space) -> int:
    """
    Raises:
        Unsupported: For real numbers.
    """
    if not part.discrete:
        wrong = "real numbers have a density and no probability, so no finite number of bits"
        raise Unsupported(wrong, "give integer columns alone, or train on rounded numbers as integers (--types)")
    return (part.values or 0) + part.optional


class SequentialCodec:
    """An autoregressive model; its rate is its likelihood.

    ``push`` computes all conditionals in one pass, ``pop`` one dimension after the other. Their rounded frequencies are
    the same but for an extremely rare case; ``stepwise`` makes ``push`` take the steps of ``pop``.
    """

    initial = START

    def __init__(self, model: Model, *, stepwise: bool = False, grids: Mapping[int, Grid] | None = None) -> None:
        self.model, self.space, self.stepwise = model, model.space, stepwise
        self.values = Values(model.space, model.observed, grids)
        self.order = raster_order(model.space)

    def outputs(self, x: Batch, y: Conditions | None) -> Iterator[Tensor]:
        if self.stepwise:
            return self.model.sequential_conditionals(x, y)
        return iter(to_sequence(self.model.conditionals(x, y), self.space).unbind(1))

    def push(self, stack: Stack, x: Batch, y: Conditions | None) -> None:
        flat = x.flatten(1)
        for dim, outputs in reversed([*zip(self.order, self.outputs(x, y), strict=True)]):
            self.values.push(stack, flat[:, dim], outputs, dim)

    def pop(self, stack: Stack, n: int, y: Conditions | None) -> Batch:
        x = torch.zeros(n, *self.space.shape, dtype=self.space.dtype)
        flat = x.view(n, -1)
        for dim, outputs in zip(self.order, self.model.sequential_conditionals(x, y), strict=True):
            flat[:, dim] = self.values.pop(stack, outputs, dim)
        return x


class UnmaskingCodec:
    """Masked diffusion: the positions in one random order, each given those before; its mean rate is the bound."""

    initial = START

    def __init__(self, model: MaskedDiffusion) -> None:
        self.model, self.space = model, model.space
        self.order = torch.randperm(model.space.dim, generator=torch.Generator().manual_seed(0)).tolist()

    def frequencies(self, z: Tensor, y: Conditions | None, dim: int) -> Frequencies:
        return Frequencies(self.model.network(z, y)[:, dim].double().log_softmax(-1))

    def push(self, stack: Stack, x: Batch, y: Conditions | None) -> None:
        flat, z = x.flatten(1).long(), torch.full((len(x), self.space.dim), self.model.mask)
        frequencies = []
        for dim in self.order:
            frequencies.append(self.frequencies(z, y, dim))
            z[:, dim] = flat[:, dim]
        for dim, known in reversed([*zip(self.order, frequencies, strict=True)]):
            stack.push(flat[:, dim], known)

    def pop(self, stack: Stack, n: int, y: Conditions | None) -> Batch:
        z = torch.full((n, self.space.dim), self.model.mask)
        for dim in self.order:
            z[:, dim] = stack.pop(self.frequencies(z, y, dim))
        return z.reshape(n, *self.space.shape).to(self.space.dtype)


class GivenCode:
    """p(x|z) of a decoder whose outputs are independent given z.

    Args:
        space: The space of x.
        observed: The output distribution of the decoder.
        outputs: Its numbers (B, *shape, outputs), a function of z and the condition.
    """

    def __init__(
        self,
        space: Space,
        observed: OutputDistribution,
        outputs: Callable[[Tensor, Conditions | None], Tensor],
    ) -> None:
        self.space, self.outputs = space, outputs
        self.values = Values(space, observed)

    def push(self, stack: Stack, x: Batch, z: Tensor, y: Conditions | None) -> None:
        flat = x.flatten(1)
        for dims, known in reversed(self.values.joint(self.outputs(z, y))):
            stack.push(self.values.symbols(flat[:, dims], int(dims[0])).flatten(), known)

    def pop(self, stack: Stack, z: Tensor, y: Conditions | None) -> Batch:
        flat = torch.zeros(len(z), self.space.dim, dtype=self.space.dtype)
        for dims, known in self.values.joint(self.outputs(z, y)):
            flat[:, dims] = self.values.values(stack.pop(known).reshape(len(z), -1), int(dims[0]))
        return flat.reshape(len(z), *self.space.shape)


class IntegerFlowCodec:
    """A flow of integers: the parts of z by their priors, the last resolution first; its rate is its likelihood."""

    initial = START

    def __init__(self, model: IntegerFlow) -> None:
        self.model, self.space = model, model.space

    def frequencies(self, outputs: Tensor) -> Frequencies:
        """Of the integers of a part of z, given (B, *part, outputs)."""
        each = torch.arange(self.space.values or 0).to(outputs)
        return Frequencies(self.model.observed.log_prob(outputs.flatten(0, -2)[:, None], each).double())

    def push(self, stack: Stack, x: Batch, y: Conditions | None) -> None:
        for part, outputs in reversed(self.model.conditionals(x, y)):
            stack.push(part.flatten().long(), self.frequencies(outputs))

    def pop(self, stack: Stack, n: int, y: Conditions | None) -> Batch:
        return self.model.build(lambda outputs: stack.pop(self.frequencies(outputs)).view(outputs.shape[:-1]), n, y)


class UniformCodec:
    """Equally probable values in every dimension."""

    initial = START

    def __init__(self, space: Space) -> None:
        self.space = space

    def frequencies(self, n: int) -> Frequencies:
        return Frequencies(torch.zeros(n * self.space.dim, self.space.values or 0, dtype=torch.float64))

    def push(self, stack: Stack, x: Batch, y: Conditions | None) -> None:
        stack.push(x.flatten().long(), self.frequencies(len(x)))

    def pop(self, stack: Stack, n: int, y: Conditions | None) -> Batch:
        return stack.pop(self.frequencies(n)).reshape(n, *self.space.shape).to(self.space.dtype)


class CodebookCodec:
    """A VQ-VAE: z by its prior, which is uniform or that of a second stage, and x given z; its rate is the bound."""

    initial = START

    def __init__(self, first_stage: VQVAE, second_stage: Model | None = None, *, stepwise: bool = False) -> None:
        self.space, self.first_stage, self.second_stage = first_stage.space, first_stage, second_stage
        uniform = UniformCodec(first_stage.latent_space)
        self.prior: Codec = uniform if second_stage is None else codec_of(second_stage, stepwise=stepwise)
        self.given = GivenCode(
            first_stage.space,
            first_stage.observed,
            lambda z, y: first_stage.outputs(first_stage.codebook(z), y),
        )

    def push(self, stack: Stack, x: Batch, y: Conditions | None) -> None:
        of_first, of_second = self.taken(y)
        z = self.first_stage.encode(x, of_first)
        self.given.push(stack, x, z, of_first)
        self.prior.push(stack, z, of_second)

    def pop(self, stack: Stack, n: int, y: Conditions | None) -> Batch:
        of_first, of_second = self.taken(y)
        return self.given.pop(stack, self.prior.pop(stack, n, of_second), of_first)

    def taken(self, y: Conditions | None) -> tuple[Conditions | None, Conditions | None]:
        """The condition of each stage that has one."""
        first: Any = self.first_stage
        return taken(first, y), None if self.second_stage is None else taken(self.second_stage, y)


def codec_of(model: Model, *, stepwise: bool = False, grids: Mapping[int, Grid] | None = None) -> Codec:
    """The codec of a model in evaluation mode and float64.

    Args:
        stepwise: See `SequentialCodec`.
        grids: Of the columns of real numbers with a stated number of decimals, for a model that codes column by column.

    Raises:
        Unsupported: For a model whose likelihood is not a probability of discrete values, or that has no codec.
    """
    from dgm.compression.bits_back import BitsBackCodec, ChainCodec, DiscreteCodec, OrdersCodec

    if model.space.kind != "record" and not model.space.discrete and not grids:
        wrong = f"{model.space} has a density and no probability, so no finite number of bits"
        raise Unsupported(wrong, "train on discrete data, such as images of 256 levels")
    if has(model, Autoregressive):
        return SequentialCodec(model, stepwise=stepwise, grids=grids)
    if isinstance(model, OrderlessMADE):
        return OrdersCodec(model, grids)
    if grids:
        wrong = f"{type(model).__name__} has no codec of real numbers"
        raise Unsupported(wrong, "use made, nade or orderless_made, or train on rounded numbers as integers (--types)")
    if isinstance(model, MaskedDiffusion):
        return UnmaskingCodec(model)
    if isinstance(model, VQVAE):
        return CodebookCodec(model)
    if isinstance(model, TwoStage) and isinstance(model.first_stage, VQVAE):
        return CodebookCodec(model.first_stage, model.prior, stepwise=stepwise)
    if isinstance(model, GaussianVAE) and has_normal_code(model):
        return BitsBackCodec(model)
    if isinstance(model, FactorVAE):
        return BitsBackCodec(model.vae)
    if isinstance(model, DiscreteVAE):
        return DiscreteCodec(model)
    if isinstance(model, Hierarchy):
        return ChainCodec(model)
    if isinstance(model, IntegerFlow):
        return IntegerFlowCodec(model)
    wrong = f"{type(model).__name__} has no codec" + ("" if not isinstance(model, GaussianVAE) else " with this code")
    remedy = (
        "use an autoregressive model, a vae with a normal prior and posterior, vq_vae, integer_flow or masked_diffusion"
    )
    raise Unsupported(wrong, remedy)


def has_normal_code(model: Model) -> bool:
    """Whether p(z) is N(0, I) and q(z|x) is normal with independent dimensions."""
    return all(getattr(model.config, name, "normal") == "normal" for name in ("prior", "posterior"))
