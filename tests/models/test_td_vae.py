"""TD-VAE with the distributions of a linear-Gaussian state-space model, whose densities are known in closed form."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from dgm import contracts
from dgm.contracts import Outcome
from dgm.errors import BadInput
from dgm.models.vae.td_vae import TDVAE, Gaussian, gaussian
from dgm.registry import create
from dgm.space import Space

A, Q, C, R, P = 0.8, 0.5, 1.3, 0.4, 1.7  # z_t = A z + N(0, Q), x_t = C z_t + N(0, R), z_0 ~ N(0, P); variances
T = 5


def moved(mean: Tensor, variance: Tensor, d: int) -> tuple[Tensor, Tensor]:
    """Mean and variance after d steps."""
    for _ in range(d):
        mean, variance = A * mean, A * A * variance + Q
    return mean, variance


class Kalman(TDVAE):
    """The exact filter, transition and smoother in place of networks; b_t is the mean and the variance of z_t."""

    def beliefs(self, x: Tensor, y: Tensor | None) -> Tensor:
        mean, variance = torch.zeros(len(x)).double(), torch.full((len(x),), P).double()
        found = [torch.stack([mean, variance], -1)]
        for t in range(x.shape[1]):
            mean, variance = moved(mean, variance, 1)
            gain = variance * C / (C * C * variance + R)
            mean, variance = mean + gain * (x[:, t, 0] - C * mean), (1 - gain * C) * variance
            found.append(torch.stack([mean, variance], -1))
        return torch.stack(found, 1)

    def believed(self, b: Tensor) -> Gaussian:
        return Gaussian(b[..., :1], 0.5 * b[..., 1:].log())

    def moved(self, z: Tensor, d: Tensor, y: Tensor | None) -> Gaussian:
        noise = Q * (1 - A ** (2 * d.double())) / (1 - A * A)
        return Gaussian(A ** d.double()[..., None] * z, 0.5 * noise.log()[..., None])

    def smoothed(self, z: Tensor, b_s: Tensor, b_t: Tensor, d: Tensor) -> Gaussian:
        """p(z_s|z_t, x_1 ... x_s)."""
        step, noise = A ** d.double()[..., None], (2 * self.moved(z, d, None).log_sigma).exp()
        mean, variance = b_s[..., :1], b_s[..., 1:]
        gain = variance * step / (step.square() * variance + noise)
        return Gaussian(mean + gain * (z - step * mean), 0.5 * ((1 - gain * step) * variance).log())

    def outputs(self, z: Tensor, y: Tensor | None) -> Tensor:
        return torch.cat([torch.zeros_like(z), C * z, torch.full_like(z, 0.5 * math.log(R))], -1)


def kalman(jump: int) -> Kalman:
    return Kalman(Space.continuous((T,)), TDVAE.Config(latent=1, belief=2, hidden=4, jump=jump, warmup=0)).double()


def marginal() -> MultivariateNormal:
    """The density of x."""
    states = torch.zeros(T, T).double()
    variance = torch.tensor(P).double()
    for t in range(T):
        variance = moved(variance, variance, 1)[1]
        for u in range(t, T):
            states[t, u] = states[u, t] = A ** (u - t) * variance
    return MultivariateNormal(torch.zeros(T).double(), C * C * states + R * torch.eye(T).double())


def test_with_the_exact_distributions_every_weight_is_the_likelihood() -> None:
    """Kills: each term of the bound, and a belief of another frame."""
    x = marginal().sample((50,))
    torch.testing.assert_close(kalman(1).log_weight(x), marginal().log_prob(x))


def test_the_loss_of_single_steps_is_then_the_likelihood_too() -> None:
    """L is -log p(x_t|x_1 ... x_{t-1}) for every draw. Kills: each of its signs, and s for t."""
    x = marginal().sample((50,))
    torch.testing.assert_close(kalman(1).loss(x), -marginal().log_prob(x))


def test_the_warm_up_weighs_all_but_the_frames() -> None:
    """The loss is linear in its weight; of weight 0 it is the frames' alone. Kills: a weight of the frames, and one in
    evaluation, where it is always the bound.
    """
    model = Kalman(Space.continuous((T,)), TDVAE.Config(latent=1, belief=2, hidden=4, jump=1, warmup=4)).double()
    x, found = marginal().sample((50,)), []
    for steps in (-1, 0, 3, 9):
        model.trained.fill_(steps)
        torch.manual_seed(0)
        found.append(model.loss(x))
    none, quarter, full, later = found
    torch.testing.assert_close(quarter, 0.75 * none + 0.25 * full)
    torch.testing.assert_close(full, -marginal().log_prob(x))
    torch.testing.assert_close(later, full)
    torch.manual_seed(0)
    torch.rand(50, T)  # the jumps
    z = model.believed(model.beliefs(x[..., None], None)[:, 1:]).draw()[0]
    torch.testing.assert_close(none, -model.log_frames(x, z, None).sum(1))
    model.trained.fill_(0)
    torch.testing.assert_close(model.eval().loss(x), -marginal().log_prob(x))
    model.train().after_step()
    assert model.weight == 0.5


def test_the_signal_does_not_shrink_in_the_layers() -> None:
    """Kills: PyTorch's initialisation, whose outputs have a hundredth of this variance."""
    model: Any = create("td_vae", Space.binary((4, 1, 8, 8)))
    z = torch.randn(500, 3, model.config.latent)
    second_moment = float(model.outputs(z, None).detach().square().mean())
    assert 0.3 < second_moment < 3  # two SiLU layers keep 0.5 to 0.7 of it each, and of the heads' gain 2
    read = float(model.frame(torch.randn(500, 64).sign()).detach().square().mean())
    assert 0.3 < read < 3  # 0.03 of PyTorch's


