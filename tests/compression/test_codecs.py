"""Codecs: what is pushed is popped, and the length of the code is the likelihood."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor

from dgm.compression.archive import Coder, in_float64
from dgm.compression.bits_back import INTERVALS, Intervals, shift
from dgm.compression.codecs import SequentialCodec, codec_of
from dgm.compression.frequencies import LAST, TABLE, Frequencies, log_interval
from dgm.compression.stack import START, Stack
from dgm.contracts.compression import has_codec
from dgm.contracts.laws import perturbed, small_models
from dgm.errors import BadInput, Unsupported
from dgm.models.table import MODELS
from dgm.models.two_stage import TwoStage
from dgm.protocols import Model
from dgm.registry import create
from dgm.space import Space

IMAGE, TEXT, BINARY = Space.levels((1, 4, 4), 17), Space.tokens(8, 5), Space.binary((1, 4, 4))
SEQUENTIAL = [name for name, spec in MODELS.items() if spec.family == "autoregressive"]
EXACT = [*SEQUENTIAL, "integer_flow"]


def made(name: str, space: Space, **config: object) -> Model:
    torch.manual_seed(1)
    return perturbed(create(name, space, **config))


def examples(space: Space, n: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(space.values or 2, (n, *space.shape), generator=generator).to(space.dtype)


@pytest.mark.parametrize("space", [TEXT, IMAGE], ids=str)
@pytest.mark.parametrize("name", EXACT)
def test_a_code_of_an_exact_model_returns_and_is_as_long_as_its_likelihood_says(name: str, space: Space) -> None:
    try:
        model = made(name, space, **({"hidden": 16, "orders": 3} if name == "orderless_made" else {}))
    except BadInput:
        return  # the model is not of this space
    x = examples(space, 40)
    x.flatten(1)[:, space.dim // 2 :] = 0  # the values that are pushed first: no run of the lowest one is free
    with in_float64(model):
        block = Coder(model, None).encode(x, verify=False)
        assert torch.equal(Coder(model, None).decode(block), x)
        claimed = -float(model.log_prob(x).sum()) / math.log(2)
    # the first order of a block is chosen by bits that no example before it has left
    bits = 32 * (len(block.words) + block.left_out - len(Coder(model, None).codec.initial))
    assert bits == pytest.approx(claimed, rel=1e-3, abs=64)


@torch.no_grad()
def test_the_order_is_paid_by_its_posterior() -> None:
    """The rate is -log p(x) of the average over orders, less than the mean of -log p_k(x) that a drawn order costs."""
    model = made("orderless_made", TEXT, hidden=16, orders=4)
    for parameter in model.parameters():
        parameter.mul_(4)
    x = examples(TEXT, 100)
    with in_float64(model):
        coder = Coder(model, None)
        block = coder.encode(x, verify=False)
        assert torch.equal(coder.decode(block), x)
        claimed = -float(model.log_prob(x).sum()) / math.log(2)
        of_a_drawn_order = -sum(float(model.log_prob_by(k, x).sum()) for k in range(4)) / 4 / math.log(2)
    bits = 32 * (len(block.words) + block.left_out - len(coder.codec.initial))
    assert bits == pytest.approx(claimed, rel=1e-3, abs=64)
    assert of_a_drawn_order > claimed + 200


def test_steps_and_one_pass_give_the_same_frequencies() -> None:
    model = made("pixelcnn", IMAGE)
    with in_float64(model):
        stacks = [Stack(), Stack()]
        for stack, stepwise in zip(stacks, (False, True), strict=True):
            SequentialCodec(model, stepwise=stepwise).push(stack, examples(IMAGE, 5), None)
    assert stacks[0].checksum == stacks[1].checksum
    assert numpy.array_equal(stacks[0].words(), stacks[1].words())


@pytest.mark.parametrize(
    ("name", "config", "space"),
    [
        ("vae", {"latent": 2}, IMAGE),
        ("vae", {"latent": 2}, BINARY),
        ("hierarchical_vae", {"latents": (3, 2)}, IMAGE),
        pytest.param("ladder_vae", {"latents": (3, 2)}, IMAGE, marks=pytest.mark.slow),
        pytest.param("discrete_vae", {"latent": 2, "categories": 3}, BINARY, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_bits_back_costs_the_bound(name: str, config: dict[str, Any], space: Space) -> None:
    """On average, for a trained model: the codes z of all examples together follow the prior, as random bits do."""
    torch.manual_seed(3)
    top = (space.values or 0) - 1
    shade = torch.randint(0, 2, (300, 1, 1, 1)) * top
    x = torch.where(torch.rand(300, *space.shape) < 0.2, top - shade, shade).to(space.dtype)
    model = create(name, space, hidden=32, **config)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        model.loss(x).mean().backward()
        optimizer.step()
    with in_float64(model):
        coder = Coder(model, None)
        block = coder.encode(x, verify=False)
        assert torch.equal(coder.decode(block), x)
        draws = torch.stack([model.elbo(x) for _ in range(50)]) / -math.log(2)
        terms = torch.stack([model.log_weight(x) for _ in range(50)]) / -math.log(2)
    net = 32 * (len(block.words) + block.left_out - len(coder.codec.initial))
    error = math.sqrt(float(terms.var(0).sum()))  # of the sum of all examples, one draw of z each
    assert abs(net - float(draws.mean(0).sum())) < 4 * error + 64


def test_examples_have_different_codes_where_the_posterior_is_the_prior(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the bits that one code leaves are those that the next is popped from.

    Kills: one order of the values of all examples, and the same order for both latents.
    """
    model = made("discrete_vae", BINARY, latent=2, categories=3)
    for parameter in (*model.encoder.parameters(), model.prior):
        parameter.data.zero_()
    codes, x = [], examples(BINARY, 60)
    with in_float64(model):
        coder = Coder(model, None)
        plain = coder.codec.given.push
        monkeypatch.setattr(
            coder.codec.given, "push", lambda s, x, z, y: (codes.append(tuple(z[0])), plain(s, x, z, y))
        )
        assert torch.equal(coder.decode(coder.encode(x, verify=False)), x)
    assert len({tuple(map(int, code)) for code in codes}) == 9


