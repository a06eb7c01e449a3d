"""Every model that undoes Gaussian noise: the times and labels of its training, its units, its own sampler."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from dgm.networks.denoiser import Denoiser
from dgm.protocols import Model, PartlyHidden
from dgm.registry import create
from dgm.samplers.diffusion import SamplerConfig
from dgm.space import Space

PLANE, LABEL = Space.continuous((2,)), Space.categories(3)
MODELS = ("ddpm", "ddim", "edm", "ncsn", "score_sde", "flow_matching", "ot_cfm", "rectified_flow", "mean_flow")
FEW: dict[str, dict[str, Any]] = {"score_sde": {"sampling_steps": 3}, "ncsn": {"noise_scales": 3, "langevin_steps": 1}}
each_model = pytest.mark.parametrize("name", MODELS)


def made(name: str, space: Space = PLANE, **config: Any) -> Model:
    """With weights away from where they start, in float64."""
    torch.manual_seed(0)
    model = create(name, space, width=8, **config).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def asked(model: Model) -> list[tuple[Tensor, ...]]:
    """What the network is called with from now on."""
    network, calls = next(part for part in model.modules() if isinstance(part, Denoiser)), list[tuple[Tensor, ...]]()
    network.register_forward_pre_hook(lambda _, given: calls.append(given))
    return calls


# of the time as the network has it: log(sigma) / 4 for EDM (arXiv:2206.00364, table 1), t for all others
LAWS: dict[str, tuple[dict[str, Any], Any]] = {
    "edm": ({}, stats.norm(-1.2 / 4, 1.2 / 4)),
    "score_sde": ({}, stats.uniform(1e-3, 1 - 1e-3)),
    "flow_matching": ({"path": "variance_preserving"}, stats.uniform(1e-3, 1 - 1e-3)),
    "ot_cfm": ({}, stats.uniform(0, 1)),
    "rectified_flow": ({}, stats.uniform(0, 1)),
    "vdm": ({}, stats.uniform(0, 1)),  # gamma between its ends, a straight line at first
}


@pytest.mark.parametrize("name", LAWS)
def test_times_of_training_follow_their_law(name: str) -> None:
    """Kills: P_mean's sign, P_std squared, times that begin at 0 where the network begins later, a gamma as it is."""
    config, law = LAWS[name]
    calls = asked(model := made(name, **config))
    for _ in range(20):
        model.loss(torch.randn(200, 2, dtype=torch.float64))
    t = torch.cat([t for _, t, _ in calls])
    assert len(t) == 4000
    assert stats.kstest(t.detach().numpy(), law.cdf).statistic < 1.95 / 4000**0.5  # false alarm 0.1 %
    assert t.min() >= law.ppf(0)


@pytest.mark.parametrize(
    ("name", "config", "times"),
    [
        ("ddpm", {"timesteps": 4}, (0.25, 0.5, 0.75, 1.0)),
        ("ddim", {"timesteps": 4}, (0.25, 0.5, 0.75, 1.0)),
        ("ncsn", {"noise_scales": 4}, (1e-5, 1 / 3, 2 / 3, 1.0)),
    ],
)
def test_every_level_of_training_is_drawn_alike(name: str, config: dict[str, Any], times: tuple[float, ...]) -> None:
    """Kills: the strongest or the weakest level never trained, levels k / L in place of k / (L - 1)."""
    calls = asked(model := made(name, **config))
    model.loss(torch.randn(4000, 2, dtype=torch.float64))
    found, counts = calls[0][1].unique(return_counts=True)
    torch.testing.assert_close(found, torch.tensor(times, dtype=torch.float64), rtol=0, atol=1e-7)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


@each_model
def test_labels_are_hidden_from_training_as_often_as_asked_and_never_elsewhere(name: str) -> None:
    calls, n = asked(model := made(name, condition=LABEL, condition_dropout=0.3)), 1000
    x, y = torch.randn(n, 2, dtype=torch.float64), torch.arange(n) % 3
    if name == "ot_cfm":
        x, y = x[:60].repeat(17, 1)[:n], y  # pairs of few are found fast
    model.loss(x, y)
    (*_, seen) = calls[0]
    assert isinstance(seen, PartlyHidden)
    assert torch.equal(seen.y, y)
    assert seen.hidden.double().mean().item() == pytest.approx(0.3, abs=4 * (0.21 / n) ** 0.5)
    calls.clear()
    model.predict(x, torch.full((n,), 0.5, dtype=torch.float64), y)
    assert torch.equal(calls[0][2], y)


