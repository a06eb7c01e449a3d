"""Codes found by descent: a linear generator's have a closed form, and a GAN's own samples are found again."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
from commands import dgm as command
from torch import nn

import dgm
from dgm.condition import Names
from dgm.data import Dataset, Split
from dgm.editing import codes, latent_search
from dgm.errors import Unsupported
from dgm.models.gan.gan import GAN
from dgm.networks.conditions import OF_CONDITIONS, sampled_condition
from dgm.seeds import Streams, mix
from dgm.space import Space


def linear(outputs: int, latent: int) -> GAN:
    gan = GAN(Space.continuous((outputs,)), GAN.Config(latent=latent))
    gan.generator.network = nn.Linear(latent, outputs)
    nn.init.orthogonal_(gan.generator.network.weight)
    return gan


def test_a_linear_generators_codes_are_the_least_squares_with_the_norms_term() -> None:
    """At the minimum the gradient 2/D W^T (W z + b - x) + 2 lambda/d (1 - sqrt(d) / |z|) z is 0."""
    gan, x = linear(6, 3), 2 * torch.randn(5, 6)
    z = latent_search.invert(gan, x, steps=500)
    layer = gan.generator.network
    residual = z @ layer.weight.T + layer.bias - x
    norm = z.norm(dim=1, keepdim=True)
    pull = latent_search.PRIOR / 3 * (1 - math.sqrt(3) / norm) * z
    assert (residual @ layer.weight / 6 + pull).abs().max() < 1e-4
    assert not torch.equal(z, latent_search.invert(gan, x, steps=500, seed=1))


def test_steps_fall_along_a_cosine() -> None:
    """Far from x each number moves by Adam's lr, which is 0.1 at first and 0.05 on average. Kills: a constant lr."""
    gan = linear(3, 3)
    with torch.no_grad():
        gan.generator.network.weight.copy_(torch.eye(3))  # type: ignore[union-attr]
    start = latent_search.invert(gan, torch.full((1, 3), 1e6), steps=1, starts=1) - 0.1
    z = latent_search.invert(gan, torch.full((1, 3), 1e6), steps=200, starts=1)
    torch.testing.assert_close(z, start + 0.05 * 201, rtol=1e-3, atol=1e-3)


def test_what_the_generator_made_is_found_again_and_each_example_on_its_own() -> None:
    torch.manual_seed(0)
    gan = GAN(Space.continuous((20,)), GAN.Config(latent=2, width=8)).eval()
    z = torch.randn(4, 2)
    with torch.no_grad():
        x = gan.decode(z)
    found = dgm.edit.invert(gan, x)
    assert found.error < 0.02
    torch.testing.assert_close(found.x, gan.decode(found.z), rtol=0, atol=1e-5)
    alone = latent_search.invert(gan, x[:1])
    torch.testing.assert_close(alone, found.z[:1], rtol=1e-3, atol=1e-3)


def test_the_best_of_the_starts_is_kept() -> None:
    """The first start of many is the only one of few, so that more starts can only gain."""
    torch.manual_seed(0)
    gan = GAN(Space.continuous((20,)), GAN.Config(latent=8, width=8)).eval()
    x = torch.randn(6, 20)
    few, many = (latent_search.misfit(gan, latent_search.invert(gan, x, steps=40, starts=s), x, None) for s in (1, 8))
    assert (many <= few + 1e-6).all()
    assert (many < few - 1e-4).any()


def test_a_conditional_generator_gets_the_condition_and_others_are_refused() -> None:
    torch.manual_seed(0)
    gan = GAN(Space.levels((1, 8, 8), 17), GAN.Config(latent=2, width=4), Space.categories(3)).eval()
    y = torch.tensor([2, 0])
    x = gan.sample(2, y, seed=0)
    right, wrong = (dgm.edit.invert(gan, x, labels, steps=60).error for labels in (y, 2 - y))
    assert right < wrong
    with pytest.raises(Unsupported, match="VAE is not a GAN"):
        dgm.edit.invert(dgm.create("vae", gan.space), x)
    for without in (lambda: dgm.edit.invert(gan, x, steps=1), lambda: dgm.edit.decode(gan, torch.zeros(2, 2))):
        with pytest.raises(Unsupported, match="needs a label for each example"):
            without()


