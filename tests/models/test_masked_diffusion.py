"""Masked diffusion on spaces so small that every mask, every order and every x can be gone through."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

import dgm
from dgm.errors import BadInput, Unsupported
from dgm.models.discrete_diffusion import masked_diffusion as module
from dgm.models.discrete_diffusion.masked_diffusion import MaskedDiffusion
from dgm.processes.masking import Cosine, Linear
from dgm.space import Space

BITS = Space.binary((1, 1, 3))
ALL = torch.tensor(list(itertools.product((0, 1), repeat=3)))


def random(space: Space, condition: Space | None = None, **config: object) -> MaskedDiffusion:
    torch.manual_seed(0)
    model = MaskedDiffusion(space, MaskedDiffusion.Config(width=8, **config), condition)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.double()


def conditionals(model: MaskedDiffusion, x: Tensor, masked: tuple[int, ...]) -> Tensor:
    """(8, 3): log p(x^l | what is not masked)."""
    mask = torch.zeros(3, dtype=torch.bool)
    mask[list(masked)] = True
    logits = model.network(torch.where(mask, model.mask, x), None)
    return logits.log_softmax(-1).gather(-1, x[..., None])[..., 0]


def subsets(k: int) -> list[tuple[int, ...]]:
    return list(itertools.combinations(range(3), k))


def bound_over_masks(model: MaskedDiffusion) -> Tensor:
    """The expectation of `elbo` over k and M, for each of the 8 images."""
    bound = torch.zeros(8, dtype=torch.float64)
    for k in (1, 2, 3):
        for masked in subsets(k):
            bound += conditionals(model, ALL, masked)[:, masked].sum(1) / k / len(subsets(k))
    return bound


@pytest.fixture
def model() -> MaskedDiffusion:
    return random(BITS)


@torch.no_grad()
def test_elbo_averages_over_all_masks(model: MaskedDiffusion) -> None:
    x = ALL.reshape(8, 1, 1, 3).to(torch.uint8)
    draws = model.elbo(x.repeat(4000, 1, 1, 1)).reshape(4000, 8)
    error = (draws.mean(0) - bound_over_masks(model)).abs() / (draws.std(0) / 4000**0.5)
    assert error.max() < 4.5  # standard errors, 8 of them


@torch.no_grad()
def test_bound_is_that_over_all_orders(model: MaskedDiffusion) -> None:
    """The mean over orders of the sum of log p(next | those before): an autoregressive model of no order."""
    bound = torch.zeros(8, dtype=torch.float64)
    for order in itertools.permutations(range(3)):
        for place in range(3):
            bound += conditionals(model, ALL, tuple(order[place:]))[:, order[place]] / 6
    torch.testing.assert_close(bound_over_masks(model), bound)


@torch.no_grad()
@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=["linear", "cosine"])
def test_bound_is_the_papers_integral_over_time(model: MaskedDiffusion, schedule: Linear | Cosine) -> None:
    """Equation 10 by quadrature in t, every mask weighted by its probability."""
    nodes, weights = np.polynomial.legendre.leggauss(40)
    t, w = torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)
    bound = torch.zeros(8, dtype=torch.float64)
    for k in (1, 2, 3):
        alpha = schedule.alpha(t)
        share = (w * schedule.weight(t) * (1 - alpha) ** k * alpha ** (3 - k)).sum()
        for masked in subsets(k):
            bound += share * conditionals(model, ALL, masked)[:, masked].sum(1)
    torch.testing.assert_close(bound_over_masks(model), bound)


@torch.no_grad()
def test_bounds_weigh_at_most_one(model: MaskedDiffusion) -> None:
    total = bound_over_masks(model).logsumexp(0)
    assert total < -1e-4  # strictly: the orders of a random network disagree


@pytest.mark.parametrize("space", [Space.tokens(7, vocabulary=5), Space.levels((3, 8, 8), 17), Space.binary((1, 9, 5))])
def test_untrained_says_d_log_k(space: Space) -> None:
    model = MaskedDiffusion(space, MaskedDiffusion.Config(width=8))
    x = torch.randint(space.values or 0, (3, *space.shape)).to(space.dtype)
    expected = torch.full((3,), -space.dim * math.log(space.values or 0))
    torch.testing.assert_close(model.elbo(x), expected)
    torch.testing.assert_close(model.loss(x), -expected / space.dim)


def density_over_orders(model: MaskedDiffusion) -> Tensor:
    """p of each of the 8 images, where one position is revealed at a time: the mean over orders of the products."""
    p = torch.zeros(8, dtype=torch.float64)
    for order in itertools.permutations(range(3)):
        p += sum(conditionals(model, ALL, tuple(order[place:]))[:, order[place]] for place in range(3)).exp() / 6  # type: ignore[union-attr]
    return p


def chi_square(model: MaskedDiffusion, p: Tensor, n: int = 4000) -> float:
    x = model.sample(n, seed=0).reshape(n, 3).long()
    counts = (x * torch.tensor([4, 2, 1])).sum(1).bincount(minlength=8).double()
    return float(((counts - n * p) ** 2 / (n * p)).sum())


@torch.no_grad()
@pytest.mark.parametrize("steps", [3, 64])
def test_in_as_many_steps_as_values_samples_follow_the_density_that_the_bound_is_of(steps: int) -> None:
    model = random(Space.binary((1, 1, 3)), sampling_steps=steps)
    p = density_over_orders(model)
    assert p.sum().item() == pytest.approx(1)
    assert (bound_over_masks(model) <= p.log()).all()
    assert chi_square(model, p) < 26  # 7 degrees of freedom, false alarm 0.05 %
    assert len(list(model.trajectory(2, seed=0))) == 3


@torch.no_grad()
def test_in_one_step_the_values_are_independent() -> None:
    """Each by its prediction of a picture that is all masks: another law than the bound's."""
    model = random(Space.binary((1, 1, 3)), sampling_steps=1)
    apart = conditionals(model, ALL, (0, 1, 2)).sum(1).exp()
    assert chi_square(model, apart) < 26  # 7 degrees of freedom, false alarm 0.05 %
    assert chi_square(model, density_over_orders(model)) > 100


