"""The contract over the registry, and models broken on purpose, which it must catch."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dgm import contracts
from dgm.contracts import Outcome, Result, laws
from dgm.contracts.conditions import MOST
from dgm.errors import BadInput
from dgm.likelihood import kind_of, log_likelihood
from dgm.models.autoencoder import MODELS as AUTOENCODERS
from dgm.models.gan import MODELS as GANS
from dgm.models.table import MODELS
from dgm.protocols import Model
from dgm.registry import create, model_class
from dgm.settings import setting
from dgm.space import Space

CONDITIONAL = [name for name in MODELS if getattr(model_class(name), "conditions", ())]
LABELLED_IMAGES = [name for name in CONDITIONAL if name != "char_gpt"]

# laws that have nothing to look at on any small space, and of which models that is so
NOTHING_TO_LOOK_AT = {
    # an estimate of images alone, which are more than a dimension and no plane
    "The exponential of the estimate integrates to one": {"ffjord", "residual_flow"},
    "The exponential of the estimate of a discrete x, whose mean is a bound, sums to at most one": {
        "ffjord",
        "residual_flow",
    },
    "A batch outside the space is refused with an error of one line": {*AUTOENCODERS, "score_matching"} | set(GANS),
    # the bound is the importance weight of one draw of several states, whose sum is checked; its variance is too large
    "The exponential of the bound sums to at most one": {"td_vae"},
}


# a short chain of the sampler, of which the laws hold as well
FEW_STEPS: dict[str, dict[str, Any]] = {
    "rbm": {"hidden": 6, "chains": 20, "sampling_steps": 20},  # an exact likelihood; the model's own is an estimate
} | {name: {"sampling_steps": 6} for name in ("ebm", "jem", "energy_matching", "score_matching")}
# sizes and steps on which no law depends, but the time to code examples one by one, to draw a bound or a sample
SMALL: dict[str, dict[str, Any]] = {
    "orderless_made": {"orders": 4, "hidden": 64},
    "hierarchical_vae": {"latents": (3, 2)},
    "ladder_vae": {"latents": (3, 2)},
    "realnvp": {"hidden": 8},
    "score_sde": {"sampling_steps": 40},
}


# vdm's bound over all x needs thousands of draws of its single term; the others have most laws in common with
# flow_matching. The slow tests alone take their laws, and those of a larger rbm, whose likelihood is an estimate.
MINUTES = {"vdm", "ddpm", "ddim", "edm", "score_sde", "ncsn", "rectified_flow", "ot_cfm", "ffjord"}


@pytest.mark.parametrize("name", [name for name in MODELS if name not in MINUTES])
def test_every_law_holds_of(name: str) -> None:
    refuse_broken_on_small_spaces(name, **FEW_STEPS.get(name, {}), **SMALL.get(name, {}))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*sorted(MINUTES), "rbm"])
def test_every_law_holds_of_what_takes_longer(name: str) -> None:
    refuse_broken_on_small_spaces(name, **SMALL.get(name, {}))


def refuse_broken_on_small_spaces(name: str, **config: Any) -> None:
    results = [
        (str(space), r) for space, model in contracts.small_models(name, **config) for r in contracts.check(model)
    ]
    broken = [f"{space}: {r.law}: {r.detail}" for space, r in results if r.outcome is Outcome.BROKEN]
    assert results
    assert not broken, "\n".join(broken)
    unseen = {r.law for _, r in results} - {r.law for _, r in results if r.passed}
    assert unseen == {law for law, models in NOTHING_TO_LOOK_AT.items() if name in models}


# losses that are means over the dimensions, and those of another objective than the likelihood
AVERAGED = {"char_gpt", "wavenet", "vdm", "masked_diffusion"}
OTHER_LOSS = {
    "beta_vae": "the divergence has a weight",
    "tc_vae": "the total correlation has a weight",
    "factor_vae": "a game of two losses",
    "iwae": "the bound of several draws",
    "vq_vae": "the quantised code has no probability in training",
    "discrete_vae": "the code is relaxed",
    "orderless_made": "an order for each example",
    "kde": "no loss",
    "ppca": "no loss",
    "ddpm": "unweighted",
    "ddim": "unweighted",
}


WITH_LIKELIHOOD = [name for name, row in MODELS.items() if row.likelihood in ("exact", "lower_bound")]


@pytest.mark.parametrize("name", [name for name in WITH_LIKELIHOOD if name not in OTHER_LOSS])
def test_the_loss_is_the_negative_of_the_likelihood_or_bound_on_average(name: str) -> None:
    """Of 200 draws for each of two examples. Kills: the other sign of a family's loss; a mean for a sum over D."""
    models = list(contracts.small_models(name, spaces=[IMAGE, contracts.PLANE, Space.tokens(3, 3)]))
    assert models
    for space, model in models:
        torch.manual_seed(1)
        x = contracts.random_examples(space, 2).repeat_interleave(200, 0)
        with torch.no_grad():
            loss, nats = model.loss(x), log_likelihood(model, x).nats
        off = (loss * (space.dim if name in AVERAGED else 1) + nats).double().view(2, 200)
        noise = 5 * off.std(1) / 200**0.5
        assert bool((off.mean(1).abs() <= noise + 1e-4 * nats.abs().mean()).all()), f"{space}: {off.mean(1)}"