def test_a_gan_of_a_table_is_searched_through_its_cells() -> None:
    """Kills: a search for the record itself in place of the centres of its cells; a truncation that is refused."""
    torch.manual_seed(0)
    record = Space.record(
        n=Space.levels((), 9, loc=(4.0,), scale=(2.0,)), r=Space.continuous((), loc=(0.0,), scale=(3.0,))
    )
    gan = dgm.create("gan", record, latent=2, width=8)
    gan.model.generator.network = nn.Linear(2, 2)
    nn.init.orthogonal_(gan.model.generator.network.weight)
    x = torch.tensor([[5.0, 2.0], [2.0, -1.0]]).double()
    found = dgm.edit.invert(gan, x)
    torch.testing.assert_close(found.x[:, 0], x[:, 0])
    assert (found.x[:, 1] - x[:, 1]).abs().max() < 0.3
    torch.testing.assert_close(found.z, latent_search.invert(gan.model, gan.cells.centre(x)))
    truncated = dgm.sample(gan, 5, seed=1, truncation=0.5)
    torch.testing.assert_close(truncated, gan.cells.floor(dgm.sample(gan.model, 5, seed=1, truncation=0.5)))


def test_codes_of_a_gan_are_added_and_subtracted() -> None:
    """Kills: a refusal of GANs, a mean of all training examples, a sign."""
    gan = linear(4, 4)
    x, y = torch.randn(60, 4), torch.arange(60) % 2
    split = Split(x, y)
    points = Dataset(
        name="p", space=gan.space, split="", train=split, validation=split, test=split, condition=Space.categories(2)
    )
    points = replace(points, names=Names(labels=("a", "b")))
    a, b = (latent_search.invert(gan, x[y == k][: codes.SEARCHED]).mean(0) for k in (0, 1))
    own = latent_search.invert(gan, x[:3])
    found = dgm.edit.arithmetic(gan, "x - a + b", points, x[:3])
    torch.testing.assert_close(found.z, own - a + b)
    torch.testing.assert_close(found.x, gan.decode(own - a + b))


def test_the_command_writes_codes_and_pictures(tmp_path: Path) -> None:
    trained = command("train gan --steps 2 --model.width 4 --model.latent 3 --out run", tmp_path)
    assert trained.returncode == 0, trained.stderr
    done = command("edit invert run --examples 2 --steps 5 --out z.npz", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "root mean squared error" in done.stdout
    with numpy.load(tmp_path / "z.npz") as file:
        assert file["z"].shape == (2, 3)
    assert command("edit invert run --examples 2 --steps 5 --out x.png", tmp_path).returncode == 0


def test_a_conditional_gan_takes_the_labels_of_the_data_or_draws_them(tmp_path: Path) -> None:
    """Each code has a label of its own, and one that is chosen holds for all."""
    assert command("train gan --conditional --steps 2 --model.width 4 --out run", tmp_path).returncode == 0
    for task in ("invert run --steps 2", "interpolate run -n 4", "interpolate run --label 3 -n 4", "traverse run -n 2"):
        done = command(f"edit {task} --examples 2 --out {task.replace(' ', '')}.npz", tmp_path)
        assert done.returncode == 0, done.stderr
    own, chosen = (numpy.load(tmp_path / f"interpolaterun{label}-n4.npz")["x"] for label in ("", "--label3"))
    model, z = dgm.load(tmp_path / "run"), dgm.edit.drawn(dgm.load(tmp_path / "run"), 2)
    # rounded to levels from sums in another order
    assert abs(chosen[[0, -1]] - dgm.edit.decode(model, z, 3).numpy().astype(int)).max() <= 1
    y = sampled_condition(None, model, Streams(mix(0, OF_CONDITIONS), range(2)))
    assert y is not None
    assert y[0] != y[1] != 3
    assert abs(own[[0, -1]] - dgm.edit.decode(model, z, y).numpy().astype(int)).max() <= 1
    assert abs(own[[0, -1]] - chosen[[0, -1]]).max() > 1  # else neither says which label was taken
