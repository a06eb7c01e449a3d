"""Objectives, penalties and spectral normalisation against closed forms; any table goes with any other."""

from __future__ import annotations

import itertools
import math
from typing import get_args, get_type_hints

import pytest
import torch
from torch import Tensor, nn

from dgm.models.gan.base import Options
from dgm.models.gan.gan import GAN
from dgm.models.gan.networks import NETWORKS, NetworkName
from dgm.models.gan.objectives import DIVERGENCES, OBJECTIVES, ObjectiveName
from dgm.models.gan.penalties import PENALTIES, between
from dgm.models.gan.r3gan import R3GAN
from dgm.models.gan.wgan import WGAN
from dgm.models.gan.wgan_gp import WGANGP
from dgm.networks.progressive import Equalised
from dgm.space import Space

P = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
Q = torch.tensor([0.1, 0.25, 0.25, 0.4], dtype=torch.float64)


def test_the_names_of_the_settings_are_those_of_the_tables() -> None:
    assert set(get_args(ObjectiveName)) == set(OBJECTIVES)
    assert set(get_args(NetworkName)) == set(NETWORKS)
    assert set(get_type_hints(Options)) > set(PENALTIES)


# -- games on a finite set, where expectations are sums


def best(objective: str, p: Tensor = P, q: Tensor = Q) -> Tensor:
    """The V on each point that minimises the discriminator's expected loss, by Newton's method."""
    v = torch.full_like(p, -0.1, requires_grad=True)
    optimiser = torch.optim.LBFGS([v], lr=0.5, max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-14)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = expected_loss(objective, v, p, q)
        loss.backward()
        return loss

    optimiser.step(closure)
    return v.detach()


def expected_loss(objective: str, v: Tensor, p: Tensor = P, q: Tensor = Q) -> Tensor:
    """Of unpaired objectives, whose loss is a sum of a function of the real and one of the generated example."""
    zero = torch.zeros_like(v)
    loss = OBJECTIVES[objective].discriminator
    return (p * (loss(v, zero) - loss(zero, zero)) + q * loss(zero, v)).sum()


def kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p / q).log()).sum()


def test_the_best_discriminator_and_the_value_of_the_game() -> None:
    """Goodfellow et al., proposition 1 and theorem 1: D = p / (p + q), and the value is 2 JSD - log 4."""
    v = best("non_saturating")
    torch.testing.assert_close(v.sigmoid(), P / (P + Q), rtol=1e-6, atol=0)
    jsd = 0.5 * kl(P, (P + Q) / 2) + 0.5 * kl(Q, (P + Q) / 2)
    assert -expected_loss("non_saturating", v).item() == pytest.approx(2 * jsd.item() - math.log(4), rel=1e-9)


def test_the_best_discriminator_of_least_squares() -> None:
    """Mao et al., equation 5: V = (b p + a q) / (p + q) with b = 1 and a = 0."""
    torch.testing.assert_close(best("least_squares"), P / (P + Q), rtol=1e-6, atol=0)
    v = torch.tensor([-1.0, 0.0, 3.0])
    assert OBJECTIVES["least_squares"].generator(v, v).tolist() == [2, 0.5, 2]  # (V - 1)² / 2


def test_the_hinges_best_discriminator_is_the_sign_and_its_value_the_total_variation() -> None:
    """The loss is 2 - 2 TV at V = sign(p - q), and no V between -1 and 1 has less (Lim & Ye 2017, section 3)."""
    v = (P - Q).sign()
    least = 2 - (P - Q).abs().sum()
    torch.testing.assert_close(expected_loss("hinge", v), least)
    others = torch.cartesian_prod(*[torch.linspace(-2, 2, 9, dtype=torch.float64)] * 4)
    assert all(expected_loss("hinge", other) >= least - 1e-12 for other in others[::7])


def test_the_wasserstein_loss_is_the_distance_at_the_potential() -> None:
    """On the line the W1 distance is the integral of |F_p - F_q|, and its potential has slope sign(F_q - F_p)."""
    gap = (Q - P).cumsum(0)[:-1]
    v = torch.cat([torch.zeros(1, dtype=torch.float64), gap.sign().cumsum(0)])
    assert -expected_loss("wasserstein", v).item() == pytest.approx(gap.abs().sum().item())
    assert OBJECTIVES["wasserstein"].generator(v, v).equal(-v)


