"""What every autoregressive model of images owes on more than one channel, and the receptive fields of two of them."""

from __future__ import annotations

import pytest
import torch

from dgm import contracts
from dgm.models.autoregressive.fvsbn import FVSBN
from dgm.models.autoregressive.gated_pixelcnn import GatedPixelCNN
from dgm.models.autoregressive.pixelcnn import PixelCNN
from dgm.models.table import MODELS
from dgm.networks.raster import from_sequence, raster_order, to_sequence
from dgm.protocols import Autoregressive, Model
from dgm.registry import create, model_class
from dgm.samplers import sequential
from dgm.space import Space

COLOUR = Space.levels((3, 3, 4), 5)
NAMES = [
    name
    for name, cls in ((name, model_class(name)) for name in MODELS)
    if issubclass(cls, Autoregressive) and "levels" in getattr(cls, "spaces", {"levels"})
]


def colour_model(name: str) -> Model:
    return contracts.perturbed(create(name, COLOUR))


@pytest.mark.parametrize("name", NAMES)
def test_red_comes_before_green_before_blue(name: str) -> None:
    """Kills: a mask that shows a channel itself, or the channels in another order."""
    result = contracts.run(contracts.conditionals_are_autoregressive, colour_model(name))
    assert result.passed, result.detail


@pytest.mark.parametrize("name", NAMES)
def test_green_sees_red_and_blue_sees_both(name: str) -> None:
    model = colour_model(name)
    x = torch.randint(5, (8, *COLOUR.shape)).to(COLOUR.dtype)
    for seen in (0, 1):
        other = x.clone()
        other[:, seen, 1, 1] = (other[:, seen, 1, 1] + 2) % 5
        with torch.no_grad():
            change = (model.conditionals(other) - model.conditionals(x)).abs().amax((0, 4))[:, 1, 1]
        assert change[: seen + 1].max() == 0
        assert change[seen + 1 :].min() > 0


def test_components_of_an_untrained_fvsbn_have_gradients_of_their_own() -> None:
    """From equal ones they would stay equal in all of the training. Kills: biases of zero."""
    fvsbn = FVSBN(COLOUR, FVSBN.Config(components=3))
    fvsbn.loss(torch.randint(5, (16, *COLOUR.shape)).to(COLOUR.dtype)).sum().backward()
    mu = fvsbn.bias.grad.view(COLOUR.dim, 3, 3)[:, 1]  # type: ignore[union-attr]
    assert (mu.diff(dim=1).abs() > 1e-4).all()


@pytest.mark.parametrize("name", NAMES)
def test_steps_are_the_conditionals_in_colour(name: str) -> None:
    result = contracts.run(contracts.sequential_conditionals_agree, colour_model(name))
    assert result.passed, result.detail


@pytest.mark.parametrize("name", NAMES)
def test_cached_and_naive_samples_are_the_same(name: str) -> None:
    model = colour_model(name)
    cached, naive = (
        list(sequential.trajectory(model, 3, seed=2, cached=cached))[-1].x.clone() for cached in (True, False)
    )
    assert (cached == naive).float().mean() > 0.99  # the two round differently, and a draw at the edge may tip over


@pytest.mark.parametrize("name", NAMES)
def test_what_is_given_stays(name: str) -> None:
    model = colour_model(name)
    given = torch.randint(5, (1, *COLOUR.shape)).to(COLOUR.dtype)
    x = list(sequential.trajectory(model, 4, seed=0, given=given, observed=20))[-1].x
    s = to_sequence(x, COLOUR)
    assert torch.equal(s[:, :20], to_sequence(given, COLOUR)[:, :20].expand(4, -1))
    assert (s[:, 20:] != s[:1, 20:]).any(), "all completions are alike"


def test_completions_follow_the_conditional() -> None:
    """Given the first two pixels, the others have the frequencies of p(x | x_1, x_2)."""
    space, n = Space.binary((1, 2, 2)), 4000
    model = contracts.perturbed(create("made", space, hidden=16))
    given = torch.tensor([[[[1, 0], [0, 0]]]], dtype=torch.uint8)
    x = list(sequential.trajectory(model, n, seed=0, given=given, observed=2))[-1].x.flatten(1)
    everything = contracts.all_examples(space)
    p = model.log_prob(everything).exp().detach()
    p = p * ((everything.flatten(1)[:, :2] == torch.tensor([1, 0])).all(1))
    for outcome, expected in zip(everything.flatten(1), p / p.sum(), strict=True):
        seen = (x == outcome).all(1).float().mean()
        assert abs(seen - expected) < 5 * (expected * (1 - expected) / n) ** 0.5 + 1e-9


@pytest.mark.parametrize("shape", [(5,), (1, 2, 3), (3, 2, 2)])
def test_raster_order_goes_there_and_back(shape: tuple[int, ...]) -> None:
    space = Space.binary(shape)
    x = torch.randn(2, *shape)
    assert torch.equal(from_sequence(to_sequence(x, space), space), x)
    assert torch.equal(x.flatten(1)[:, raster_order(space)], to_sequence(x, space))


