"""The columns of a record: as a linear layer reads them, and a distribution of each given a network's outputs."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, one_hot, pad

from dgm.distributions.output import Categorical, OutputDistribution, output_distribution, to_float32
from dgm.distributions.scaling import Scaling
from dgm.errors import BadInput
from dgm.space import Space

WIDE = 64  # number of categories from which on they have embeddings instead of one output each
RANK = 32  # of that embedding


def scalars(space: Space) -> list[Space]:
    """The space of each of a record's D numbers, of shape ().

    Raises:
        BadInput: For several numbers that are missing together.
    """
    found = []
    for name, part in space.parts:
        if part.optional and part.dim > 1:
            wrong = f"the part '{name}' has {part.dim} numbers that are missing together"
            raise BadInput(wrong, "give each of them as a part, or choose a model of continuous data")
        for k in range(part.dim):
            found.append(replace(part, shape=(), loc=part.loc[k : k + 1], scale=part.scale[k : k + 1]))
    return found


def precise(module: nn.Module) -> nn.Module:
    """With its scaling in float64: a date or a price may have more digits than float32 has."""
    for scaling in module.modules():
        if isinstance(scaling, Scaling):
            scaling.double()
    return module


class Columns(nn.Module):
    """The output distribution of a record: each column has the distribution of its space, and an optional column also
    has a probability of being missing.

    The number of outputs is the largest number that a column needs; other columns use the first of them. The density is
    with respect to the measure of the record: see `dgm.space.Space`.

    Args:
        space: A record.
        components: Number of components of the mixtures for integers and real numbers.
    """

    def __init__(self, space: Space, components: int = 1) -> None:
        super().__init__()
        self.each = nn.ModuleList(column(part, components) for part in scalars(space))
        self.outputs = max(self.of(dim).outputs for dim in range(len(self.each)))

    def of(self, dim: int) -> OutputDistribution:
        """The distribution of one column, which reads the first of the outputs."""
        return self.each[dim]  # type: ignore[return-value]

    def narrow(self, outputs: Tensor, dim: int) -> Tensor:
        return outputs[..., : self.of(dim).outputs]

    def log_prob(self, outputs: Tensor, x: Tensor, dim: int | None = None) -> Tensor:
        if dim is not None:
            return self.of(dim).log_prob(self.narrow(outputs, dim), x).double()
        each = (self.log_prob(outputs[..., k, :], x[..., k], k) for k in range(len(self.each)))
        return torch.stack([*each], -1)

    def forward(self, outputs: Tensor) -> Tensor:
        each = (self.of(k)(self.narrow(outputs[..., k, :], k)).double() for k in range(len(self.each)))
        return torch.stack([*each], -1)

    def sample(self, outputs: Tensor, u: Tensor, dim: int | None = None) -> Tensor:
        if dim is not None:
            return self.of(dim).sample(self.narrow(outputs, dim), u).double()
        return torch.stack([self.sample(outputs[..., k, :], u[..., k, :], k) for k in range(len(self.each))], -1)

    def tempered(self, outputs: Tensor, temperature: float, dim: int | None = None) -> Tensor:
        """Of one column, as an autoregressive model draws it, or of all of them."""
        if dim is not None:
            return self.of(dim).tempered(self.narrow(outputs, dim), temperature)
        tempered = outputs.clone()
        for k in range(len(self.each)):
            tempered[..., k, : self.of(k).outputs] = self.tempered(outputs[..., k, :], temperature, k)
        return tempered


def column(part: Space, components: int) -> nn.Module:
    """The distribution of one number of a record."""
    known: nn.Module
    if part.kind == "categories" and (part.values or 0) > WIDE:
        known = Embedded(part)
    else:
        known = precise(output_distribution(replace(part, optional=False), components))  # type: ignore[arg-type]
    return Missing(known) if part.optional else known


class Embedded(nn.Module):
    r"""One of very many categories, by the inner products of R outputs with an embedding of each.

    .. math:: P(k) \propto \exp(e_k \cdot o)

    The memory is that of K embeddings and of K logits an example, and no layer before has K outputs.
    """

    outputs = RANK

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.logits = nn.Linear(RANK, space.values or 0, bias=False)
        self.categorical = Categorical(space)

    def log_prob(self, outputs: Tensor, x: Tensor, dim: int | None = None) -> Tensor:
        return self.categorical.log_prob(self.logits(outputs), x)

    def forward(self, outputs: Tensor) -> Tensor:
        return self.categorical(self.logits(outputs))

    def sample(self, outputs: Tensor, u: Tensor, dim: int | None = None) -> Tensor:
        return self.categorical.sample(self.logits(outputs), u)

    def tempered(self, outputs: Tensor, temperature: float, dim: int | None = None) -> Tensor:
        """The outputs of P(x)^(1/T), normalised."""
        return outputs / temperature


class Missing(nn.Module):
    r"""A value that is missing, NaN, with probability sigma(l), and has another distribution otherwise.

    .. math:: \log p(x) = \log \sigma(l) \text{ if x is missing, else } \log \sigma(-l) + \log p_{known}(x)

    The outputs are l and the outputs of the other distribution.
    """

    def __init__(self, known: nn.Module) -> None:
        super().__init__()
        self.known = known
        self.outputs = 1 + int(known.outputs)  # type: ignore[arg-type]

    def log_prob(self, outputs: Tensor, x: Tensor, dim: int | None = None) -> Tensor:
        missing, logit = x.isnan(), to_float32(outputs)[..., 0]
        known = self.known.log_prob(outputs[..., 1:], x.nan_to_num(0.0))  # type: ignore[operator]
        return torch.where(missing, logsigmoid(logit), logsigmoid(-logit) + known)

    def forward(self, outputs: Tensor) -> Tensor:
        return self.known(outputs[..., 1:]).double().masked_fill(outputs[..., 0] > 0, torch.nan)

    def sample(self, outputs: Tensor, u: Tensor, dim: int | None = None) -> Tensor:
        """The first uniform number decides whether the value is missing; rescaled, it is uniform again."""
        p = to_float32(outputs)[..., 0].sigmoid()
        missing = u[..., 0] < p
        left = ((u[..., 0] - p) / (1 - p)).clamp(0, 1 - 2**-24)
        known = self.known.sample(outputs[..., 1:], torch.stack([left, u[..., 1]], -1))  # type: ignore[operator]
        return known.double().masked_fill(missing, torch.nan)

    def tempered(self, outputs: Tensor, temperature: float, dim: int | None = None) -> Tensor:
        """Of whether a value is missing, and of its distribution where it is not."""
        known = self.known.tempered(outputs[..., 1:], temperature)  # type: ignore[operator]
        return torch.cat([outputs[..., :1] / temperature, known], -1)


class ColumnFeatures(nn.Module):
    """Each column as ``width`` numbers, of which the last is 1 for a missing value and the others are 0 then.

    Ordered values are one scaled number, few categories ones and zeros, many an embedding that is learnt.

    Args:
        space: A record.
    """

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.parts = scalars(space)
        self.each = nn.ModuleList(precise(reader(part)) for part in self.parts)
        self.width = 1 + max(width_of(part) for part in self.parts)

    def forward(self, x: Tensor, dim: int | None = None) -> Tensor:
        """(B, D) to (B, D, width); (B,) values of the column ``dim`` to (B, width)."""
        if dim is None:
            return torch.stack([self(x[..., k], k) for k in range(len(self.parts))], -2)
        missing, part = x.isnan(), self.parts[dim]
        values = x.nan_to_num(0.0)
        if part.kind != "categories":
            read = self.each[dim](values)[..., None]
        elif isinstance(self.each[dim], nn.Embedding):
            read = self.each[dim](values.long())
        else:
            read = one_hot(values.long(), part.values or 0)
        known = read.to(torch.get_default_dtype()).masked_fill(missing[..., None], 0.0)
        padded = pad(known, (0, self.width - 1 - known.shape[-1]))
        return torch.cat([padded, missing[..., None].to(padded)], -1)


def width_of(part: Space) -> int:
    return min(part.values or 0, RANK) if part.kind == "categories" else 1


def reader(part: Space) -> nn.Module:
    if part.kind == "categories" and (part.values or 0) > RANK:
        return nn.Embedding(part.values or 0, RANK)
    return nn.Identity() if part.kind == "categories" else Scaling(replace(part, optional=False))