def test_steps_may_be_chosen_at_sampling() -> None:
    model = random(Space.binary((1, 1, 3)), sampling_steps=1)
    assert len(list(dgm.trajectory(model, 2, sampling_steps=2))) == 2
    assert len(list(dgm.trajectory(model, 2))) == 1
    with pytest.raises(Unsupported, match="has no option solver"):
        dgm.sample(model, 2, sampling_steps=2, solver="heun")


@torch.no_grad()
@pytest.mark.parametrize("schedule", [Linear(), Cosine()], ids=lambda s: type(s).__name__.lower())
def test_as_many_values_are_unmasked_in_a_step_as_the_schedule_says(schedule: Linear | Cosine) -> None:
    """Kills: another schedule than the configured one."""
    name, n, dim, steps = type(schedule).__name__.lower(), 2000, 8, 4
    model = random(Space.tokens(dim, vocabulary=2), schedule=name, sampling_steps=steps)
    model.logits = lambda z, y, scale: torch.zeros(*z.shape, 2)  # type: ignore[method-assign]
    found = torch.stack([(z != model.mask).double().mean() for z, _ in model.states(n, None, 0)])
    expected = schedule.alpha(torch.linspace(1, 0, steps + 1, dtype=torch.float64)[1:])
    torch.testing.assert_close(found, expected, rtol=0, atol=5 * 0.5 / math.sqrt(n * dim))


def test_transformer_and_labels() -> None:
    model, x = random(Space.tokens(3, vocabulary=4), Space.categories(2)), torch.tensor([[0, 3, 1]])
    z = torch.full((1, 3), model.mask)
    one, other = (model.network(z, torch.tensor([y])) for y in (0, 1))
    assert (one - other).abs().min() > 1e-9
    with pytest.raises(Unsupported):
        model.elbo(x)
    with pytest.raises(BadInput):
        model.elbo(x, torch.tensor([2]))


@torch.no_grad()
def test_numbers_of_masked_positions_are_spread_over_the_batch_and_weighed() -> None:
    """Each k of 1 … D as often as the others, and D / k of the sum over what is masked, of the masked alone."""
    space = Space.tokens(5, vocabulary=4)
    model = random(space)
    x, seen = torch.randint(4, (50, 5)), []
    model.network.register_forward_pre_hook(lambda network, given: seen.append(given[0]))
    bound = model.elbo(x)
    masked = seen[0] == model.mask
    assert masked.sum(1).bincount(minlength=6).tolist() == [0, 10, 10, 10, 10, 10]
    log_p = model.network(seen[0], None).log_softmax(-1).gather(-1, x[..., None])[..., 0]
    expected = 5 / masked.sum(1) * (log_p * masked).sum(1)
    torch.testing.assert_close(bound, expected)
    assert torch.equal(seen[0][~masked], x[~masked])


