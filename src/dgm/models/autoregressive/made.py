r"""Masked autoencoder for distribution estimation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, logsigmoid, pad

from dgm.distributions.features import features
from dgm.distributions.output import output_distribution
from dgm.errors import BadInput
from dgm.models.autoregressive.base import ChainRule
from dgm.networks.conditioning import condition_vector
from dgm.networks.raster import from_sequence, raster_order, to_sequence
from dgm.protocols import Batch, Conditions, PerExample
from dgm.settings import setting
from dgm.space import Space


class MADE(ChainRule):
    r"""Masked autoencoder; exact log-likelihood, with one pass for each set of masks.

    .. math:: \log p(x) = \sum_d \log p(x_d | x_{<d}), \qquad
        M^{W}_{kk'} = 1[m(k) \ge m(k')], \quad M^{V}_{dk} = 1[d > m(k)]

    Hidden unit k depends on the first m(k) dimensions, and output d on hidden units with m(k) < d, in raster order.
    With several sets of masks, each training step draws one, and the density is the mean of their densities. This is a
    mixture, whose conditionals are mixtures too, with weights that depend on the earlier dimensions,

    .. math:: p(x_d | x_{<d}) = \sum_m w_m(x_{<d}) \, p_m(x_d | x_{<d}), \quad w_m(x_{<d}) \propto p_m(x_{<d})

    log p is in nats: the log of a probability for discrete data, of a density in the units of the data otherwise. The
    conditionals are Bernoulli for binary data, a softmax for tokens and categories, a mixture of discretised logistics
    for levels and a mixture of normals otherwise; each column of a record has the distribution of its type, with a
    probability of being missing.

    Source: MADE (Germain et al., 2015), arXiv:1502.03509, equations 8, 9, 12 and 13 and section 4.2.
    Differs from it: one order; with a single set of masks, the m(k) are evenly spaced, not drawn, and start at 0, where
    a unit depends on the condition only; more than binary data.

    Args:
        space: Any; the order of an image is row by row, with the channels of a pixel together; of a record part by
            part.

    Example:
        >>> made = MADE(Space.binary((4,)), MADE.Config(hidden=8))
        >>> made.log_prob(torch.zeros(2, 4, dtype=torch.uint8)).shape
        torch.Size([2])
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        hidden: int = setting(512, "width of the hidden layers", low=1)
        layers: int = setting(1, "hidden layers", low=1, high=1000)
        masks: int = setting(
            1, "sets of masks: drawn again in each step of training, averaged over afterwards", low=1, high=10_000
        )
        direct: bool = setting(False, "direct connections from inputs to outputs")
        components: int = setting(5, "components of the mixtures, for grey levels and real numbers", low=1)
        dropout: float = setting(0.2, "dropout rate of hidden units", low=0.0, high=0.95)

    spaces: ClassVar[set[str]] = {"binary", "levels", "tokens", "categories", "continuous", "record"}
    defaults: ClassVar[dict[str, Any]] = {"batch": 100, "weight_decay": 0.1, "ema": 0.999}
    m: Tensor

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__(space, config, condition)
        if config.masks > 1:
            self.likelihood_method = f"chain rule, mean of {config.masks} masks"
            if space.kind == "record":
                raise BadInput(f"a record is read with one set of masks, got {config.masks}", "leave masks out")
        self.features = features(space)
        self.observed = output_distribution(space, config.components * config.masks)
        # the outputs of the network with one set of masks
        self.each = self.observed if config.masks == 1 else output_distribution(space, config.components)
        inputs, outputs = space.dim * self.features.width, space.dim * self.each.outputs
        widths = [inputs, *[config.hidden] * config.layers]
        self.hidden: Any = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        self.output = nn.Linear(config.hidden, outputs)
        self.direct = nn.Linear(inputs, outputs, bias=False) if config.direct else None
        self.condition_bias = condition_vector(condition, config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.register_buffer("m", degrees(space.dim, config), persistent=False)

    def log_prob(self, x: Batch, y: Conditions | None = None) -> PerExample:
        of_each = torch.stack([self.log_prob_by(mask, x, y) for mask in range(self.config.masks)])
        return of_each.logsumexp(0) - math.log(self.config.masks)

    def log_prob_by(self, mask: int, x: Batch, y: Conditions | None) -> PerExample:
        return self.log_probs_by(mask, x, y).sum(1)

    def log_probs_by(self, mask: int, x: Batch, y: Conditions | None) -> Tensor:
        """log p_m(x_d | x_<d) of every dimension, (B, D)."""
        outputs = from_sequence(self.outputs(x, y, self.m[mask], self.places()), self.space)
        return to_sequence(self.each.log_prob(outputs, x), self.space)

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """-log p under one set of masks that is drawn: on average an upper bound of -log p, at the cost of one pass."""
        return -self.log_prob_by(int(torch.randint(self.config.masks, ())), x, y)

    def conditionals(self, x: Batch, y: Conditions | None = None) -> Tensor:
        """The parameters of every p(x_d | x_<d), (B, *shape, outputs)."""
        masks = range(self.config.masks)
        outputs = torch.stack([self.outputs(x, y, self.m[mask], self.places()) for mask in masks])
        if self.config.masks > 1:
            log_p = torch.stack([self.log_probs_by(mask, x, y) for mask in masks])
            read = pad(log_p.cumsum(2)[:, :, :-1], (1, 0))  # log p of the dimensions before each one
            outputs = self.mixed(outputs, read.log_softmax(0))
        else:
            outputs = outputs[0]
        return from_sequence(outputs, self.space)

    def outputs(self, x: Batch, y: Conditions | None, m: Tensor, places: Tensor) -> Tensor:
        """The outputs of the network with one set of masks, (B, D, outputs).

        Args:
            m: The number of dimensions that each hidden unit may depend on, (layers, hidden).
            places: The place of each dimension in the order, from 1, (D,).
        """
        y = self.checked(y)
        seen = to_sequence(self.features(x), self.space).flatten(1)
        d, of_outputs = (places.repeat_interleave(size) for size in (self.features.width, self.each.outputs))
        h = linear(seen, self.hidden[0].weight * (m[0][:, None] >= d[None]), self.hidden[0].bias)
        if self.condition_bias is not None:
            h = h + self.condition_bias(y)
        for layer, (before, after) in zip(self.hidden[1:], pairwise(m), strict=True):
            h = linear(self.dropout(h.relu()), layer.weight * (after[:, None] >= before[None]), layer.bias)
        masked = self.output.weight * (of_outputs[:, None] > m[-1][None])
        outputs = linear(self.dropout(h.relu()), masked, self.output.bias)
        if self.direct is not None:
            outputs = outputs + linear(seen, self.direct.weight * (of_outputs[:, None] > d[None]))
        return outputs.unflatten(1, (self.space.dim, -1))

    def places(self) -> Tensor:
        """Of the dimensions in raster order."""
        return torch.arange(1, self.space.dim + 1, device=self.m.device)

    def mixed(self, outputs: Tensor, log_w: Tensor) -> Tensor:
        """The outputs of a mixture over the first axis of ``outputs`` (M, ..., outputs) with weights (M, ...)."""
        log_w = log_w[..., None]
        if self.space.kind == "binary":
            one, zero = ((log_w + logsigmoid(sign * outputs)).logsumexp(0) for sign in (1, -1))
            return one - zero
        if self.space.kind == "tokens":
            return (log_w + outputs.log_softmax(-1)).logsumexp(0)
        logits, mu, log_s = outputs.chunk(3, -1)
        parts = (log_w + logits.log_softmax(-1), mu, log_s)
        return torch.cat([part.movedim(0, -2).flatten(-2) for part in parts], -1)

    def sequential_conditionals(self, x: Batch, y: Conditions | None = None) -> Iterator[Tensor]:
        networks = [self.conditionals_by(x, y, m, self.places()) for m in self.m]
        if len(networks) == 1:
            yield from networks[0]
            return
        flat, log_w = x.view(len(x), -1), self.output.weight.new_zeros(len(networks), len(x))
        for dim, outputs in zip(raster_order(self.space), map(torch.stack, zip(*networks, strict=True)), strict=True):
            yield self.mixed(outputs, log_w.log_softmax(0))
            log_w = log_w + self.each.log_prob(outputs, flat[:, dim].expand(len(networks), -1), dim)

    def conditionals_by(self, x: Batch, y: Conditions | None, m: Tensor, places: Tensor) -> Iterator[Tensor]:
        """`outputs` one dimension at a time, in the order of ``places``.

        Every hidden unit is computed once, as soon as the last dimension that it depends on is known.
        """
        y, flat, reading = self.checked(y), x.view(len(x), -1), raster_order(self.space)
        width, k, n = self.features.width, self.each.outputs, len(x)
        sums = [layer.bias.repeat(n, 1) for layer in (*self.hidden, self.output)]
        if self.condition_bias is not None:
            sums[0] += self.condition_bias(y)
        units = [[torch.where(row == degree)[0] for degree in range(self.space.dim)] for row in m]
        layers = [layer.weight.mT.contiguous() for layer in (*self.hidden, self.output)]
        direct = None if self.direct is None else self.direct.weight.mT.contiguous()
        for i, d in enumerate(places.argsort().tolist()):
            for place, of_degree in enumerate(
                units
            ):  # the units that may depend on the first i dimensions, layer by layer
                now = of_degree[i]
                if len(now):
                    sums[place + 1].addmm_(sums[place][:, now].relu(), layers[place + 1][now])
            yield sums[-1][:, d * k : (d + 1) * k]
            seen, rows = self.features(flat[:, reading[d]], reading[d]), slice(d * width, (d + 1) * width)
            sums[0].addmm_(seen, layers[0][rows])
            if direct is not None:
                sums[-1].addmm_(seen, direct[rows])


def degrees(dim: int, config: MADE.Config) -> Tensor:
    """m(k) of each hidden unit, (masks, layers, hidden), from 0, for units of the condition only, to D - 1.

    A pure function of the settings, so that a checkpoint needs no masks.
    """
    if config.masks == 1:
        return (torch.arange(config.hidden) * dim // config.hidden).expand(1, config.layers, -1).clone()
    generator = torch.Generator().manual_seed(config.masks)
    return torch.randint(dim, (config.masks, config.layers, config.hidden), generator=generator)