def seen_by(model: Model, row: int, column: int) -> torch.Tensor:
    """Which pixels the conditional of one pixel depends on, (H, W), by autodiff through the network's inputs."""
    _, height, width = model.space.shape
    x = torch.randn(1, 1, height, width, dtype=torch.float32, requires_grad=True)
    model.conditionals(x)[0, 0, row, column].sum().backward()
    assert x.grad is not None
    return x.grad[0, 0] != 0


def earlier(height: int, width: int, row: int, column: int) -> torch.Tensor:
    return (torch.arange(height * width) < row * width + column).view(height, width)


def test_the_pixelcnn_has_its_blind_spot_and_the_gated_one_has_none() -> None:
    """In PixelCNN a row above widens the view to the right by the kernel's reach a layer; the first reaches three."""
    space = Space.continuous((1, 9, 13))
    plain = seen_by(contracts.perturbed(PixelCNN(space, PixelCNN.Config(width=8, layers=12))), 7, 4)
    gated = seen_by(contracts.perturbed(GatedPixelCNN(space, GatedPixelCNN.Config(width=8, layers=12))), 7, 4)
    past = earlier(9, 13, 7, 4)
    assert torch.equal(gated, past)
    row, column = torch.meshgrid(torch.arange(9), torch.arange(13), indexing="ij")
    up, right = 7 - row, column - 4
    # each layer goes up at least one row for one column to the right; the 7 x 7 layer may go up one and right three
    assert torch.equal(plain, past & (right <= up + 2))


def test_temperature_zero_is_the_likeliest_and_top_one_too() -> None:
    space = Space.tokens(4, 5)
    model = contracts.perturbed(create("made", space, hidden=32))
    greedy = torch.zeros(1, 4, dtype=torch.long)
    for d in range(4):
        greedy[:, d] = model.conditionals(greedy)[:, d].argmax(-1)
    for decoding in (
        sequential.DecodingOptions(temperature=0.0),
        sequential.DecodingOptions(top_k=1),
        sequential.DecodingOptions(top_p=1e-9),
    ):
        x = list(sequential.trajectory(model, 3, seed=0, decoding=decoding))[-1].x
        assert torch.equal(x, greedy.expand(3, -1))


def test_the_nucleus_by_hand() -> None:
    logits = torch.tensor([[0.5, 0.1, 0.3, 0.1]]).log()
    kept = sequential.truncated(logits, sequential.DecodingOptions(top_p=0.6)).isfinite()
    assert kept.tolist() == [[True, False, True, False]]
    kept = sequential.truncated(logits, sequential.DecodingOptions(top_k=1, top_p=0.99)).isfinite()
    assert kept.tolist() == [[True, False, False, False]]
    halves = sequential.truncated(torch.zeros(1, 2), sequential.DecodingOptions(top_p=0.5)).isfinite()
    assert halves.sum() == 1  # the first has all of p already
    kept = sequential.truncated(torch.tensor([[0.0, 3.0, 1.0, 2.0]]), sequential.DecodingOptions(top_k=2))
    assert kept.tolist() == [[-torch.inf, 3.0, -torch.inf, 2.0]]


def test_a_state_a_dimension_counts_from_one() -> None:
    model = contracts.perturbed(create("made", Space.tokens(4, 5), hidden=32))
    steps = [(state.sampling_step, state.sampling_steps) for state in sequential.trajectory(model, 2, seed=0)]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("temperature", [0.5, 2.0])
@pytest.mark.parametrize("space", [Space.binary((1,)), Space.tokens(1, 6)], ids=str)
def test_temperature_is_a_power_of_the_probability(space: Space, temperature: float) -> None:
    observed = create("made", space).observed
    outputs = torch.randn(1, 1, observed.outputs)
    x = torch.arange(space.values or 0).to(space.dtype)[:, None]
    log_p = observed.log_prob(outputs.expand(len(x), -1, -1), x)[:, 0]
    tempered = observed.log_prob(observed.tempered(outputs, temperature).expand(len(x), -1, -1), x)[:, 0]
    assert torch.allclose(tempered, (log_p / temperature).log_softmax(0), atol=1e-5)


def test_samples_can_be_trained_on() -> None:
    model = create("image_gpt", Space.tokens(6, 4), width=8, layers=1)
    model.loss(model.sample(4, seed=0)).mean().backward()
    assert model.network.head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_samples_at_a_temperature_follow_that_power(temperature: float) -> None:
    """Of one value: P(x)^(1/T), normalised."""
    model, n = contracts.perturbed(create("made", Space.tokens(1, 4), hidden=8)), 4000
    with torch.no_grad():
        model.output.bias.copy_(torch.tensor([1.5, 0.0, -1.0, 0.5]))
        p = (model.log_prob(torch.arange(4)[:, None]) / temperature).softmax(0)
        x = list(sequential.trajectory(model, n, seed=0, decoding=sequential.DecodingOptions(temperature=temperature)))[
            -1
        ].x
    seen = x.flatten().bincount(minlength=4) / n
    assert ((seen - p).abs() < 5 * (p * (1 - p) / n).sqrt()).all()
