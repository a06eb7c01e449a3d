"""A bijection of all small images, whose probabilities are those of the parts of the code; rounding has a gradient."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from dgm.contracts import perturbed
from dgm.models.flow.integer_flow import IntegerCoupling, IntegerFlow, moved
from dgm.space import Space

SPACES = [
    Space.levels((1, 8, 8), 256),
    Space.levels((3, 8, 4), 17),
    Space.levels((2, 3, 5), 256),
    Space.levels((7,), 256),
    Space.levels((4, 5), 3),
    Space.binary((1, 6, 6)),
]


def flow(space: Space, condition: Space | None = None, *, strong: float = 30.0) -> IntegerFlow:
    """A flow whose shifts wrap around."""
    torch.manual_seed(0)
    found = perturbed(IntegerFlow(space, IntegerFlow.Config(layers=5, hidden=8), condition))
    with torch.no_grad():
        for coupling in found.modules():
            if isinstance(coupling, IntegerCoupling):
                for parameter in list(coupling.network.parameters())[-2:]:
                    parameter.copy_(strong * torch.randn(parameter.shape))
    return found


@pytest.mark.parametrize("strong", [30.0, 1e6])
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_decode_inverts_encode_to_the_integer(space: Space, strong: float) -> None:
    """Kills: a shift that is not whole after its gradient is attached, one beyond float32's integers, another order."""
    model = flow(space, strong=strong)
    x = torch.randint(space.values or 0, (50, *space.shape)).to(space.dtype)
    z = model.encode(x)
    assert (z != x).double().mean() > 0.2
    assert torch.equal(model.decode(z), x)
    assert torch.equal(model.encode(model.decode(x)), x)


@pytest.mark.parametrize(
    "space", [Space.levels((1, 2, 2), 4), Space.levels((2, 2, 1), 3), Space.levels((3,), 5)], ids=str
)
def test_all_images_have_their_own_code_and_the_probabilities_sum_to_one(space: Space) -> None:
    model = flow(space)
    x = torch.tensor(list(itertools.product(range(space.values or 0), repeat=space.dim))).to(space.dtype)
    x = x.reshape(-1, *space.shape)
    with torch.no_grad():
        assert len(model.encode(x).unique(dim=0)) == len(x)
        assert model.log_prob(x).double().exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_the_probability_is_that_of_the_parts() -> None:
    """Half of 4 channels at 4 x 4, and 8 at 2 x 2, the last first, each observed given the parts before it alone."""
    space = Space.levels((1, 8, 8), 256)
    model = flow(space)
    x = torch.randint(256, (3, 1, 8, 8), dtype=torch.uint8)
    with torch.no_grad():
        (last, of_last), (first, of_first) = model.conditionals(x)
        assert (last.shape[1:], first.shape[1:]) == ((8, 2, 2), (2, 4, 4))
        expected = sum(
            model.observed.log_prob(outputs, part).sum((1, 2, 3))
            for part, outputs in ((last, of_last), (first, of_first))
        )
        torch.testing.assert_close(model.log_prob(x), expected)
        given = []
        again = model.build(lambda outputs: (given.append(outputs), (last, first)[len(given) - 1])[1], 3)
    assert torch.equal(again, x)
    torch.testing.assert_close(given, [of_last, of_first])


def test_a_code_has_its_parts_in_the_places_of_the_squeeze() -> None:
    """Without shifts the code is the image."""
    space = Space.levels((2, 8, 8), 256)
    model = IntegerFlow(space, IntegerFlow.Config(resolutions=3))
    x = torch.randint(256, (3, 2, 8, 8), dtype=torch.uint8)
    assert len(model.resolutions) == 3
    assert torch.equal(model.encode(x), x)