UNDER_Y: dict[str, Callable[[Any, Tensor, Tensor], Any]] = {
    "vae": lambda codec, x, y: codec.posterior(x, y).table,
    "discrete_vae": lambda codec, x, y: codec.posterior(x, y, codec.order(0)).table,
    "hierarchical_vae": lambda codec, x, y: codec.prior(1, torch.zeros(1, codec.latents[0]).double(), y).table,
    "orderless_made": lambda codec, x, y: codec.posterior(x, y),
    "masked_diffusion": lambda codec, x, y: codec.frequencies(torch.full((1, 16), codec.model.mask), y, 0).table,
    "vq_vae": lambda codec, x, y: codec.given.outputs(torch.zeros(1, *codec.first_stage.latent_space.shape).long(), y),
}


@pytest.mark.parametrize("name", UNDER_Y)
def test_each_part_of_a_code_is_of_the_condition(name: str) -> None:
    """Else it comes back all the same, and is longer. Kills: a posterior, prior or decoder without its condition."""
    model = perturbed(create(name, BINARY, Space.categories(2)))
    with in_float64(model), torch.no_grad():
        codec, x = codec_of(model), examples(BINARY, 1)
        first, second = (UNDER_Y[name](codec, x, torch.tensor([y])) for y in range(2))
    assert (first != second).any()


def test_masked_diffusion_costs_its_bound_on_average() -> None:
    model = made("masked_diffusion", TEXT, width=8, layers=1)
    x = examples(TEXT, 100)
    with in_float64(model):
        coder = Coder(model, None)
        block = coder.encode(x)
        draws = torch.stack([model.elbo(x) for _ in range(100)]) / -math.log(2)
        orders = []
        for seed in range(12):
            coder.codec.order = torch.randperm(8, generator=torch.Generator().manual_seed(seed)).tolist()
            orders.append(32 * len(coder.encode(x, verify=False).words))
    spread = torch.tensor(orders, dtype=torch.float64).std() / math.sqrt(len(orders))
    error = math.hypot(float(spread), math.sqrt(float(draws.var(0).sum()) / 100))
    assert abs(sum(orders) / len(orders) - float(draws.mean(0).sum())) < 5 * error + 64
    assert len(block.words) * 32 in orders


@pytest.mark.parametrize(("prior", "label"), [("", None), ("made", None), ("made", 1)])
def test_codes_of_a_codebook_cost_the_bound(prior: str, label: int | None) -> None:
    """Also under a label of the prior's. Kills: codes that are written under none and read under it."""
    model = made("vq_vae", Space.levels((1, 4, 4), 17), codes=6, hidden=16, width=4, blocks=1)
    condition, y = (None, None) if label is None else (Space.categories(2), torch.tensor([label]))
    if prior:
        model = TwoStage.of(model, perturbed(create(prior, model.latent_space, condition, hidden=16)))
    x = examples(IMAGE, 60)
    with in_float64(model):
        coder = Coder(model, y)
        block = coder.encode(x, verify=False)
        assert torch.equal(coder.decode(block), x)
        claims = model.elbo(x, None if y is None else y.expand(60))
        claimed = -float(claims.sum()) / math.log(2)  # the code is no random variable: no draw, no noise
    assert 32 * len(block.words) == pytest.approx(claimed, rel=1e-3, abs=64)


