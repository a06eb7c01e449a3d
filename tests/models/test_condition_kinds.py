"""Every conditional model under every kind of condition, and what it learns of one in closed form."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dgm import contracts
from dgm.errors import BadInput, Unsupported
from dgm.models.table import MODELS
from dgm.networks.conditions import fit_marginals
from dgm.networks.maps import MapsAtSizes
from dgm.protocols import MultiPlayer, PartlyHidden, has
from dgm.registry import create, model_class
from dgm.samplers.diffusion import denoiser
from dgm.samplers.guidance import classifier_free
from dgm.space import Space

KINDS: dict[str, Space] = {
    "label": Space.categories(3),
    "attributes": Space.binary((4,)),
    "numbers": Space.continuous((2,), loc=(5.0, -1.0), scale=(2.0, 0.1)),
    "tokens": Space.tokens(4, 6),
    "image": Space.levels((1, 3, 3), 4),
    "record": Space.record(
        age=Space.levels((), 9, optional=True), text=Space.tokens(3, 5), low=Space.binary((1, 2, 2))
    ),
}
each_kind = pytest.mark.parametrize("kind", KINDS)
SMALL: dict[str, dict[str, Any]] = {
    "vae": {"hidden": 8, "latent": 2},
    "gan": {"width": 4, "latent": 2},
    "ncsn": {"noise_scales": 3, "langevin_steps": 1},
    "masked_diffusion": {"layers": 1},
}
DENOISERS = (
    "ddpm",
    "ddim",
    "vdm",
    "edm",
    "ncsn",
    "score_sde",
    "flow_matching",
    "ot_cfm",
    "rectified_flow",
    "mean_flow",
)
OTHERS = ("vae", "gan", "masked_diffusion")
CONDITIONAL = {name for name in MODELS if hasattr(model_class(name), "conditions")}
AUTOENCODERS = {"autoencoder", "denoising_ae", "sparse_ae", "contractive_ae", "stacked_ae"}
WITHOUT = {"hopfield", "gmm", "ppca", "kde", "score_matching"} | AUTOENCODERS


def made(name: str, kind: str, space: Space, **config: Any) -> Any:
    torch.manual_seed(0)
    chosen = {**({"width": 16} if name in (*DENOISERS, "masked_diffusion") else {}), **SMALL.get(name, {}), **config}
    return contracts.perturbed(create(name, space, KINDS[kind], **chosen))


def test_all_but_a_few_models_take_a_condition() -> None:
    assert set(MODELS) == CONDITIONAL | WITHOUT
    for name in WITHOUT:
        with pytest.raises(BadInput, match=f"{name} takes no condition, got categories, 3 values; leave it out"):
            create(name, Space.continuous((2,)), KINDS["label"])


@each_kind
@pytest.mark.parametrize("name", [*DENOISERS, *OTHERS])
def test_every_parameter_learns_from_a_condition_of_any_kind(name: str, kind: str) -> None:
    """Images, so that tokens are attended to and images stand beside x. Kills: a part of the embedding left out."""
    model = made(name, kind, Space.levels((1, 4, 4), 5))
    law = (
        contracts.players_reach_their_own_parameters
        if has(model, MultiPlayer)
        else contracts.every_parameter_has_a_gradient
    )
    result = contracts.run(law, model)
    assert result.passed, result.detail


@each_kind
@pytest.mark.parametrize("name", [*DENOISERS, *OTHERS])
def test_a_sample_is_of_the_condition_it_is_given(name: str, kind: str) -> None:
    """And of one that it draws for itself where none is given, by its own stream."""
    space = Space.tokens(5, 3) if name == "masked_diffusion" else Space.continuous((2,))
    model = made(
        name, kind, space, **({"sampling_steps": 2} if "sampling_steps" in dir(model_class(name).Config) else {})
    )
    first, second = (y.expand(16, *y.shape) for y in two_of(KINDS[kind]))
    assert (model.sample(16, first, seed=1) != model.sample(16, second, seed=1)).any()
    close(model.sample(16, first, seed=1)[:3], model.sample(3, first[:3], seed=1))
    if kind != "label":
        with pytest.raises(Unsupported, match="has seen no"):
            model.sample(2, seed=1)
    fit_marginals(model, torch.stack(two_of(KINDS[kind])))
    drawn = model.sample(16, seed=1)
    close(drawn[:5], model.sample(5, seed=1))


def close(found: Tensor, expected: Tensor) -> None:
    """The same but for rounding, which differs with the size of the batch."""
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def two_of(space: Space) -> tuple[Tensor, ...]:
    torch.manual_seed(3)
    return contracts.random_examples(space, 2).unbind(0)


@each_kind
@pytest.mark.parametrize("shape", [(2,), (1, 4, 4)])
@pytest.mark.parametrize("name", ["ddpm", "edm", "flow_matching"])
@torch.no_grad()
def test_guidance_is_linear_between_the_condition_and_none(name: str, shape: tuple[int, ...], kind: str) -> None:
    """eps(x) + s (eps(x, y) - eps(x)), of one batch of both halves. Kills: the halves exchanged, a null of one part."""
    model = made(name, kind, Space.continuous(shape)).double()
    y, x, t = contracts.random_examples(KINDS[kind], 3), torch.randn(3, *shape).double(), torch.tensor(0.5).double()
    given, none = denoiser(model, y)(x, t), denoiser(model, None)(x, t)
    assert (given.eps - none.eps).abs().flatten(1).amax(1).min() > 1e-6
    for scale in (0.0, 0.5, 3.0):
        guided = classifier_free(model, y, scale=scale, interval=(0.0, 0.9))(x, t)
        torch.testing.assert_close(guided.eps, none.eps + scale * (given.eps - none.eps))
        torch.testing.assert_close(guided.x_0, none.x_0 + scale * (given.x_0 - none.x_0))
    mixed = model.predict(x, t.expand(3), PartlyHidden(y, torch.tensor([True, False, True])))
    torch.testing.assert_close(mixed.eps, torch.stack([none.eps[0], given.eps[1], none.eps[2]]))


def test_guidance_is_refused_where_the_condition_was_never_hidden() -> None:
    model = made("flow_matching", "label", Space.continuous((2,)), condition_dropout=0.0)
    with pytest.raises(Unsupported, match="condition-dropout"):
        classifier_free(model, torch.tensor([1]), scale=2.0)


# x = A y + noise: the mean of x given y, its entropy and its denoiser are known
A, NOISE = torch.tensor([[1.0, 0.5], [-0.5, 1.0]]), 0.5


def linear_data(n: int) -> tuple[Tensor, Tensor]:
    y = 2 * torch.rand(n, 2) - 1
    return y @ A.T + NOISE * torch.randn(n, 2), y


def trained(model: Any, steps: int, lr: float) -> Any:
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        model.loss(*linear_data(256)).mean().backward()
        optimiser.step()
        schedule.step()
    return model.eval()


CONDITIONS = torch.tensor([[0.8, -0.6], [-0.7, 0.2], [0.1, 0.9]])


@pytest.mark.parametrize("name", ["realnvp", "nade"])
def test_a_density_learns_a_mean_that_is_linear_in_the_condition(name: str) -> None:
    """E[-log p(x|y)] comes to the entropy of the noise, log(2 pi e s²) in two dimensions, and means to A y."""
    torch.manual_seed(0)
    few = {"realnvp": {"layers": 2, "hidden": 16}, "nade": {"hidden": 32, "components": 1}}[name]
    model = trained(create(name, Space.continuous((2,)), Space.continuous((2,)), **few), 200, 2e-2)
    with torch.no_grad():
        nats = -model.log_prob(*linear_data(4000)).mean().item()
    entropy = math.log(2 * math.pi * math.e * NOISE**2)
    assert entropy - 0.05 < nats < entropy + 0.1  # 0.05 is three standard errors of 4000 draws
    for y in CONDITIONS:
        x = model.sample(2000, y.expand(2000, -1), seed=0)
        torch.testing.assert_close(x.mean(0), A @ y, rtol=0, atol=0.12)
        torch.testing.assert_close(x.std(0), torch.full((2,), NOISE), rtol=0, atol=0.08)


def test_a_denoiser_learns_the_conditional_mean_and_without_a_condition_the_mean_of_all() -> None:
    """At t = 1 nothing of x_0 is left in x_t: E[x_0 | x_t, y] = A y, and E[x_0 | x_t] = 0 where y is hidden."""
    torch.manual_seed(0)
    config = {"width": 16, "condition_dropout": 0.2}
    model = trained(create("flow_matching", Space.continuous((2,)), Space.continuous((2,)), **config), 200, 1e-2)
    x_1, t = torch.randn(500, 2), torch.ones(500)
    with torch.no_grad():
        for y in CONDITIONS:
            x_0 = model.predict(x_1, t, y.expand(500, -1)).x_0
            torch.testing.assert_close(x_0.mean(0), A @ y, rtol=0, atol=0.12)
        assert model.predict(x_1, t, None).x_0.mean(0).abs().max() < 0.12


WIDE = Space.levels((1, 6, 10), 4)
PIXEL_MODELS: dict[str, dict[str, Any]] = {
    "pixelcnn": {"width": 4, "layers": 1, "head": 32},
    "gated_pixelcnn": {"width": 4, "layers": 2, "head": 32},
    "pixelrnn": {"width": 4, "layers": 1, "head": 32},
    "pixelcnn_pp": {"width": 4, "layers": 1, "resolutions": 2, "components": 2},
}


@pytest.mark.parametrize("kind", ["image", "record"])
@pytest.mark.parametrize("name", PIXEL_MODELS)
@torch.no_grad()
def test_pixel_by_pixel_the_image_of_the_condition_is_that_of_one_pass(name: str, kind: str) -> None:
    """Kills: rows for columns, a pixel at the wrong resolution, the maps of one pixel for all."""
    model = made(name, kind, WIDE, **PIXEL_MODELS[name]).double()
    x, y = contracts.random_examples(WIDE, 3), contracts.random_examples(KINDS[kind], 3)
    one_pass = model.conditionals(x, y).flatten(1, 3)
    torch.testing.assert_close(torch.stack(list(model.sequential_conditionals(x, y)), 1), one_pass)


@pytest.mark.parametrize("name", [*PIXEL_MODELS, "realnvp", "glow", "nsf"])
@torch.no_grad()
def test_a_pixel_of_the_condition_acts_on_its_surroundings(name: str) -> None:
    """An image of x's size enters as maps: a change in its last column does not reach the first ones of x.

    Kills: an image as one vector for all positions.
    """
    space, condition = Space.levels((1, 4, 32), 4), Space.levels((1, 4, 32), 4)
    config = PIXEL_MODELS.get(name, {"layers": 2, "scales": 1, "hidden": 8})
    config |= {"kind": "coupling", "blocks": 1} if name == "nsf" else {}
    torch.manual_seed(0)
    continuous = name not in PIXEL_MODELS
    model = contracts.perturbed(
        create(name, Space.continuous((1, 4, 32)) if continuous else space, condition, **config)
    )
    x, y = contracts.random_examples(space, 2), contracts.random_examples(condition, 2)
    changed = y.clone()
    changed[..., -1] = 3 - changed[..., -1]
    outputs = [
        model.encode(x.float(), given) if continuous else model.conditionals(x, given).flatten(4)
        for given in (y, changed)
    ]
    moved = (outputs[0] - outputs[1]).abs().reshape(2, 4, 32, -1).amax((0, 1, 3))
    assert float(moved[-1]) > 1e-4
    assert float(moved[:8].max()) <= (1e-2 * float(moved[-1]) if name == "pixelrnn" else 0)  # its states reach all rows


@torch.no_grad()
def test_a_patch_of_tarflow_depends_on_the_pixels_of_the_condition_up_to_its_own() -> None:
    """Kills: the image as one vector, which every patch sees; the vectors of the patches in another order."""
    torch.manual_seed(0)
    space, condition = Space.continuous((1, 8, 8)), Space.levels((1, 8, 8), 4)
    model: Any = contracts.perturbed(create("tarflow", space, condition, blocks=1, layers=1, width=8, patch=2)).eval()
    x, y = contracts.random_examples(space, 1), torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    other = y.clone()
    other[..., -1, -1] = 3  # the maps of the condition have a receptive field of 5 × 5
    effect = (model.encode(x, other) - model.encode(x, y)).abs()[0, 0]
    assert effect[4:, 4:].min() > 1e-6
    assert effect[:4].max() == effect[4:6, :4].max() == 0
    torch.testing.assert_close(model.decode(model.encode(x, y), y), x, rtol=1e-4, atol=1e-4)


def of_ffjord(model: Any, x: Tensor, y: Tensor) -> Tensor:
    """v(z, t), whose solutions over a whole path have no local Jacobian."""
    return model.velocity(model.transform(x)[0], torch.full((len(x),), 0.5), model.conditioning(y))


def of_integer_flow(model: Any, x: Tensor, y: Tensor) -> Tensor:
    """The outputs of a coupling's network and of the last prior."""
    c = model.features_of(y)
    outputs = model.resolutions[0].couplings[0].network(torch.cat([x.to(c), c], 1))
    return torch.cat([outputs, model.last_outputs(len(x), c).movedim(-1, 1).flatten(1, 2)], 1)