EXPECTED = {
    "kl": kl(P, Q),
    "reverse_kl": kl(Q, P),
    "pearson": ((P - Q).square() / Q).sum(),
    "squared_hellinger": (P.sqrt() - Q.sqrt()).square().sum(),
    "jensen_shannon": kl(P, (P + Q) / 2) + kl(Q, (P + Q) / 2),
}
SPREAD = torch.linspace(0.02, 8, 60, dtype=torch.float64)


@pytest.mark.parametrize("name", DIVERGENCES)
class TestDivergences:
    """f-GAN, tables 1, 2 and 6. Kills: a sign or a constant in f, f* or g, or in the game's losses."""

    def test_the_divergence_is_the_textbooks(self, name: str) -> None:
        f = DIVERGENCES[name].f
        torch.testing.assert_close((Q * f(P / Q)).sum(), EXPECTED[name])
        assert f(torch.ones(1)).item() == pytest.approx(0, abs=1e-7)

    def test_the_conjugate_is_the_supremum(self, name: str) -> None:
        """f*(t) = sup_u (u t - f(u)), at u where f'(u) = t, so that f*(f'(u)) = u f'(u) - f(u)."""
        u = SPREAD.clone().requires_grad_()
        f = DIVERGENCES[name].f(u)
        (t,) = torch.autograd.grad(f.sum(), u)
        torch.testing.assert_close(DIVERGENCES[name].conjugate(t), (u * t - f).detach(), rtol=1e-9, atol=1e-9)

    def test_the_activation_maps_onto_the_conjugates_domain(self, name: str) -> None:
        """g increases, its values lie where f* is finite, and those of f' are among them."""
        g, conjugate = DIVERGENCES[name].activation, DIVERGENCES[name].conjugate
        t = g(torch.linspace(-20, 20, 181, dtype=torch.float64))
        assert (t.diff() >= 0).all()
        assert conjugate(t).isfinite().all()
        u = SPREAD.clone().requires_grad_()
        (slopes,) = torch.autograd.grad(DIVERGENCES[name].f(u).sum(), u)
        assert t.min() < slopes.min()
        assert t.max() > slopes.max()

    def test_the_conjugate_of_the_activation_is_exact_where_a_discriminator_is_sure(self, name: str) -> None:
        """Kills: f* after g in float32, which is infinite for V above 16; a sign or a constant of the other form."""
        divergence, v = DIVERGENCES[name], torch.linspace(-12, 12, 97, dtype=torch.float64)
        exact = divergence.conjugate(divergence.activation(v))
        torch.testing.assert_close(divergence.conjugate_of_activation(v), exact, rtol=1e-9, atol=1e-9)
        sure = torch.tensor([20.0, 40.0])
        found = divergence.objective.discriminator(sure, sure)
        expected = divergence.conjugate_of_activation(sure.double()) - divergence.activation(sure.double())
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)

    def test_the_bound_is_tight_at_the_best_discriminator(self, name: str) -> None:
        u = (P / Q).requires_grad_()
        (t,) = torch.autograd.grad(DIVERGENCES[name].f(u).sum(), u)
        conjugate = DIVERGENCES[name].conjugate
        torch.testing.assert_close((P * t - Q * conjugate(t)).sum(), EXPECTED[name])
        for off in (t - 0.05, t - 0.01 * torch.arange(4)):
            assert (P * off - Q * conjugate(off)).sum() < EXPECTED[name]
        v = best(name)
        torch.testing.assert_close(DIVERGENCES[name].activation(v), t, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(-expected_loss(name, v), EXPECTED[name], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if name not in ("hinge", "wasserstein")])
def test_equal_distributions_are_a_fixed_point(objective: str) -> None:
    """With p = q the best V is constant, and there the generator's loss is the same at every point."""
    if objective == "relativistic":
        v = torch.zeros(4, dtype=torch.float64, requires_grad=True)
        pairs = OBJECTIVES[objective].discriminator(v[:, None], v[None, :])
        (gradient,) = torch.autograd.grad((P[:, None] * P[None, :] * pairs).sum(), v)
        assert gradient.abs().max() < 1e-12
    else:
        assert best(objective, P, P).diff().abs().max() < 1e-5