def test_the_loss_of_a_jump_is_the_likelihood_given_the_past_and_a_divergence() -> None:
    r"""E L_{s,t} = -log p(x_t|x_1 ... x_s) + KL(p(z_t|x_1 ... x_t) || p(z_t|x_1 ... x_s, x_t)), for the smoother used.

    Kills: a jump that is not drawn uniformly from those that fit, a long one from before the first frame, and a length
    that the transition does not have.
    """
    model, x = kalman(3), marginal().sample((1,))
    b = model.beliefs(x[..., None], None)[0]
    expected = 0.0
    for t in range(1, T + 1):
        longest = min(3, max(1, t - 1))
        for d in range(1, longest + 1):
            prior = moved(b[t - d, 0], b[t - d, 1], d)
            seen = Normal(C * prior[0], (C * C * prior[1] + R).sqrt()).log_prob(x[0, t - 1])
            gain = prior[1] * C / (C * C * prior[1] + R)
            of_both = Normal(prior[0] + gain * (x[0, t - 1] - C * prior[0]), ((1 - gain * C) * prior[1]).sqrt())
            gap = kl_divergence(Normal(b[t, 0], b[t, 1].sqrt()), of_both)
            expected += float(gap - seen) / longest
    losses = model.loss(x.expand(40_000, T))
    assert float(losses.mean()) == pytest.approx(expected, abs=5 * float(losses.std()) / 200)


def test_samples_have_the_covariance_of_the_model() -> None:
    n = 20_000
    with torch.no_grad():
        model: Any = kalman(2).float()
        model.first.data = torch.tensor([0.0, P])
        x = model.sample(n, seed=0).double()
    expected = marginal().covariance_matrix
    error = 5 * ((expected.diagonal()[:, None] * expected.diagonal() + expected.square()) / n).sqrt()
    assert ((x.T.cov() - expected).abs() < error).all()