@torch.no_grad()
def test_networks_read_the_share_that_is_masked() -> None:
    """An image's channels stand beside one another, embedded, and its logits come back to their places."""
    space = Space.levels((2, 3, 4), 5)
    net = random(space, Space.categories(3)).network
    z, y = torch.randint(6, (2, 24)), torch.tensor([2, 0])
    share = (z == 5).float().mean(1)
    condition = net.conditioning(share, y).vector
    pixels = torch.stack([net.embedding.weight[z.view(2, 2, 3, 4)[:, c]] for c in range(2)], 1)
    logits = net.body(pixels.permute(0, 1, 4, 2, 3).reshape(2, 8, 3, 4), condition)
    expected = torch.stack([logits[:, 5 * c : 5 * c + 5].permute(0, 2, 3, 1) for c in range(2)], 1).reshape(2, 24, 5)
    torch.testing.assert_close(net(z, y), expected)
    words = random(Space.tokens(6, vocabulary=5), Space.categories(3)).network
    z = torch.randint(6, (2, 6))
    expected = words.body(z, words.conditioning((z == 5).float().mean(1), y).vector)
    torch.testing.assert_close(words(z, y), expected)
    assert (words.body.embedding.num_embeddings, words.body.head.out_features) == (6, 5)


@torch.no_grad()
def test_an_example_alone_has_every_number_of_masked_positions() -> None:
    """Kills: numbers that are spread over the batch from the same start each time."""
    model, seen = random(Space.tokens(3, vocabulary=4)), set()
    model.network.register_forward_pre_hook(lambda network, given: seen.add(int((given[0] == model.mask).sum())))
    for _ in range(40):  # none of a third's chance is missed but once in ten million seeds
        model.elbo(torch.zeros(1, 3, dtype=torch.long))
    assert seen == {1, 2, 3}


def test_guidance_multiplies_the_odds_of_the_condition() -> None:
    """p ~ p(x|y)^w p(x)^(1-w), of one position. Kills: w - 1 for w, the two swapped."""
    space = Space.tokens(1, vocabulary=4)
    model = random(space, Space.categories(3), condition_dropout=0.5)
    with torch.no_grad():
        z = torch.full((1, 1), model.mask)
        given, free = (model.network(z, y).softmax(-1)[0, 0] for y in (torch.tensor([1]), None))
    expected = given**2.5 * free**-1.5
    x = dgm.sample(model, 20_000, condition=1, guidance=2.5)
    found = x[:, 0].bincount(minlength=4) / 20_000
    # five standard errors of a share of 20,000 samples are at most 0.018
    torch.testing.assert_close(found.double(), expected / expected.sum(), rtol=0, atol=0.018)
    assert float((expected / expected.sum() - given).abs().max()) > 0.05  # above the tolerance
    assert torch.equal(dgm.sample(model, 8, condition=1, guidance=1.0), dgm.sample(model, 8, condition=1))
    free = dgm.sample(model, 200, condition=1, guidance=0.0)  # which no condition has a part in
    assert torch.equal(free, dgm.sample(model, 200, condition=0, guidance=0.0))
    assert not torch.equal(free, dgm.sample(model, 200, condition=1))
    with pytest.raises(Unsupported, match="condition-dropout"):
        dgm.sample(random(space, Space.categories(3)), 1, condition=1, guidance=2.0)
    with pytest.raises(Unsupported, match="by a scale alone"):
        dgm.sample(model, 1, condition=1, guidance=dgm.Guidance(scale=2.0, interval=(0.2, 0.8)))


@torch.no_grad()
def test_training_hides_conditions_and_the_bound_does_not() -> None:
    space = Space.tokens(3, vocabulary=4)
    model = random(space, Space.categories(3), condition_dropout=1.0)
    x, labels = torch.randint(4, (6, 3)), (torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([1, 2, 0, 1, 2, 0]))
    losses = [drawn(lambda y=y: model.loss(x, y)) for y in labels]
    assert torch.equal(*losses)
    bounds = [drawn(lambda y=y: model.elbo(x, y)) for y in labels]
    assert not torch.isclose(*bounds).any()


def drawn(work: Callable[[], Tensor]) -> Tensor:
    torch.manual_seed(3)
    return work()


def test_no_more_positions_are_masked_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A uniform number below 1 is rounded to 1 in float32. Kills: dim + 1 positions."""
    model, x = MaskedDiffusion(Space.binary((6,)), MaskedDiffusion.Config(width=8)), torch.ones(4, 6, dtype=torch.uint8)
    counts = list[Tensor]()
    monkeypatch.setattr(module, "stratified", lambda n, device: torch.tensor([0.0, 0.5, 0.99, 1.0]))
    monkeypatch.setattr(module, "mask_positions", lambda k, dim: counts.append(k) or torch.ones(len(k), dim).bool())
    model.elbo(x)
    assert counts[0].tolist() == [1, 4, 6, 6]