def test_a_coupling_is_the_papers_modulo_k() -> None:
    class Says(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.atanh(x.roll(1, 1) * 0.99) * 30

    coupling = IntegerCoupling(torch.tensor([False, True]), Says(), 11)
    x = torch.tensor([[0.0, 3.0], [10.0, 3.0], [7.0, 9.0]])
    # t = 5.5 · 0.99 (2 x_0 / 10 - 1), rounded: -5, 5, 2
    assert coupling(x)[:, 1].tolist() == [(3 - 5) % 11, (3 + 5) % 11, (9 + 2) % 11]
    assert coupling(x)[:, 0].tolist() == [0, 10, 7]


def test_rounding_has_the_gradient_of_the_identity() -> None:
    """The straight-through estimator: dz/dt = 1 - b."""
    coupling = IntegerCoupling(torch.tensor([False, True]), nn.Linear(2, 2), 256)
    assert not any(parameter.any() for parameter in coupling.network.parameters())
    z = coupling(torch.tensor([[3.0, 200.0]]))
    z.sum().backward()
    # tanh(0) = 0, whose slope is 1
    (bias,) = (p.grad for name, p in coupling.network.named_parameters() if name == "bias")
    assert bias is not None
    assert bias.tolist() == pytest.approx([0, 128 / 30])


def test_couplings_shift_every_channel_in_turn() -> None:
    masks = torch.stack([moved((8, 2, 2), k)[:, 0, 0] for k in range(4)])
    assert masks.sum(0).tolist() == [1] * 8
    assert masks.sum(1).tolist() == [2] * 4
    assert torch.equal(moved((2, 3, 3), 0), ~moved((2, 3, 3), 1))


def test_samples_are_decoded_draws_of_the_prior() -> None:
    """Of an untrained flow with a narrow prior. Kills: the second uniform left out, streams of another sample."""
    space = Space.levels((1, 4, 4), 256)
    model = IntegerFlow(space, IntegerFlow.Config(resolutions=1, components=1))
    with torch.no_grad():
        model.last.copy_(torch.tensor([0.0, 0.25, -1.0]).expand_as(model.last))
    x = model.sample(2000, seed=0).double()
    # mu of a logistic, and pi / sqrt(3) s, in levels; a level's own width adds 1/12
    assert x.mean().item() == pytest.approx(127.5 * 1.25, abs=0.3)
    assert x.std().item() == pytest.approx(12.75 * math.exp(-1) * math.pi / math.sqrt(3), abs=0.3)


@pytest.mark.parametrize("shape", [(6,), (1, 4, 4)])
def test_a_label_counts_in_the_shifts_and_in_the_priors(shape: tuple[int, ...]) -> None:
    model = flow(Space.levels(shape, 17), Space.categories(3))
    with torch.no_grad():
        model.last_of_condition.weight.zero_()  # type: ignore[union-attr]
    x = torch.randint(17, (1, *shape), dtype=torch.uint8).expand(2, *shape)
    y = torch.tensor([0, 2])
    assert (model.encode(x, y)[0] != model.encode(x, y)[1]).any()
    assert torch.equal(model.decode(model.encode(x, y), y), x)
    if len(shape) == 3:
        outputs = model.conditionals(x, y)[1][1]
        assert (outputs[0] - outputs[1]).abs().max() > 1e-3


@pytest.mark.parametrize("condition", [None, Space.categories(3)], ids=str)
@pytest.mark.parametrize(
    "space", [Space.levels((2, 4, 4), 17), Space.levels((5,), 200), Space.binary((1, 4, 4))], ids=str
)
def test_the_first_priors_are_independent_and_like_the_batch(space: Space, condition: Space | None) -> None:
    """Of each dimension of the last part, and of each channel of a part that is factored out, at every place, and for
    every condition; untrained couplings change nothing. Kills: priors in another order, a weight that is not 0.
    """
    torch.manual_seed(0)
    model = IntegerFlow(space, IntegerFlow.Config(layers=2, hidden=8), condition).eval()
    x = torch.randint(space.values or 0, (40, *space.shape)).to(space.dtype)
    y = None if condition is None else torch.randint(3, (40,))
    model.initialise(x, y)
    fit, log_prob = model.observed.fit, model.observed.log_prob
    parts = [x.flatten(1).float()]
    if len(space.shape) == 3:
        z = nn.functional.pixel_unshuffle(x.float(), 2)
        half = z.shape[1] // 2
        rest = nn.functional.pixel_unshuffle(z[:, half:], 2).flatten(1)
        parts = [rest, *(z[:, c].reshape(-1, 1) for c in range(half))]
    expected = sum(log_prob(fit(part), part).sum(1).view(40, -1).sum(1) for part in parts)
    torch.testing.assert_close(model.log_prob(x, y), expected, rtol=1e-4, atol=1e-3)
    before = model.log_prob(x, y)
    model.initialise(x[:5], None if y is None else y[:5])
    assert torch.equal(model.log_prob(x, y), before)


def test_a_prior_reads_integers_scaled_to_one() -> None:
    """2 z / (K - 1) - 1. Kills: integers as they are."""
    model = flow(Space.levels((1, 4, 4), 17))
    z = torch.randint(17, (3, 2, 2, 2)).float()
    (prior,) = model.priors
    expected = prior(z / 8 - 1).view(3, 2, -1, 2, 2).movedim(2, -1)
    torch.testing.assert_close(model.outputs(1, z, None), expected)