@pytest.mark.parametrize(
    ("name", "config", "function"),
    [
        ("ffjord", {"layers": 1, "hidden": 4}, of_ffjord),
        ("residual_flow", {"blocks": 1, "layers": 1, "hidden": 4}, lambda model, x, y: model.encode(x, y)),
        ("integer_flow", {"layers": 1, "resolutions": 1, "hidden": 4}, of_integer_flow),
    ],
)
@torch.no_grad()
def test_a_pixel_of_a_condition_image_has_an_effect_at_its_place_alone(
    name: str, config: dict[str, Any], function: Any
) -> None:
    """Of networks of few convolutions, whose receptive field is 13 × 13 of 15 × 15 pixels at most.

    Kills: the image as one vector, which has the same effect everywhere.
    """
    torch.manual_seed(0)
    space = Space.levels((1, 15, 15), 4) if name == "integer_flow" else Space.continuous((1, 15, 15))
    model: Any = contracts.perturbed(create(name, space, Space.levels((1, 15, 15), 4), **config)).eval()
    x, y = contracts.random_examples(space, 1), torch.zeros(1, 1, 15, 15, dtype=torch.uint8)
    other = y.clone()
    other[..., 0, 0] = 3
    effect = (function(model, x, other) - function(model, x, y)).abs().amax((0, 1))
    assert effect[:2, :2].min() > 1e-6
    assert effect[7:].max() == effect[:, 7:].max() == 0


