r"""Temporal-difference variational autoencoder, for sequences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, silu

from dgm.distributions.features import features
from dgm.distributions.output import output_distribution
from dgm.errors import BadInput
from dgm.inputs import whole
from dgm.models.vae.base import with_count
from dgm.networks.conditioning import ConditionFeatures
from dgm.networks.conditions import EVERY_KIND, Marginal, check_condition, sampled_condition
from dgm.networks.mlp import mlp, scaled
from dgm.protocols import Batch, Conditions, PerExample
from dgm.seeds import Seed, Streams, streams
from dgm.settings import setting
from dgm.space import Space

CAUTIOUS = 0.1  # factor of the last weights of the networks of states, whose means are near 0 at first
LOG_SIGMAS = (-4.0, 3.0)  # bounds of all log standard deviations; the states have a scale of about one


class TDVAE(nn.Module):
    r"""Temporal-difference variational autoencoder; its likelihood is a lower bound.

    A belief b_t, the state of an LSTM after x_1 ... x_t, is a distribution p_B(z_t|b_t) of the state of the world. The
    loss of a jump from s to t = s + d, for every t and with a random d of at most ``jump``, is

    .. math:: L_{s,t} = -E[\log p(x_t|z_t) + \log p_B(z_s|b_s) + \log p(z_t|z_s, d) - \log p_B(z_t|b_t)
        - \log q(z_s|z_t, b_s, b_t, d)]

    with z_t from p_B(z_t|b_t) and z_s from the smoothing distribution q. Time 0 is before the first frame, with a
    belief b_0 of its own; only the jump to the first frame begins there, so that the loss has the code of the observed
    frames once. In training the weight of all terms but the first rises linearly to 1 over the first ``warmup`` steps,
    so that the states represent the frames before a transition between them is learnt.

    The states of a sample are z_0 ~ p_B(z_0|b_0) and z_t ~ p(z_t|z_{t-1}, 1), its frames x_t ~ p(x_t|z_t). The
    likelihood is a bound of the density of these samples, in nats about x in the data's own numbers, whose posterior is
    that of the loss, from the last state to the first:

    .. math:: \log p(x) \ge E\Big[\log p_B(z_0|b_0) - \log p_B(z_T|b_T)
        + \sum_{t=1}^T \log p(x_t|z_t) + \log p(z_t|z_{t-1}, 1) - \log q(z_{t-1}|z_t, b_{t-1}, b_t, 1)\Big]

    Source: Temporal Difference Variational Auto-Encoder (Gregor et al., 2019), arXiv:1806.03107, equations 5 to 8 and
    section 4.
    Differs from it: one layer of states; a hidden layer before the gates of the networks of states; those of p and q
    have the change of the state as their output; the length d of a jump is an input of p and q; the warm-up; the belief
    before the first frame, with which the model has a density of whole sequences; the last equation is ours.

    Args:
        space: Sequences (T, *frame) of at least two frames; an image (C, H, W) is the sequence of its rows.

    Example:
        >>> model = TDVAE(Space.binary((4, 1, 3, 3)), TDVAE.Config(latent=2))
        >>> x = model.sample(3, seed=0)
        >>> x.shape, model.forecast(x[:, :2], frames=5, seed=0).shape
        (torch.Size([3, 4, 1, 3, 3]), torch.Size([3, 5, 1, 3, 3]))
    """

    @dataclass(frozen=True, kw_only=True)
    class Config:
        latent: int = setting(32, "dimensions of the state z_t", low=1)
        belief: int = setting(256, "width of the belief b_t", low=1)
        hidden: int = setting(256, "width of the hidden layers", low=1)
        jump: int = setting(4, "longest jump of the loss, in frames", low=1, high=1000)
        warmup: int = setting(0, "steps over which the weight of the divergence rises to 1; 0 for none", low=0)

    spaces: ClassVar[set[str]] = {"binary", "levels", "continuous"}
    conditions: ClassVar[frozenset[str]] = EVERY_KIND
    trained: Tensor
    defaults: ClassVar[dict[str, Any]] = {"batch": 64, "lr": 1e-3, "ema": 0.999, "clip": 10.0}
    likelihood_method = "bound of one-step transitions"

    def __init__(self, space: Space, config: Config, condition: Space | None = None) -> None:
        super().__init__()
        self.space, self.config, self.condition = space, config, condition
        self.is_image = len(space.shape) == 3
        shape = (space.shape[1], space.shape[0], space.shape[2]) if self.is_image else space.shape
        self.frames, self.frame_shape = (shape or (1,))[0], shape[1:]
        if self.frames < 2:
            raise BadInput(f"td_vae takes sequences of frames, got {space}", "give clips (T, C, H, W) or images")
        self.marginal = None if condition is None else Marginal(condition)
        self.features = ConditionFeatures(condition)
        self.reader, self.observed = features(space), output_distribution(space)
        dim, extra, width = space.dim // self.frames, self.features.width, config.hidden
        self.frame = mlp([dim * self.reader.width + extra, width, width])
        self.lstm = nn.LSTM(width, config.belief, batch_first=True)
        self.first = nn.Parameter(torch.zeros(config.belief))
        self.belief = Gated(config.belief, width, 2 * config.latent)
        self.transition = Gated(config.latent + config.jump + extra, width, 2 * config.latent)
        self.smoothing = Gated(config.latent + 2 * config.belief + config.jump, width, 2 * config.latent)
        self.decoder = mlp([config.latent + extra, width, width, dim * self.observed.outputs])
        self.register_buffer("trained", torch.tensor(0.0))
        self.register_load_state_dict_pre_hook(with_count)
        scaled(self.frame)
        scaled(self.decoder)

    # -- the distributions

    def beliefs(self, x: Tensor, y: Tensor | None) -> Tensor:
        """b_0 ... b_n of the first n frames (B, n, *frame features), (B, n + 1, belief)."""
        states, _ = self.lstm(self.frame(beside(x.flatten(2), y)))
        return torch.cat([self.first.expand(len(x), 1, -1), states], 1)

    def believed(self, b: Tensor) -> Gaussian:
        """p_B(z_t|b_t)."""
        return gaussian(self.belief(b))

    def moved(self, z: Tensor, d: Tensor, y: Tensor | None) -> Gaussian:
        """p(z_t|z_s, d)."""
        return gaussian(self.transition(beside(torch.cat([z, self.length(d)], -1), y)), z)

    def smoothed(self, z: Tensor, b_s: Tensor, b_t: Tensor, d: Tensor) -> Gaussian:
        """q(z_s|z_t, b_s, b_t, d)."""
        return gaussian(self.smoothing(torch.cat([z, b_s, b_t, self.length(d)], -1)), z)

    def length(self, d: Tensor) -> Tensor:
        return one_hot(d - 1, self.config.jump).to(self.first)

    def outputs(self, z: Tensor, y: Tensor | None) -> Tensor:
        """The parameters of p(x_t|z_t), (B, *shape, outputs), of states (B, T, latent)."""
        out = self.decoder(beside(z, y)).unflatten(2, (*self.frame_shape, self.observed.outputs))
        return out.movedim(1, 2) if self.is_image else out

    def log_frames(self, x: Batch, z: Tensor, y: Tensor | None) -> Tensor:
        """log p(x_t|z_t) of every frame, (B, T)."""
        return self.sequence(self.observed.log_prob(self.outputs(z, y), x)).flatten(2).sum(2)

    def sequence(self, x: Tensor) -> Tensor:
        """(B, *shape, ...) with the time in front."""
        return x.movedim(2, 1) if self.is_image else x if x.ndim > 2 else x[..., None]

    def read(self, x: Batch, y: Conditions | None) -> tuple[Tensor, Tensor | None]:
        """The beliefs, and the features of the condition."""
        features_of_y = self.condition_features(y)
        return self.beliefs(self.sequence(self.reader(x)), features_of_y), features_of_y

    def condition_features(self, y: Conditions | None) -> Tensor | None:
        y = check_condition(y, self.condition)
        return None if y is None else self.features(y, self.first)

    # -- training

    def after_step(self, *outputs: Tensor) -> None:
        """Counts the steps of the warm-up."""
        self.trained += 1

    @property
    def weight(self) -> Tensor | float:
        """That of all terms but log p(x_t|z_t)."""
        if not (self.training and self.config.warmup):
            return 1.0
        return ((self.trained + 1) / self.config.warmup).clamp(max=1.0)

    def loss(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """The sum over t of L_{s,t} (equation 7), each with a jump of its own."""
        b, y = self.read(x, y)
        t = torch.arange(1, self.frames + 1, device=b.device).expand(len(b), -1)
        longest = (t - 1).clamp(1, self.config.jump)
        d = 1 + (torch.rand(t.shape, device=b.device) * longest).long()
        b_t, b_s = b[:, 1:], b.gather(1, (t - d)[..., None].expand(-1, -1, b.shape[-1]))
        z_t, log_b_t = self.believed(b_t).draw()
        z_s, log_q = self.smoothed(z_t, b_s, b_t, d).draw()
        log_p = self.believed(b_s).log_prob(z_s) + self.moved(z_s, d, y).log_prob(z_t)
        return (self.weight * (log_b_t + log_q - log_p) - self.log_frames(x, z_t, y)).sum(1)

    # -- the bound

    def elbo(self, x: Batch, y: Conditions | None = None) -> PerExample:
        return self.log_weight(x, y)

    def log_weight(self, x: Batch, y: Conditions | None = None) -> PerExample:
        """log p(x, z_0 ... z_T) - log q(z_0 ... z_T|x) at one draw of the states."""
        b, y = self.read(x, y)
        one = torch.ones(len(b), dtype=torch.long, device=b.device)
        z, total = self.believed(b[:, -1]).draw()
        total, states = -total, [z]
        for t in range(self.frames, 0, -1):
            before, log_q = self.smoothed(z, b[:, t - 1], b[:, t], one).draw()
            total = total + self.moved(before, one, y).log_prob(z) - log_q
            z = before
            states.insert(0, z)
        frames = self.log_frames(x, torch.stack(states[1:], 1), y).sum(1)
        return total + frames + self.believed(b[:, 0]).log_prob(z)

    # -- samples

    @torch.no_grad()
    def sample(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        noise = streams(n, seed, self.first.device)
        outputs = self.drawn(noise, y)
        return self.observed.sample(outputs, noise.uniform((*self.space.shape, 2)).to(outputs))

    @torch.no_grad()
    def sample_mean(self, n: int, y: Conditions | None = None, *, seed: Seed = None) -> Batch:
        """The mean, or the most likely value, of p(x_t|z_t) at the states of `sample`."""
        return self.observed(self.drawn(streams(n, seed, self.first.device), y))

    def drawn(self, noise: Streams, y: Conditions | None) -> Tensor:
        y = self.condition_features(sampled_condition(y, self, noise))
        return self.outputs(self.rolled(self.first.expand(len(noise), -1), noise, self.frames, 1, y), y)

    def rolled(self, b: Tensor, noise: Streams, frames: int, jump: int, y: Tensor | None) -> Tensor:
        """The states of the next ``frames`` jumps after a belief, (B, frames, latent)."""
        d = torch.full((len(b),), jump, device=b.device)
        z, states = self.believed(b).at(noise.normal((self.config.latent,))), []
        for _ in range(frames):
            z = self.moved(z, d, y).at(noise.normal((self.config.latent,)))
            states.append(z)
        return torch.stack(states, 1)

    @torch.no_grad()
    def forecast(
        self, x: Tensor, *, frames: int, jump: int = 1, y: Conditions | None = None, seed: Seed = None
    ) -> Tensor:
        """The means of the frames that follow: ``jump``, 2 jump, ... frames after the last one of x (B, n, *frame).

        Raises:
            BadInput: For an image, or a jump that is longer than those of the loss.
        """
        if self.is_image:
            raise BadInput("rows of an image cannot be predicted beyond it", "give a model of clips (T, C, H, W)")
        jump, frames = whole("the jump", jump, low=1), whole("the number of frames", frames, low=1)
        if jump > self.config.jump:
            raise BadInput(f"the longest jump of this model is {self.config.jump}, got {jump}", "give a shorter one")
        noise, y = streams(len(x), seed, self.first.device), self.condition_features(y)
        b = self.beliefs(self.sequence(self.reader(x)), y)[:, -1]
        return self.observed(self.outputs(self.rolled(b, noise, frames, jump, y), y))


@dataclass(frozen=True)
class Gaussian:
    """N(mu, sigma²), independent in each dimension."""

    mu: Tensor
    log_sigma: Tensor

    def at(self, eps: Tensor) -> Tensor:
        """mu + sigma eps."""
        return self.mu + self.log_sigma.exp() * eps.to(self.mu)

    def draw(self) -> tuple[Tensor, Tensor]:
        """A draw, with a gradient, and its log-density."""
        z = self.at(torch.randn_like(self.mu))
        return z, self.log_prob(z)

    def log_prob(self, z: Tensor) -> Tensor:
        """Summed over the last dimension."""
        eps = (z - self.mu) / self.log_sigma.exp()
        return -(0.5 * (eps.square() + math.log(2 * math.pi)) + self.log_sigma).sum(-1)


class Gated(nn.Module):
    """W (tanh(a) * sigmoid(b)), with a and b of one hidden layer; the block D of the appendix has none."""

    def __init__(self, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.first, self.gates, self.last = (
            nn.Linear(inputs, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, outputs),
        )
        scaled(self, last=CAUTIOUS)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.gates(silu(self.first(x))).chunk(2, -1)
        return self.last(a.tanh() * b.sigmoid())


def gaussian(outputs: Tensor, mean: Tensor | float = 0.0) -> Gaussian:
    """Its mean is the network's output added to ``mean``."""
    mu, log_sigma = outputs.chunk(2, -1)
    return Gaussian(mean + mu, log_sigma.clamp(*LOG_SIGMAS))


def beside(x: Tensor, y: Tensor | None) -> Tensor:
    """x (B, ..., D) and, at every position, y (B, E)."""
    if y is None:
        return x
    return torch.cat([x, y.view(len(y), *[1] * (x.ndim - 2), -1).expand(*x.shape[:-1], -1)], -1)