def test_saturating_and_not_share_the_fixed_point_and_not_the_gradient() -> None:
    """d/dV of the generator's losses is -sigmoid(V) and -sigmoid(-V): where D is sure the first one vanishes."""
    v = torch.tensor([-12.0, 0.0, 12.0], dtype=torch.float64, requires_grad=True)
    found = {}
    for name in ("minimax", "non_saturating"):
        assert OBJECTIVES[name].discriminator is OBJECTIVES["non_saturating"].discriminator
        (found[name],) = torch.autograd.grad(OBJECTIVES[name].generator(v, v).sum(), v)
    torch.testing.assert_close(found["minimax"], -v.detach().sigmoid())
    torch.testing.assert_close(found["non_saturating"], -(-v.detach()).sigmoid())
    assert found["minimax"][0].abs() < 1e-5 < 0.9 < found["non_saturating"][0].abs()
    assert found["minimax"][1] == found["non_saturating"][1] == -0.5


def test_the_relativistic_losses_are_of_the_pairs_difference() -> None:
    """R3GAN, equation 2: f(V(G(z)) - V(x)), the same for both players with the sign turned."""
    real, fake = torch.randn(2, 6, dtype=torch.float64)
    objective = OBJECTIVES["relativistic"]
    torch.testing.assert_close(objective.discriminator(real, fake), (1 + (fake - real).exp()).log())
    torch.testing.assert_close(objective.generator(real, fake), (1 + (real - fake).exp()).log())
    assert [name for name in OBJECTIVES if OBJECTIVES[name].paired] == ["relativistic"]


# -- the Dirac-GAN: p is a point mass at 0, q one at theta, V(x) = psi x


def dirac(objective: str, gamma: float, state: Tensor) -> Tensor:
    """The vector field of gradient descent of both players at (theta, psi), with R1 or R1 and R2 of weight gamma."""
    theta, psi = state.detach().clone().requires_grad_()

    def critic(x: Tensor) -> Tensor:
        return (psi * x)[:, 0]

    real, fake = torch.zeros(1, 1, dtype=torch.float64), theta.reshape(1, 1)
    loss = OBJECTIVES[objective].discriminator(critic(real), critic(fake.detach())).mean()
    loss = loss + gamma * PENALTIES["r1"](critic, real, fake.detach()).mean()
    (of_psi,) = torch.autograd.grad(loss, psi, create_graph=True)
    generator = OBJECTIVES[objective].generator(critic(real).detach(), critic(fake)).mean()
    (of_theta,) = torch.autograd.grad(generator, theta, create_graph=True)
    return -torch.stack([of_theta, of_psi])