STRIP = Space.levels((1, 4, 32), 4)  # halved by no network, so that few convolutions see a quarter of it at most
GENERATORS = ("upsampling", "dcgan", "residual", "progressive")
DECODERS = ("vae", "hierarchical_vae", "progressive_vae", "discrete_vae", "vq_vae")


@pytest.mark.parametrize("name", [*GENERATORS, *DECODERS])
@torch.no_grad()
def test_a_generator_and_a_decoder_have_a_condition_image_at_its_place(name: str) -> None:
    """A change in its last column does not reach the first ones of x, beside the vector that VAEs have, too.

    Kills: an image as one vector; maps that a size leaves out, of networks that have one size here.
    """
    torch.manual_seed(0)
    config = {"network": name, "latent": 2, "width": 4} if name in GENERATORS else {"network": "conv", "hidden": 8}
    config = {"hidden": 8, "codes": 4, "width": 2, "halvings": 1, "blocks": 1} if name == "vq_vae" else config
    model: Any = contracts.perturbed(create("gan" if name in GENERATORS else name, STRIP, STRIP, **config)).eval()
    for of_vector in (getattr(model, "features", None), getattr(model, "bias", None)):
        for weight in () if of_vector is None else of_vector.parameters():
            weight.zero_()
    y, x = contracts.random_examples(STRIP, 2), contracts.random_examples(STRIP, 2)
    changed = y.clone()
    changed[..., -1] = 3 - changed[..., -1]
    if name in GENERATORS:
        outputs = [model.generated(torch.ones(2, 2), given) for given in (y, changed)]
    elif name == "vq_vae":
        outputs = [model.outputs(model.codebook(model.encode(x, y)), given) for given in (y, changed)]
    else:
        outputs = [model.outputs(model.encode(x, y), given) for given in (y, changed)]
    moved = (outputs[0] - outputs[1]).abs().reshape(2, 4, 32, -1).amax((0, 1, 3))
    assert moved[-2:].min() > 1e-5
    assert moved[:8].max() == 0


