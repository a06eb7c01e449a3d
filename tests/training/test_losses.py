"""Losses that are likelihoods are in the unit that their model states."""

from __future__ import annotations

import pytest
import torch

import dgm
from dgm.likelihood import Kind, kind_of
from dgm.models.table import MODELS
from dgm.registry import model_class


@pytest.mark.parametrize("name", ["made", "nade", "fvsbn", "image_gpt", "char_gpt", "wavenet", "pixelcnn", "realnvp"])
def test_the_loss_is_minus_the_likelihood_in_its_unit(name: str) -> None:
    """In evaluation mode. Kills: a mean over dimensions that does not say so, and a sum that says it is a mean."""
    kinds = getattr(model_class(name), "spaces", {"levels"})
    space = dgm.Space.levels((1, 2, 2), 5) if "levels" in kinds else dgm.Space.continuous((1, 2, 2))
    if not {"levels", "continuous"} & kinds:
        space = dgm.Space.tokens(4, 5)
    model = dgm.create(name, space).eval()
    assert kind_of(model) is Kind.EXACT
    x = torch.zeros(3, *space.shape).to(space.dtype)
    dim = space.dim if getattr(model, "loss_unit", "nats") == "nats a dimension" else 1
    torch.testing.assert_close(model.loss(x), -model.log_prob(x) / dim, rtol=1e-5, atol=1e-6)


def test_units_are_those_that_protocols_knows() -> None:
    stated = {name: getattr(model_class(name), "loss_unit", None) for name in MODELS}
    assert {unit for unit in stated.values() if unit} == {"nats a dimension"}
    assert {"char_gpt", "wavenet", "masked_diffusion", "vdm"} <= {name for name, unit in stated.items() if unit}
