"""Image GPT and the character-level one: their losses' sign and unit, their start, and what they learn."""

from __future__ import annotations

import math

import pytest
import torch

import dgm
from dgm import contracts
from dgm.likelihood import log_likelihood
from dgm.protocols import Model
from dgm.registry import create
from dgm.space import Space

WINDOWS = Space.tokens(8, 4)
SMALL = {"width": 16, "layers": 1, "heads": 2}


@pytest.mark.parametrize(("name", "unit"), [("image_gpt", 1), ("char_gpt", 8)])
def test_the_loss_is_minus_log_p_of_a_picture_or_a_character(name: str, unit: int) -> None:
    model = contracts.perturbed(create(name, WINDOWS, **SMALL))
    x = contracts.random_examples(WINDOWS)
    assert torch.allclose(model.loss(x), -model.log_prob(x) / unit)
    assert (model.log_prob(x) < 0).all()


@pytest.mark.parametrize("name", ["image_gpt", "char_gpt"])
def test_untrained_all_values_are_alike(name: str) -> None:
    likelihood = log_likelihood(create(name, WINDOWS, **SMALL), contracts.random_examples(WINDOWS))
    assert torch.allclose(likelihood.bits_per_dim, torch.full((8,), 2.0))
    assert math.isclose(likelihood.perplexity.item(), 4, rel_tol=1e-5)


def test_a_long_text_goes_on_window_by_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each window begins with the second half of the one before and has noise of its own.

    Kills: the first half in its place; one seed for all windows, which then end alike where all values are alike.
    """
    from dgm import sampling

    seen, draw = [], sampling.draw_states_of
    monkeypatch.setattr(sampling, "draw_states_of", lambda *args, **how: seen.append(how) or draw(*args, **how))
    text = dgm.sample(create("char_gpt", Space.tokens(8, 50), **SMALL), 200, length=15)
    assert text.shape == (200, 15)
    for how, end in zip([how for how in seen if how.get("observed")], (8, 12), strict=True):
        assert torch.equal(how["given"][:, : how["observed"]], text[:, end - 4 : end])
        assert (text[:, end - 4 : end - 1] == text[:, end : end + 3]).double().mean() < 0.1  # 1 / 50 by chance


def trained(model: Model, x: torch.Tensor, y: torch.Tensor | None = None) -> Model:
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(400):
        optimiser.zero_grad()
        model.loss(x, y).mean().backward()
        optimiser.step()
    return model.eval()


@pytest.mark.parametrize("name", ["image_gpt", "char_gpt"])
def test_a_text_that_repeats_itself_costs_its_first_character_alone(name: str) -> None:
    """Of a period of four, begun anywhere, the first character is one of four and the others follow."""
    torch.manual_seed(0)
    x = torch.arange(12).remainder(4).unfold(0, 8, 1)[:4]
    model = trained(create(name, WINDOWS, **SMALL), x)
    assert torch.allclose(model.log_prob(x), torch.full((4,), -math.log(4)), atol=0.05)
    assert all((row == x).all(1).any() for row in model.sample(16, seed=0))


def test_a_label_chooses_what_begins() -> None:
    torch.manual_seed(0)
    x, y = torch.arange(12).remainder(4).unfold(0, 8, 1)[:4], torch.arange(4)
    model = trained(create("char_gpt", WINDOWS, Space.categories(4), **SMALL), x, y)
    assert model.log_prob(x, y).min() > -0.05
    assert torch.equal(model.sample(4, y, seed=0), x)


def test_an_image_has_learned_positions_besides_the_rotary_ones_and_a_text_has_not() -> None:
    image, text = create("image_gpt", Space.binary((1, 2, 2))), create("char_gpt", Space.tokens(4, 5))
    assert image.network.positions.weight.shape[0] == 4  # type: ignore[attr-defined]
    assert text.network.positions is None  # type: ignore[attr-defined]