@pytest.mark.parametrize("conditioning", ["concatenation", "projection"])
@torch.no_grad()
def test_a_discriminator_compares_an_image_with_the_condition_place_by_place(conditioning: str) -> None:
    """V(x', y') - V(x', y) - V(x, y') + V(x, y) is 0 of changes that are far apart, and only of those.

    Kills: an image as constant planes; no image where a projection is chosen.
    """
    torch.manual_seed(0)
    config = {"conditioning": conditioning, "width": 4, "latent": 2, "spectral_norm": False}
    model: Any = contracts.perturbed(create("gan", STRIP, STRIP, **config)).double()
    if conditioning == "projection":
        for weight in model.discriminator.embedding.parameters():
            weight.zero_()
    x, y = torch.randn(2, 1, 4, 32).double(), contracts.random_examples(STRIP, 2)
    other_x, other_y = x.clone(), y.clone()
    other_x[..., -1] += 1
    other_y[..., -1] = 3 - other_y[..., -1]
    near = interaction(model, x, other_x, y, other_y)
    far = interaction(model, x, other_x, y.flip(-1), other_y.flip(-1))
    assert near.abs().min() > 1e-6
    assert far.abs().max() < 1e-12  # rounding


@pytest.mark.parametrize("name", ["ebm", "energy_matching"])
@torch.no_grad()
def test_the_convolutions_of_an_energy_have_a_condition_image_at_its_place(name: str) -> None:
    """The features before the last layers. Kills: an image as one vector alone, which has no effect on them."""
    torch.manual_seed(0)
    model: Any = contracts.perturbed(create(name, STRIP, STRIP, width=4))
    x, y = model.scaling(contracts.random_examples(STRIP, 2)), contracts.random_examples(STRIP, 2)
    changed = y.clone()
    changed[..., -1] = 3 - changed[..., -1]
    seen: list[Tensor] = []
    model.network.features.layers[-3].register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    for given in (y, changed):
        model.potential(x, given)
    moved = (seen[0] - seen[1]).abs().amax((0, 1, 2))
    assert moved[-1] > 1e-4
    assert moved[:8].max() == 0