def test_the_first_values_of_equally_probable_ones_are_not_free() -> None:
    """Such as the silence at the end of a sound."""
    stack, counts = Stack(), torch.full((2000,), 6)
    stack.push_uniform(torch.zeros(2000, dtype=torch.int64), counts)
    assert 32 * (len(stack.words()) - len(START)) == pytest.approx(2000 * math.log2(6), abs=32)
    assert torch.equal(stack.pop_uniform(counts), torch.zeros(2000, dtype=torch.int64))
    assert numpy.array_equal(stack.words(), START)


def test_frequencies_are_probabilities_to_a_64th_of_a_nat() -> None:
    assert torch.from_numpy(TABLE).double() == pytest.approx(
        (2.0**24 * torch.exp(-torch.arange(LAST + 1, dtype=torch.float64) / 64)).round().clamp_min(1).numpy()
    )
    log_p = torch.randn(1000, 50, dtype=torch.float64).log_softmax(-1)
    table = torch.from_numpy(Frequencies(log_p).table).double()
    lost = (log_p.exp() * (log_p - (table / table.sum(-1, keepdim=True)).log())).sum(-1)
    assert float(lost.mean()) < 1.3 * (1 / 64) ** 2 / 24  # the variance of a rounding error, halved


def test_frequencies_ignore_the_noise_of_floating_point() -> None:
    log_p = torch.randn(2000, 50, dtype=torch.float64).log_softmax(-1)
    noisy = log_p + 1e-13 * torch.randn_like(log_p)
    assert Frequencies(log_p).checksum == Frequencies(noisy).checksum
    assert Frequencies(log_p).checksum != Frequencies(log_p + 1e-2).checksum


def test_the_layout_in_memory_does_not_matter() -> None:
    log_p = torch.randn(30, 20, dtype=torch.float64).log_softmax(-1)
    assert numpy.array_equal(Frequencies(log_p.mT.contiguous().mT).table, Frequencies(log_p).table)
    assert Frequencies(log_p).table.flags.c_contiguous


def test_the_probability_of_intervals_is_that_of_the_normal_distribution() -> None:
    from scipy.stats import norm

    edges = torch.tensor([[-torch.inf, -9.0, -8.9, -0.2, 0.1, 0.3, 8.9, 9.0, torch.inf]], dtype=torch.float64)
    e = edges[0].numpy()
    lower = numpy.where(e[:-1] >= 0, norm.sf(e[:-1]) - norm.sf(e[1:]), norm.cdf(e[1:]) - norm.cdf(e[:-1]))
    assert log_interval(edges)[0].exp().numpy() == pytest.approx(lower, rel=1e-9)


def test_intervals_of_a_latent_variable_are_equally_probable_and_have_their_medians() -> None:
    """Under the normal distribution with the moments of the draws. Kills: a variance, edges about another mean."""
    drawn = torch.randn(1000, 2).double() * torch.tensor([2.0, 0.5]) + torch.tensor([5.0, -1.0])
    of, k = Intervals(drawn), torch.arange(INTERVALS).double().expand(2, -1)
    normal = torch.distributions.Normal(drawn.mean(0)[:, None], drawn.std(0)[:, None])
    torch.testing.assert_close(normal.cdf(of.edges[:, 1:-1]), k[:, 1:] / INTERVALS)
    torch.testing.assert_close(normal.cdf(of.medians), (k + 0.5) / INTERVALS)


def test_the_shifts_of_all_examples_are_independent() -> None:
    """Kills: the shift of the first example for all."""
    u = torch.stack([shift(k, 8) for k in range(500)]) / INTERVALS
    assert (u.mean(0) - 0.5).abs().max() < 5 / (12 * 500) ** 0.5
    assert (12 * ((u[1:] - 0.5) * (u[:-1] - 0.5)).mean()).abs() < 5 / (8 * 499) ** 0.5


@pytest.mark.slow
def test_the_page_has_every_model_with_a_codec() -> None:
    table = Path("docs/compression.md").read_text(encoding="utf-8").partition("\n## Files")[0]
    for name, spec in MODELS.items():
        for _, model in small_models(name, spaces=(Space.levels((1, 2, 2), 3), Space.tokens(3, 3))):
            stated = f"`{name}`" in table or spec.family == "autoregressive"
            assert stated == has_codec(model), name


def test_what_has_no_codec_is_refused_with_one_line() -> None:
    with pytest.raises(Unsupported, match="has no codec"):
        codec_of(create("gan", IMAGE))
    with pytest.raises(Unsupported, match="with this code"):
        codec_of(create("vae", IMAGE, prior="vamp"))
    with pytest.raises(Unsupported, match="density and no probability"):
        codec_of(create("made", Space.continuous((3,))))
