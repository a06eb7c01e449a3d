"""Likelihoods and samples are of the model in evaluation mode, whatever mode it is in when it is asked."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

import dgm
from dgm import contracts
from dgm.errors import BadInput
from dgm.likelihood import Kind
from dgm.models.table import MODELS
from dgm.protocols import Progressive
from dgm.registry import create, model_class
from dgm.space import Space

SPACES = (Space.levels((1, 4, 4), 3), Space.tokens(6, 3))


def stirred(name: str) -> Any:
    """The model with half of its hidden units left out in training, and modules of both modes."""
    fields = {field.name for field in dataclasses.fields(model_class(name).Config)}
    config = {name: 2 for name in ("timesteps", "langevin_steps", "sampling_steps") if name in fields}
    for space in SPACES:
        try:
            model = contracts.perturbed(create(name, space, **config))
        except BadInput:
            continue
        for module in model.modules():
            for share in ("p", "dropout", "share"):
                if isinstance(getattr(module, share, None), float):
                    setattr(module, share, 0.5)
        model.train()
        list(model.modules())[-1].training = False
        return model
    raise AssertionError(name)


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


@pytest.mark.parametrize("name", MODELS)
def test_samples_are_of_evaluation_and_leave_the_mode_as_it_was(name: str) -> None:
    """Kills: dropout, or the batch's own mean in a batch normalisation, kept while a model in training is sampled."""
    model = stirred(name)
    before, state = modes(model), {key: tensor.clone() for key, tensor in model.state_dict().items()}
    x = model.sample(6, seed=1)
    assert modes(model) == before
    torch.testing.assert_close(dict(model.state_dict()), state, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(x, model.eval().sample(6, seed=1))


PROGRESSIVE = [name for name in MODELS if issubclass(model_class(name), Progressive)]


@pytest.mark.parametrize("name", PROGRESSIVE)
def test_each_step_of_a_trajectory_is_of_evaluation_and_leaves_the_mode_as_it_was(name: str) -> None:
    """Kills: dropout kept in the states of a model in training, a model that is in evaluation between two states."""
    model = stirred(name)
    before = modes(model)
    *_, last = (state.x.clone() for state in model.trajectory(6, seed=1) if modes(model) == before)
    assert modes(model) == before
    assert torch.equal(last, model.eval().sample(6, seed=1))


EXACT = [name for name, spec in MODELS.items() if spec.likelihood == "exact"]


@pytest.mark.parametrize("name", EXACT)
def test_an_exact_likelihood_in_training_is_the_same_twice(name: str) -> None:
    model = stirred(name)
    before = modes(model)
    x = contracts.random_examples(model.space, 4)
    first, second = dgm.log_likelihood(model, x), dgm.log_likelihood(model, x)
    assert modes(model) == before
    assert first.kind is Kind.EXACT
    assert torch.equal(first.nats, second.nats)
    with torch.no_grad():
        assert torch.equal(first.nats, model.eval().log_prob(x))


def test_dropout_does_change_a_model_in_training() -> None:
    """What the tests above look at is there: the models that have dropout differ from call to call in training."""

    def differ(name: str) -> bool:
        model = stirred(name).train()
        x = contracts.random_examples(model.space, 4)
        return not torch.equal(model.log_prob(x), model.log_prob(x))

    with torch.no_grad():
        assert {name for name in EXACT if differ(name)} >= {"made", "orderless_made", "pixelcnn_pp", "image_gpt"}


def test_the_mode_is_back_after_an_error() -> None:
    model = stirred("made")
    before = modes(model)
    model.log_prob = lambda x, y=None: 1 / 0
    with pytest.raises(ZeroDivisionError):
        dgm.log_likelihood(model, contracts.random_examples(model.space))
    assert modes(model) == before