@pytest.mark.parametrize("name", MODELS)
def test_the_registry_states_the_likelihood_that_images_get(name: str) -> None:
    model = next(model for _, model in taking(name, Space.levels((1, 8, 8), 17), Space.tokens(8, 17)))
    assert (str(kind_of(model) or "none")) == MODELS[name].likelihood


def taking(name: str, *spaces: Space) -> Iterator[tuple[Space, Model]]:
    """The model on those of the spaces that it takes."""
    for space in spaces:
        with contextlib.suppress(BadInput):
            yield space, create(name, space)


@pytest.mark.parametrize("y", [0, 2])
@pytest.mark.parametrize("name", ["made", "realnvp"])
def test_a_conditional_density_sums_to_one_for_each_label(name: str, y: int) -> None:
    if name == "made":
        space = Space.binary((1, 3, 3))
        points, area = contracts.all_examples(space), 1.0
    else:
        space = Space.continuous((2,))
        points, area = contracts.plane_grid()
    model = contracts.perturbed(create(name, space, Space.categories(3)))
    with torch.no_grad():
        log_p = [model.log_prob(points, torch.full((len(points),), label)) for label in (y, 1)]
    assert log_p[0].double().exp().sum().item() * area == pytest.approx(1, abs=1e-2)
    assert not torch.allclose(log_p[0], log_p[1])


CONDITIONS = {
    "label": Space.categories(3),
    "attributes": Space.binary((3,)),
    "numbers": Space.continuous((2,), loc=(1.0, -2.0), scale=(2.0, 3.0)),
}
OTHER_CONDITIONS = {
    "text": Space.tokens(3, 4),
    "image": Space.levels((1, 4, 4), 5),
    "record": Space.record(age=Space.levels((), 9), job=Space.categories(3), pay=Space.continuous((), optional=True)),
}
# the one small space that a model is looked at on under a condition; elsewhere an image of three levels
FLOWS = ("ffjord", "nice", "planar", "radial", "realnvp", "glow", "iaf", "maf", "nsf", "residual_flow", "tarflow")
ON = {"char_gpt": Space.tokens(3, 3)} | dict.fromkeys(FLOWS, contracts.PLANE)
IMAGE = Space.levels((1, 2, 2), 3)
# what makes sampling short
SHORT: dict[str, dict[str, Any]] = {
    "ncsn": {"noise_scales": 3, "langevin_steps": 1},
    "edm": {"sampling_steps": 4},
    "rbm": {"hidden": 6, "sampling_steps": 20},
} | {
    name: {"sampling_steps": 4}
    for name in (
        *("score_sde", "ddpm", "ddim", "vdm", "flow_matching", "ot_cfm", "masked_diffusion"),
        *("ebm", "jem", "energy_matching"),
    )
}
# takes a thousand draws and more: it is looked at without a condition, and here where the slow tests are
LONG = {"The exponential of the bound sums to at most one"}


def under_condition(name: str, condition: Space) -> Model:
    spaces = [ON.get(name, IMAGE)]
    return next(model for _, model in contracts.small_models(name, condition, spaces, **SHORT.get(name, {})))