def interaction(model: Any, x: Tensor, other_x: Tensor, y: Tensor, other_y: Tensor) -> Tensor:
    v = model.discriminator
    return v(other_x, other_y) - v(other_x, y) - v(x, other_y) + v(x, y)


def entrance(name: str) -> str:
    """How an image enters a model with its default settings."""
    space = Space.tokens(8, 4) if name == "char_gpt" else Space.levels((1, 8, 8), 4)
    model = create(name, space, KINDS["image"])
    parts = {type(module).__name__ for module in model.modules()}
    if "ConditionPixels" in parts:
        return "pixels"
    return "feature maps" if "Map" in parts else "a sequence" if "CausalTransformer" in parts else "one vector"


@pytest.mark.slow
def test_the_page_of_conditions_says_how_an_image_enters_each_model() -> None:
    page = (Path(__file__).parents[2] / "docs" / "conditions.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]*) \| (`.*`) \|$", page, re.MULTILINE)
    written = {name: how.split(",")[0] for how, names in rows for name in re.findall(r"`(\w+)`", names)}
    assert {name: how.removesuffix(" of vectors before that of x") for name, how in written.items()} == {
        name: entrance(name) for name in CONDITIONAL - {"jem", "drifting"}
    }


@pytest.mark.parametrize("name", [*GENERATORS, "vae", "vq_vae"])
def test_a_condition_image_enters_at_each_size(name: str) -> None:
    """Kills: a size of a network without the maps."""
    config = {"network": name, "latent": 2, "width": 4} if name in GENERATORS else {"network": "conv", "hidden": 8}
    config = {"hidden": 8, "codes": 4, "width": 2, "halvings": 2, "blocks": 1} if name == "vq_vae" else config
    space = Space.levels((1, 9, 8), 4)
    torch.manual_seed(0)
    model: Any = contracts.perturbed(create("gan" if name in GENERATORS else name, space, KINDS["image"], **config))
    y = contracts.random_examples(KINDS["image"], 3)
    if name in GENERATORS:
        model.generated(torch.randn(3, 2), y).square().sum().backward()
    else:
        model.loss(contracts.random_examples(space, 3), y).sum().backward()
    projections = [p for at in model.modules() if isinstance(at, MapsAtSizes) for p in at.projections]
    assert len(projections) > 1
    for projection in projections:
        assert projection.weight.grad.abs().max() > 0