def test_reflow_hides_the_labels_of_its_own_pairs() -> None:
    calls = asked(model := made("rectified_flow", condition=LABEL, condition_dropout=0.3).eval())
    model.step.fill_(model.config.reflow_after + 1)
    model.loss(torch.randn(2000, 2, dtype=torch.float64), torch.arange(2000) % 3)
    hidden = calls[0][2].hidden.double()  # type: ignore[attr-defined]
    assert hidden.mean().item() == pytest.approx(0.3, abs=4 * (0.21 / 2000) ** 0.5)


@each_model
def test_data_in_other_units_is_the_same_data(name: str) -> None:
    """With loc and scale of the space, as a table has them, and as grey levels."""
    plain = made(name, **FEW.get(name, {}))
    scaled = made(name, Space.continuous((2,), loc=(1.0, -2.0), scale=(2.0, 3.0)), **FEW.get(name, {}))
    z, loc, scale = torch.randn(6, 2, dtype=torch.float64), torch.tensor([1.0, -2.0]), torch.tensor([2.0, 3.0])
    losses = []
    for model, x in ((plain, z), (scaled, z * scale + loc)):
        torch.manual_seed(1)
        losses.append(model.loss(x))
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(scaled.sample(3, seed=0), plain.sample(3, seed=0) * scale + loc)
    grey, bounded = made(name, Space.levels((2,), 5)), made(name, Space.continuous((2,), low=-1.0, high=1.0))
    x, losses = torch.randint(5, (6, 2)), []
    for model, given in ((grey, x), (bounded, x.double() / 2 - 1)):
        torch.manual_seed(1)
        losses.append(model.loss(given))
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ddpm", 1), ("edm", 1), ("ncsn", 0.5), ("score_sde", 0.5), ("score_matching", 0.5), ("flow_matching", 2)],
)
def test_loss_of_a_network_that_says_nothing_is_one_number_in_any_dimension(name: str, expected: float) -> None:
    """Of standard normal data. Kills: a sum over dimensions for a mean, and a half too many."""
    model = create(name, Space.continuous((5,)), width=8).double()
    losses = model.loss(torch.randn(4000, 5, dtype=torch.float64))
    assert losses.mean().item() == pytest.approx(expected, abs=4 * losses.std().item() / 4000**0.5)


SAMPLERS: list[tuple[str, dict[str, Any], SamplerConfig]] = [
    (
        "ddpm",
        {"sampler": "ancestral", "variance": "forward"},
        SamplerConfig(solver="ancestral", sampling_steps=7, clamp=True, options={"variance": "forward"}),
    ),
    (
        "ddpm",
        {"sampler": "ancestral", "variance": "learnt"},
        SamplerConfig(solver="ancestral", sampling_steps=7, clamp=True),
    ),
    ("ddim", {"eta": 0.5}, SamplerConfig(solver="ddim", sampling_steps=7, clamp=True, options={"eta": 0.5})),
    ("edm", {}, SamplerConfig(solver="heun", sampling_steps=7, spacing="karras")),
    ("score_sde", {}, SamplerConfig(solver="predictor_corrector", sampling_steps=7, clamp=True)),
    ("flow_matching", {"solver": "euler"}, SamplerConfig(solver="euler", sampling_steps=7)),
    ("ot_cfm", {}, SamplerConfig(solver="heun", sampling_steps=7)),
    ("rectified_flow", {}, SamplerConfig(solver="euler", sampling_steps=7)),
]


@pytest.mark.parametrize(("name", "config", "sampler"), SAMPLERS)
def test_a_model_is_sampled_as_its_settings_say(name: str, config: dict[str, Any], sampler: SamplerConfig) -> None:
    assert made(name, sampling_steps=7, **config).sampler == sampler


def test_ncsn_is_sampled_by_langevin_steps_at_its_own_levels() -> None:
    """Algorithm 1 of arXiv:1907.05600: ``steps`` at each level, from the strongest to the weakest, and a denoising."""
    calls = asked(model := made("ncsn", noise_scales=3, sigma_min=0.1, sigma_max=10.0, langevin_steps=2, step_size=0.3))
    model.sample(1, seed=0)
    sigma = model.path.sigma(torch.cat([t for _, t, _ in calls]).double())
    torch.testing.assert_close(sigma, torch.tensor([10.0, 10, 1, 1, 0.1, 0.1, 0.1]).double(), rtol=1e-4, atol=0)
    options = {"langevin_steps": 2, "step_size": 0.3}
    assert model.sampler == SamplerConfig(
        solver="annealed_langevin", sampling_steps=3, spacing="log_snr", options=options
    )
