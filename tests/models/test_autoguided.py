"""Guidance by a weak model that is saved with the model: beside the guidance of a single call, and by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import dgm
from dgm import contracts, registry
from dgm.contracts import Outcome, perturbed
from dgm.errors import BadInput, Unsupported
from dgm.models.autoguided import Autoguided
from dgm.models.two_stage import TwoStage
from dgm.protocols import Model
from dgm.registry import create
from dgm.space import Space

PLANE, LABELS = Space.continuous((2,)), Space.categories(3)


def ddpm(seed: int, condition: Space | None = None) -> Model:
    torch.manual_seed(seed)
    return perturbed(create("ddpm", PLANE, condition, width=8))


@pytest.mark.parametrize("condition", [None, LABELS])
def test_it_samples_as_the_guidance_of_a_call(condition: Space | None) -> None:
    strong, weak = ddpm(0, condition), ddpm(1, condition)
    for scale in (0.0, 0.5, 2.0):
        ours = dgm.sample(Autoguided.of(strong, weak, scale=scale), 5, seed=3, sampling_steps=5)
        guidance = dgm.Guidance(scale=scale, weak=weak)
        assert torch.allclose(ours, dgm.sample(strong, 5, seed=3, guidance=guidance, sampling_steps=5), atol=1e-5)


def test_a_scale_of_1_is_the_model() -> None:
    strong = ddpm(0)
    assert torch.allclose(
        Autoguided.of(strong, ddpm(1), scale=1.0).sample(5, seed=3), strong.sample(5, seed=3), atol=1e-5
    )


def test_laws_hold_and_it_has_no_likelihood() -> None:
    model = Autoguided.of(ddpm(0, LABELS), ddpm(1, LABELS))
    results = list(contracts.check(model))
    assert not [result for result in results if result.outcome is Outcome.BROKEN]
    assert contracts.run(contracts.predictions_reconstruct_x_t, model).passed
    with pytest.raises(Unsupported, match="not the score of a density"):
        dgm.log_likelihood(model, torch.zeros(2, 2), torch.tensor([0, 1]))


def test_it_is_saved_as_the_prior_of_two_stages(tmp_path: Path) -> None:
    first = perturbed(create("vae", Space.binary((3,)), latent=2, hidden=8))
    model = TwoStage.of(first, Autoguided.of(ddpm(0), ddpm(1)))
    described = registry.describe(model)
    assert registry.title(described) == "ddpm away from ddpm on vae"
    dgm.save(model, tmp_path / "run")
    loaded = dgm.load(tmp_path / "run")
    assert registry.describe(loaded) == described
    assert torch.equal(loaded.sample(5, seed=0), model.sample(5, seed=0))


def test_a_weak_model_that_does_not_fit_is_refused() -> None:
    with pytest.raises(BadInput, match="the weak model is of"):
        Autoguided.of(ddpm(0), create("ddpm", Space.continuous((3,)), width=8))
    with pytest.raises(BadInput, match="on one path"):
        Autoguided.of(ddpm(0), create("flow_matching", PLANE, width=8))
    with pytest.raises(BadInput, match="the weak model is a GMM"):
        Autoguided.of(ddpm(0), create("gmm", PLANE))