def test_a_prediction_of_a_jump_is_the_state_after_it() -> None:
    """The mean of p(x_{n+d}|x_1 ... x_n) is C A^d times the filter's mean, here 2. Kills: jumps of one frame."""
    model, n = kalman(3), 20_000
    x = torch.full((1, 3), 3.0, dtype=torch.float64)
    filtered = model.beliefs(x[..., None], None)[0, -1]
    x_next = model.forecast(x.expand(n, 3), frames=2, jump=3, seed=0)
    variance = [moved(*filtered, d)[1] for d in (3, 6)]
    for k, d in enumerate((3, 6)):
        error = 5 * C * math.sqrt(variance[k] / n)
        assert float(x_next[:, k].mean()) == pytest.approx(C * A**d * float(filtered[0]), abs=error)
    with pytest.raises(BadInput, match="longest jump"):
        model.forecast(x, frames=1, jump=4)


def test_transition_and_smoother_start_from_the_other_state() -> None:
    """Their means are z plus the network's output, of the beliefs in their order. Kills: a mean without z."""
    model: Any = create("td_vae", Space.binary((4, 2)), latent=3, belief=5, hidden=4, jump=2)
    z, b_s, b_t, d = torch.randn(6, 3), torch.randn(6, 5), torch.randn(6, 5), torch.tensor([1, 2] * 3)
    jump = torch.eye(2)[d - 1]
    for found, outputs in (
        (model.moved(z, d, None), model.transition(torch.cat([z, jump], 1))),
        (model.smoothed(z, b_s, b_t, d), model.smoothing(torch.cat([z, b_s, b_t, jump], 1))),
    ):
        torch.testing.assert_close(found.mu, z + outputs[:, :3])
        torch.testing.assert_close(found.log_sigma, outputs[:, 3:])


def test_jumps_are_uniform_among_those_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of frame t, 1 to min(3, t - 1), and the first from before the sequence. Kills: a longest jump left out."""
    model, seen, moved_by = kalman(3), list[Tensor](), Kalman.moved
    monkeypatch.setattr(Kalman, "moved", lambda self, z, d, y: seen.append(d) or moved_by(self, z, d, y))
    model.loss(torch.zeros(3000, T).double())
    for t, jumps in enumerate(seen[0].T, 1):
        shares = jumps.bincount(minlength=4)[1:] / 3000
        many = min(3, max(1, t - 1))
        assert (shares[many:] == 0).all()
        assert ((shares[:many] - 1 / many).abs() < 5 * 0.5 / 3000**0.5).all()


def test_scales_of_states_are_bounded_on_both_sides() -> None:
    outputs = torch.tensor([[0.5, -50.0], [0.5, 1.5], [0.5, 50.0]])
    found = gaussian(outputs, torch.ones(3, 1))
    assert found.mu.flatten().tolist() == [1.5, 1.5, 1.5]
    assert found.log_sigma.flatten().tolist() == [-4, 1.5, 3]


@pytest.mark.parametrize("space", [Space.binary((3, 2)), Space.levels((2, 1, 1, 2), 3)], ids=str)
def test_every_law_holds_of_clips(space: Space) -> None:
    with torch.no_grad():
        model = contracts.perturbed(create("td_vae", space, latent=2, belief=4, hidden=8))
        for parameter in model.parameters():
            parameter *= 0.5  # the mean of the bound then needs fewer draws
    results = list(contracts.check(model))
    assert not [r.detail for r in results if r.outcome is Outcome.BROKEN]
    assert contracts.run(contracts.bound_sums_to_at_most_one, model).passed


def test_an_image_is_the_sequence_of_its_rows() -> None:
    """A belief depends on the rows above alone."""
    model: Any = create("td_vae", Space.binary((2, 3, 4)), latent=2)
    x = torch.randint(2, (1, 2, 3, 4)).to(torch.uint8)
    other = x.clone()
    other[:, :, 2] = 1 - other[:, :, 2]
    b, changed = model.read(x, None)[0], model.read(other, None)[0]
    assert torch.equal(b[:, :3], changed[:, :3])
    assert not torch.equal(b[:, 3], changed[:, 3])
    assert model.outputs(torch.randn(1, 3, 2), None).shape == (1, 2, 3, 4, 1)