def takes(name: str, condition: str) -> bool:
    return CONDITIONS[condition].kind in model_class(name).conditions  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "condition"),
    [(name, of if takes(name, of) else "label") for name, of in zip(CONDITIONAL, itertools.cycle(CONDITIONS))],
)
def test_every_law_holds_under_a_condition(name: str, condition: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One kind of condition a model, in turn, so that each is seen by a third of them; the slow tests have all."""
    monkeypatch.setattr(laws, "LAWS", {law: about for law, about in contracts.LAWS.items() if line_of(law) not in LONG})
    refuse_broken(contracts.check(under_condition(name, CONDITIONS[condition])))


@pytest.mark.parametrize("condition", OTHER_CONDITIONS)
@pytest.mark.parametrize("name", ["made", "vae", "gan", "ddpm"])
def test_every_law_holds_under_other_conditions(name: str, condition: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(laws, "LAWS", {law: about for law, about in contracts.LAWS.items() if line_of(law) not in LONG})
    refuse_broken(contracts.check(under_condition(name, OTHER_CONDITIONS[condition])))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "condition"), [(name, of) for name in CONDITIONAL for of in CONDITIONS if takes(name, of)]
)
def test_every_law_holds_under_every_condition(name: str, condition: str) -> None:
    refuse_broken(contracts.check(under_condition(name, CONDITIONS[condition])))


def line_of(law: Any) -> str:
    return (law.__doc__ or "").splitlines()[0].rstrip(".")


def refuse_broken(results: Iterator[Result]) -> None:
    """Fails for a broken law, and where that of the condition was not looked at."""
    found = list(results)
    assert not [f"{r.law}: {r.detail}" for r in found if r.outcome is Outcome.BROKEN]
    assert line_of(contracts.every_dimension_of_the_condition_has_an_effect) in {r.law for r in found if r.passed}


@pytest.mark.parametrize("condition", CONDITIONS | OTHER_CONDITIONS)
def test_a_model_that_ignores_a_part_of_its_condition_is_caught(condition: str) -> None:
    """Kills: a condition, or one dimension of it, that reaches no output; an answer that changes with the noise."""
    model: Any = under_condition("made", (CONDITIONS | OTHER_CONDITIONS)[condition])
    law, right = contracts.every_dimension_of_the_condition_has_an_effect, model.log_prob
    assert contracts.run(law, model).passed

    def ignoring(x: Tensor, y: Tensor) -> Tensor:
        kept = y.clone().reshape(len(y), -1)
        kept[:, -1] = 0
        return right(x, kept.reshape(y.shape))

    model.log_prob = ignoring
    dim = model.condition.dim
    result = contracts.run(law, model)
    assert result.outcome is (Outcome.BROKEN if dim <= MOST else Outcome.HOLDS)
    assert f"dimensions [{dim - 1}] of y change nothing" in result.detail or dim > MOST
    noise = torch.Generator().manual_seed(0)
    model.log_prob = lambda x, y: right(x, y) + torch.rand(len(x), generator=noise)
    assert contracts.run(law, model).detail == "two different outputs for the same condition"


@pytest.mark.parametrize("name", LABELLED_IMAGES)
def test_a_conditional_model_samples_the_label_it_is_given(name: str) -> None:
    model = contracts.perturbed(create(name, Space.levels((1, 4, 4), 5), Space.categories(3), **SHORT.get(name, {})))
    with torch.no_grad():
        zeros, twos, any_label = (
            model.sample(32, y, seed=1) for y in (torch.zeros(32).long(), torch.full((32,), 2), None)
        )
    assert (zeros != twos).any()
    assert len(any_label) == 32


class Coin(nn.Module):
    """Independent pixels with their own probabilities: the smallest exact model, and the base of broken ones."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        start: float = setting(0.3, "the first logit")

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__()
        self.space, self.config = space, config
        self.logits = nn.Parameter(torch.linspace(config.start, 1, space.dim).reshape(space.shape))

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return (x * self.logits - nn.functional.softplus(self.logits)).flatten(1).sum(1)

    def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return -self.log_prob(x)

    @torch.no_grad()
    def sample(self, n: int, y: Tensor | None = None, *, seed: object = None) -> Tensor:
        from dgm.seeds import streams

        u = streams(n, seed).uniform(self.space.shape)  # type: ignore[arg-type]
        return (u < self.logits.sigmoid()).to(torch.uint8)


class Unnormalised(Coin):
    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return (x * self.logits).flatten(1).sum(1)


class Upside(Coin):
    def sample(self, n: int, y: Tensor | None = None, *, seed: object = None) -> Tensor:
        return 1 - super().sample(n, y, seed=seed)


class Unseeded(Coin):
    def sample(self, n: int, y: Tensor | None = None, *, seed: object = None) -> Tensor:
        return torch.randint(2, (n, *self.space.shape), dtype=torch.uint8)


class Leaky(Coin):
    def conditionals(self, x: Tensor) -> Tensor:
        return (x.flip(-1) * self.logits)[..., None]


class Unused(Coin):
    def __init__(self, space: Space, config: Coin.Config) -> None:
        super().__init__(space, config)
        self.spare = nn.Parameter(torch.ones(3))


class Cancelling(Coin):
    """A parameter whose gradient is rounding alone: log-softmax takes away what is added to all logits."""

    def __init__(self, space: Space, config: Coin.Config) -> None:
        super().__init__(space, config)
        self.shift = nn.Parameter(torch.ones(()))

    def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        two = torch.stack([torch.zeros_like(self.logits), self.logits], -1) + self.shift
        return -two.log_softmax(-1).expand(len(x), -1, -1, -1, -1).gather(-1, x.long()[..., None]).flatten(1).sum(1)


class Heavy(Coin):
    def log_weight(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.log_prob(x) + torch.randn(len(x))  # E[e^N(0,1)] = e^(1/2), not 1


class Loose(Coin):
    def elbo(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.log_prob(x) + 0.5


class Wide(Coin):
    def sample(self, n: int, y: Tensor | None = None, *, seed: object = None) -> Tensor:
        return super().sample(n, y, seed=seed) * 2


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (Unnormalised, contracts.density_sums_to_one),
        (Upside, contracts.samples_follow_density),
        (Unseeded, contracts.sample_depends_on_seed_and_index_alone),
        (Leaky, contracts.conditionals_are_autoregressive),
        (Unused, contracts.every_parameter_has_a_gradient),
        (Cancelling, contracts.every_parameter_has_a_gradient),
        (Heavy, contracts.weights_sum_to_one),
        (Loose, contracts.bound_sums_to_at_most_one),
        (Wide, contracts.samples_lie_in_the_space),
    ],
)
def test_a_broken_model_is_caught(broken: type[Coin], law: object) -> None:
    model = broken(Space.binary((1, 2, 3)), Coin.Config())
    assert not contracts.run(law, model).passed  # type: ignore[arg-type]


def test_a_sound_model_is_not() -> None:
    coin = Coin(Space.binary((1, 2, 3)), Coin.Config())
    coin.__class__ = type("Coin", (Coin,), {"elbo": Coin.log_prob, "log_weight": Coin.log_prob})
    results = [r for r in contracts.check(coin) if "description" not in r.law]
    assert len(results) >= 9
    assert not [r for r in results if r.outcome is Outcome.BROKEN]


def test_a_wrong_log_determinant_is_caught() -> None:
    flow = contracts.perturbed(create("realnvp", Space.continuous((2,)), layers=2))
    right = flow.encode_and_ladj
    assert contracts.run(contracts.log_determinant_matches_the_jacobian, flow).passed
    flow.encode_and_ladj = lambda x, y=None: (right(x)[0], right(x)[1] + 0.1 * x[:, 0])
    assert not contracts.run(contracts.log_determinant_matches_the_jacobian, flow).passed
    assert not contracts.run(contracts.density_sums_to_one, flow).passed


class Clipped(Coin):
    """A normal density in a box, of which what lies outside is neither in the density nor moved onto the bounds."""

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return torch.distributions.Normal(2.0, 1.0).log_prob(x).sum(1)

    def sample(self, n: int, y: Tensor | None = None, *, seed: object = None) -> Tensor:
        return torch.full((n, 2), 2.0)


def test_a_density_that_reaches_beyond_its_bounds_has_samples_on_them() -> None:
    """P(0 < x < 4) of N(2, 1) is 0.9545, so 1 - 0.9545² = 0.0889 of the samples must be moved onto the bounds."""
    space = Space.continuous((2,), low=0.0, high=4.0)
    model = Clipped(space, Coin.Config())
    result = contracts.run(contracts.density_sums_to_one, model)
    assert result.outcome is Outcome.BROKEN
    assert "= 0.9112, share of the samples on the bounds = 0.0000" in result.detail
    draws = (2 + torch.randn(4000, 2)).clamp(0, 4)
    model.sample = lambda n, y=None, *, seed=None: draws[:n]  # type: ignore[method-assign, assignment]
    assert contracts.run(contracts.density_sums_to_one, model).passed
    assert contracts.run(contracts.samples_follow_density, model).passed
    model.sample = lambda n, y=None, *, seed=None: (0.5 * draws[:n] + 1).clamp(0, 4)  # type: ignore[method-assign, assignment]
    assert contracts.run(contracts.samples_follow_density, model).outcome is Outcome.BROKEN


def test_a_law_with_nothing_to_look_at_is_skipped_and_says_why() -> None:
    result = contracts.run(contracts.density_sums_to_one, Coin(Space.binary((1, 8, 8)), Coin.Config()))
    assert (result.outcome, result.detail) == (Outcome.SKIPPED, "the space is too large to sum over")
    assert not result.passed


def test_a_law_that_crashes_is_broken_and_says_how() -> None:
    coin = Coin(Space.binary((4,)), Coin.Config())
    coin.log_prob = lambda x, y=None: 1 / 0  # type: ignore[assignment, method-assign]
    result = contracts.run(contracts.density_sums_to_one, coin)
    assert not result.passed
    assert "ZeroDivisionError" in result.detail