def jacobian(objective: str, gamma: float) -> Tensor:
    """By central differences, exact to 1e-9 here since the field is smooth at the origin."""
    step = 1e-5 * torch.eye(2, dtype=torch.float64)
    columns = [(dirac(objective, gamma, row) - dirac(objective, gamma, -row)) / 2e-5 for row in step]
    return torch.stack(columns, 1).detach()


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 3.0])
@pytest.mark.parametrize(("objective", "slope"), [("non_saturating", 0.5), ("relativistic", 0.5), ("wasserstein", 1.0)])
def test_the_eigenvalues_of_the_dirac_gan(objective: str, slope: float, gamma: float) -> None:
    """Mescheder et al., lemma 4.1 and R3GAN, equation 12, with the square: -gamma/2 ± sqrt(gamma²/4 - f'(0)²)."""
    eigenvalues = torch.linalg.eigvals(jacobian(objective, gamma))
    root = torch.tensor(gamma**2 / 4 - slope**2, dtype=torch.complex128).sqrt()
    expected = torch.stack([-gamma / 2 + root, -gamma / 2 - root])
    order, same = (torch.argsort(v.real + 10 * v.imag) for v in (eigenvalues, expected))
    torch.testing.assert_close(eigenvalues[order], expected[same], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("objective", ["minimax", "wasserstein", "non_saturating", "relativistic"])
def test_without_r1_the_dirac_gan_circles_and_with_it_converges(objective: str) -> None:
    """In continuous time d r²/dt = -2 u tanh(u / 2), u = theta psi, of the last two, of fourth order in r: they
    converge too, but more slowly than any geometric rate, where with R1 the rate is gamma / 2.
    """
    radii = {}
    for gamma in (0.0, 1.0):
        state, radii[gamma] = torch.tensor([1.0, 0.0], dtype=torch.float64), []
        for _ in range(1000):
            state = state + 0.02 * dirac(objective, gamma, state).detach()
            radii[gamma].append(state.norm().item())
    if objective in ("minimax", "wasserstein"):
        assert radii[0.0][-1] > 1  # steps of a positive length along a circle even lead outwards
    else:
        assert 0.8 < radii[0.0][-1] / radii[0.0][499] < 1
    assert radii[1.0][-1] < 1e-2 * radii[1.0][0]


# -- penalties


class Linear(nn.Module):
    """V(x) = w · x."""

    def __init__(self, weight: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


@pytest.mark.parametrize("scale", [0.1, 2.0])
def test_penalties_of_a_linear_critic(scale: float) -> None:
    """|w|²/2 of R1 and R2, (|w| - 1)² of the gradient penalty, one-sided only above 1; and their gradients."""
    critic = Linear([3 * scale, 0.0, 4 * scale])
    norm, real = 5 * scale, torch.randn(6, 3, dtype=torch.float64)
    fake = real + 1
    expected = {
        "r1": (norm**2 / 2, norm),
        "r2": (norm**2 / 2, norm),
        "gradient_penalty": ((norm - 1) ** 2, 2 * (norm - 1)),
        "one_sided_penalty": (max(norm - 1, 0) ** 2, 2 * max(norm - 1, 0)),
    }
    for name, (value, slope) in expected.items():
        found = PENALTIES[name](critic, real, fake)
        torch.testing.assert_close(found.detach(), torch.full((6,), value, dtype=torch.float64), rtol=1e-6, atol=1e-9)
        (gradient,) = torch.autograd.grad(found.mean(), critic.weight)
        direction = critic.weight.detach() / norm
        torch.testing.assert_close(gradient, slope * direction, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(PENALTIES["drift"](critic, real, fake), critic(real).square())


def test_points_between_are_on_the_segments() -> None:
    """Kills: a share for each dimension, which fills the box."""
    real, fake = torch.randn(20, 3, 2), torch.randn(20, 3, 2)
    share = (between(real, fake) - real) / (fake - real)
    torch.testing.assert_close(share, share[:, :1, :1].expand_as(share), rtol=0, atol=1e-3)
    assert share[:, 0, 0].std() > 0.1


def test_penalties_are_taken_where_their_names_say() -> None:
    """V = |x|^4 / 4 has the slope |x|³: R1 at the real, R2 at the generated, the others between them."""
    real, fake = torch.full((500, 1), 2.0), torch.full((500, 1), 4.0)

    def critic(x: Tensor) -> Tensor:
        return x[:, 0] ** 4 / 4

    assert PENALTIES["r1"](critic, real, fake)[0].item() == pytest.approx(8**2 / 2)
    assert PENALTIES["r2"](critic, real, fake)[0].item() == pytest.approx(64**2 / 2)
    points = (PENALTIES["gradient_penalty"](critic, real, fake).sqrt() + 1) ** (1 / 3)
    assert 2 <= points.min() < 2.05 < 2.95 < points.mean() < 3.05 < 3.95 < points.max() <= 4


def test_r1s_unit_is_that_of_scaled_data() -> None:
    """gamma does not depend on the data's unit: levels are scaled to [-1, 1], real numbers standardised."""
    for space, x in (
        (Space.levels((2,), 256), torch.tensor([[0, 255]], dtype=torch.uint8)),
        (Space.continuous((2,), loc=(50.0, 50.0), scale=(20.0, 20.0)), torch.tensor([[30.0, 70.0]])),
    ):
        gan = GAN(space, GAN.Config(r1=1.0, spectral_norm=False))
        gan.discriminator.network, gan.discriminator.last = nn.Identity(), nn.Linear(2, 1)
        expected = 0.5 * gan.discriminator.last.weight.square().sum()
        torch.testing.assert_close(gan.penalty("r1", x), expected[None])


def test_penalties_are_due_as_the_settings_say_and_times_their_weight() -> None:
    x = torch.randn(4, 2)
    game = GAN(Space.continuous((2,)), GAN.Config(r1=3.0, drift=0.5, penalty_every=7))
    assert [(r.player, r.interval) for r in game.regularisers()] == [("discriminator", 7)] * 2
    once = GAN(Space.continuous((2,)), GAN.Config(r1=1.0, drift=1.0))
    once.load_state_dict(game.state_dict())
    game.eval(), once.eval()
    for first, second, weight in zip(game.regularisers(), once.regularisers(), (3.0, 0.5), strict=True):
        torch.testing.assert_close(first.penalty(x, None), weight * second.penalty(x, None))
    assert not GAN(Space.continuous((2,)), GAN.Config()).regularisers()


def test_a_model_takes_each_penalty_at_its_own_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """With V = |x|², whose slope is 2 x: r1 and the drift at real examples, r2 at generated ones, times the weight.

    Kills: r2 at real examples, r1 at generated ones, a weight left out.
    """
    gan = GAN(Space.continuous((2,)), GAN.Config(r1=3.0, r2=5.0, drift=7.0, spectral_norm=False))
    real, fake = torch.tensor([[1.0, 2.0], [0.5, 0.0]]), torch.tensor([[3.0, 1.0], [0.0, 2.0]])
    monkeypatch.setattr(gan, "judged", lambda x, y: x.square().sum(1))
    monkeypatch.setattr(gan, "generated_like", lambda real, y: fake)
    of_real, of_fake = real.square().sum(1), fake.square().sum(1)
    torch.testing.assert_close(gan.penalty("r1", real), 3 * 2 * of_real)
    torch.testing.assert_close(gan.penalty("r2", real), 5 * 2 * of_fake)
    torch.testing.assert_close(gan.penalty("drift", real), 7 * of_real.square())


def test_a_penalty_reaches_no_parameter_of_the_generator() -> None:
    game = R3GAN(Space.continuous((2,)), R3GAN.Config())
    for regulariser in game.regularisers():
        regulariser.penalty(torch.randn(4, 2), None).sum().backward()
    assert all(p.grad is None for p in game.generator.parameters())
    assert any(p.grad is not None for p in game.discriminator.parameters())


# -- spectral normalisation and clipping


def test_the_normalised_weight_has_spectral_norm_one() -> None:
    """Against torch.linalg.svd, of a convolution as the matrix (outputs, the rest), after power iterations."""
    gan = GAN(Space.levels((1, 8, 8), 17), GAN.Config(width=8, network="upsampling", conditioning="projection"), LABEL)
    gan.train()
    x, y = torch.randn(2, 1, 8, 8), torch.tensor([0, 1])
    for _ in range(60):
        gan.judged(x, y)
    gan.eval()
    found = [m for m in gan.discriminator.modules() if isinstance(m, (nn.Conv2d, nn.Linear, nn.Embedding))]
    assert len(found) == 4
    for module in found:
        largest = torch.linalg.svdvals(module.weight.flatten(1)).max()
        assert largest.item() == pytest.approx(1, rel=1e-2)  # the power iteration converges geometrically
        original = module.parametrizations.weight.original
        torch.testing.assert_close(
            module.weight * torch.linalg.svdvals(original.flatten(1)).max(), original, rtol=2e-2, atol=1e-4
        )


LABEL = Space.categories(3)


def test_every_layer_of_a_progressive_discriminator_is_normalised() -> None:
    gan = GAN(Space.continuous((1, 8, 8)), GAN.Config(width=4, network="progressive", spectral_norm=True))
    layers = [part for part in gan.discriminator.modules() if isinstance(part, (Equalised, nn.Linear))]
    assert len(layers) > 4
    assert all(hasattr(layer, "parametrizations") for layer in layers)


def test_a_critics_weights_are_clipped_after_each_of_its_steps() -> None:
    wgan = WGAN(Space.continuous((2,)), WGAN.Config(critic_steps=3, weight_clip=0.02))
    seen = []
    for player, _ in wgan.losses(torch.randn(8, 2)):
        largest = max(p.abs().max().item() for p in wgan.discriminator.parameters())
        seen.append((player, largest))
        with torch.no_grad():
            for p in wgan.discriminator.parameters():
                p.mul_(3)
    assert [player for player, _ in seen] == ["discriminator"] * 3 + ["generator"]
    assert [largest for _, largest in seen[1:]] == pytest.approx([0.02] * 3)


def test_the_critics_steps_see_new_noise_and_the_generator_the_last_critic() -> None:
    wgan = WGANGP(Space.continuous((2,)), WGANGP.Config(critic_steps=2))
    drawn = []
    right = wgan.generated
    wgan.generated = lambda z, y: drawn.append(z) or right(z, y)  # type: ignore[func-returns-value]
    torch.manual_seed(0)
    losses = wgan.losses(torch.randn(4, 2))
    next(losses), next(losses)
    with torch.no_grad():
        wgan.discriminator.last.bias.add_(5)
    _, generator = next(losses)
    assert len(drawn) == 2
    assert not torch.equal(*drawn)
    torch.testing.assert_close(generator, -wgan.judged(right(drawn[1], None), None))


def test_each_of_the_critics_steps_sees_real_and_generated_examples_under_their_own_condition() -> None:
    """Generated ones as the generator's loss does. Kills: conditions of other examples, noise of levels kept."""
    gan = GAN(Space.levels((3,), 5), GAN.Config(critic_steps=2), LABEL)
    seen, judged = list[tuple[Tensor, Tensor]](), gan.judged
    gan.judged = lambda x, y: seen.append((x.detach(), y)) or judged(x, y)  # type: ignore[func-returns-value, method-assign]
    x, y = torch.tensor([[0, 1, 2], [2, 3, 4], [4, 0, 1]], dtype=torch.uint8), torch.tensor([0, 1, 2])
    list(gan.losses(x, y))
    assert all(torch.equal(given, y) for _, given in seen)
    real = [seen[0][0], seen[2][0]]
    assert all(torch.allclose(z, gan.scaling(x), atol=0.5) for z in real)
    assert (real[0] != real[1]).all()
    assert all((z != gan.scaling(x)).all() for z in real), "no noise of levels"


# -- any with any


@pytest.mark.parametrize("network", NETWORKS)
def test_any_objective_goes_with_any_penalty_and_any_network(network: str) -> None:
    """One step of each; every value is finite, and both players have a gradient that is not 0."""
    space, x = Space.levels((1, 8, 8), 17), torch.randint(0, 17, (4, 1, 8, 8), dtype=torch.uint8)
    penalties = [{name: 0.1} for name in PENALTIES] + [{"spectral_norm": True}, {"weight_clip": 0.01}, {}]
    for objective, penalty in zip(OBJECTIVES, itertools.cycle(penalties), strict=False):
        config = Options(latent=4, width=4, network=network, objective=objective, **penalty)  # type: ignore[arg-type]
        game = GAN(space, config, LABEL)  # type: ignore[arg-type]
        y = torch.tensor([0, 1, 2, 0])
        for player, loss in game.losses(x, y):
            total = loss.mean() + sum(r.penalty(x, y).mean() for r in game.regularisers() if player == r.player)
            parameters = list(game.get_submodule(player).parameters())
            gradients = torch.autograd.grad(total, parameters, allow_unused=True)
            assert total.isfinite()
            assert any(g is not None and g.abs().max() > 0 for g in gradients), (objective, penalty, player)


def test_batch_normalisation_leaves_a_penalised_discriminator() -> None:
    """Gulrajani et al., section 4: with it the slope of one example's V depends on the others."""
    space = Space.levels((1, 16, 16), 17)
    for penalty, expected in (({}, 2), ({"gradient_penalty": 1.0}, 0), ({"spectral_norm": True}, 0)):
        game = GAN(space, Options(width=4, network="dcgan", **penalty))  # type: ignore[arg-type]
        norms = [m for m in game.discriminator.modules() if isinstance(m, nn.BatchNorm2d)]
        assert (len(norms) > 0) == (expected > 0)
        assert any(isinstance(m, nn.BatchNorm2d) for m in game.generator.modules())


def test_the_projection_is_an_inner_product_with_the_features() -> None:
    """Miyato & Koyama, equation 3: of a bias-free linear phi its value for each label by hand."""
    game = GAN(Space.continuous((3,)), GAN.Config(conditioning="projection", spectral_norm=False), LABEL)
    critic = game.discriminator
    critic.network = nn.Identity()
    critic.last, critic.embedding = nn.Linear(3, 1), nn.Embedding(3, 3)
    x, y = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    expected = x @ critic.last.weight[0] + critic.last.bias + (critic.embedding.weight[y] * x).sum(1) / math.sqrt(3)
    torch.testing.assert_close(game.judged(x, y), expected)


def test_perceptrons_are_piecewise_linear() -> None:
    """As in the literature of the grid of 25 modes, of which smooth units leave most samples between the modes."""
    torch.manual_seed(0)
    model = GAN(Space.continuous((2,)), GAN.Config(latent=2, width=4, spectral_norm=False)).double()
    x, h = torch.randn(50, 2, dtype=torch.float64), 1e-4
    for f in (lambda x: model.generated(x, None), lambda x: model.judged(x, None)):
        second = f(x + h) - 2 * f(x) + f(x - h)
        assert second.abs().median() < 1e-13  # rounding; of SiLU it is about 1e-10


@pytest.mark.parametrize(("r2", "advice"), [(0.0, "--model.r2 1"), (0.1, "train longer")])
def test_a_remedy_is_not_what_the_game_has(r2: float, advice: str) -> None:
    model = R3GAN(Space.continuous((2,)), R3GAN.Config(width=2, r1=0.1, r2=r2))
    symptoms = model.diagnose(torch.randn(4, 2))
    assert all(advice in symptoms[name].warning for name in ("saturation", "duplicates"))
