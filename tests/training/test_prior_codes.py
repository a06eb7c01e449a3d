"""A prior is trained on the codes of a first stage: which codes they are, how they are kept, and how a run goes on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from codecs_of_tests import Shuffle
from trainees import points

import dgm
from dgm import registry
from dgm.data import Dataset, Split
from dgm.errors import BadInput
from dgm.likelihood import Kind, log_likelihood
from dgm.models.two_stage import TwoStage
from dgm.protocols import Model
from dgm.registry import create
from dgm.space import Space
from dgm.training import codes, fit
from dgm.training.codes import coded, key, two_stage

POINTS = points()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DGM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def autoencoder() -> Model:
    torch.manual_seed(0)
    return create("autoencoder", POINTS.space, latent=2, hidden=8).eval()


def vae() -> Model:
    torch.manual_seed(0)
    return create("vae", POINTS.space, latent=2, hidden=8).eval()


def tokens() -> Dataset:
    """Pairs of symbols of three, the second most often the one after the first."""
    first = torch.randint(3, (300,), generator=torch.Generator().manual_seed(0))
    x = torch.stack([first, (first + (torch.arange(300) % 5 > 0)) % 3], 1)
    splits = {
        name: Split(x[rows])
        for name, rows in zip(("train", "validation", "test"), torch.arange(300).split(100), strict=True)
    }
    return Dataset(name="pairs", space=Space.tokens(2, 3), split="by position", **splits)


# -- the codes


def test_codes_are_made_once_and_kept(cache: Path) -> None:
    first = autoencoder()
    model = two_stage("gmm", first, POINTS, components=1)
    z, _ = coded(model, POINTS).train.batch(torch.arange(64))
    with torch.no_grad():
        assert torch.allclose(z, first.encode(POINTS.train.x), atol=1e-6)
    first.encode = None  # type: ignore[assignment]
    assert torch.equal(coded(model, POINTS).train.batch(torch.arange(64))[0], z)
    assert len(list(cache.rglob("codes-*.npy"))) == 2


def test_other_weights_other_data_and_other_conditions_have_other_codes() -> None:
    first, keys = autoencoder(), set()
    keys.add(key(first, POINTS.train))
    keys.add(key(first, POINTS.validation))
    assert key(autoencoder(), POINTS.train) in keys
    late = POINTS.train.x.clone()
    late[-1, -1] += 1
    keys.add(key(first, replace(POINTS.train, x=late)))
    with torch.no_grad():
        list(first.parameters())[-1][-1] += 1
    keys.add(key(first, POINTS.train))
    conditional = create("vae", POINTS.space, Space.categories(3), latent=2).eval()
    keys |= {key(conditional, replace(POINTS.train, y=y)) for y in (POINTS.train.y, POINTS.train.y.flip(0))}
    assert len(keys) == 6


def test_a_random_encoder_draws_codes_anew() -> None:
    model, rows = two_stage("gmm", vae(), POINTS), torch.arange(64)
    data = coded(model, POINTS)
    draws = torch.stack([data.train.batch(rows)[0] for _ in range(2000)])
    with torch.no_grad():
        mu, log_sigma = model.first_stage.posterior(POINTS.train.x)
    assert ((draws.mean(0) - mu).abs() < 5 * log_sigma.exp() / 2000**0.5).all()
    assert torch.allclose(draws.std(0), log_sigma.exp(), rtol=5 * 0.5**0.5 / 2000**0.5)


def test_a_drawn_code_is_of_the_examples_own_condition(monkeypatch: pytest.MonkeyPatch) -> None:
    y = torch.arange(len(POINTS.train)) % 3
    labelled = replace(POINTS, condition=Space.categories(3), train=Split(POINTS.train.x, y))
    first = create("vae", POINTS.space, Space.categories(3), latent=2, hidden=8)
    monkeypatch.setattr(first, "sample_code", lambda x, y: y[:, None].expand(-1, 2) + 0.5)
    rows = torch.tensor([7, 2, 5])
    z, given = coded(two_stage("gmm", first, labelled), labelled).train.batch(rows)
    assert torch.equal(z, y[rows, None].expand(3, 2) + 0.5)
    assert torch.equal(given, y[rows])  # type: ignore[arg-type]


def test_codes_of_examples_that_change_are_made_anew() -> None:
    moved = replace(POINTS.train, transform=lambda x, generator: x + torch.rand_like(x))
    data = coded(two_stage("gmm", autoencoder(), POINTS), replace(POINTS, train=moved))
    assert not torch.equal(data.train.batch(torch.arange(4))[0], data.train.batch(torch.arange(4))[0])


def test_the_priors_space_has_the_codes_location_and_scale() -> None:
    first = autoencoder()
    space = two_stage("gmm", first, POINTS).prior.space
    with torch.no_grad():
        z = first.encode(POINTS.train.x)
    assert torch.allclose(torch.tensor(space.loc), z.mean(0), atol=1e-5)
    assert torch.allclose(torch.tensor(space.scale), z.std(0), rtol=1e-4)


def test_the_moments_are_of_random_examples_in_evaluation_mode_and_of_noise_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kills: the first examples, noise of the caller's, a first stage in training mode, for kept codes too."""
    monkeypatch.setattr(codes, "MOMENTS", 10)
    first_stage = autoencoder()
    z = first_stage.encode(POINTS.train.x[dgm.data.order(len(POINTS.train), 0, 0)[:10]]).double()
    assert codes.standardised(first_stage, POINTS).loc == pytest.approx(z.mean(0).tolist(), rel=1e-5)
    random, found = vae(), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append((codes.standardised(random, POINTS), torch.rand(())))
    assert found[0][0] == found[1][0]
    torch.manual_seed(2)
    assert found[1][1] == torch.rand(())
    modes, encode = [], first_stage.encode
    monkeypatch.setattr(first_stage, "encode", lambda *given: (modes.append(first_stage.training), encode(*given))[1])
    first_stage.train()
    codes.standardised(first_stage, POINTS)
    codes.of_split(first_stage, POINTS.train)
    assert set(modes) == {False}


def test_what_all_codes_share_has_a_scale_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    first = autoencoder()
    monkeypatch.setattr(first, "encode", lambda x, y=None: torch.cat([x[:, :1], 3 + 0 * x[:, :1]], 1))
    space = two_stage("gmm", first, POINTS).prior.space
    assert space.loc == pytest.approx((float(POINTS.train.x[:, 0].mean()), 3.0))
    assert space.scale == pytest.approx((float(POINTS.train.x[:, 0].std()), 1.0))


def test_units_that_a_first_stage_states_are_kept() -> None:
    for space in (Space.continuous((2,), scale=(3.0, 4.0)), Space.continuous((2,), low=0.0, high=1.0)):
        assert codes.standardised(SimpleNamespace(latent_space=space), POINTS) is space


def test_an_image_of_codes_has_one_scale_a_channel() -> None:
    images = torch.rand(64, 2, 4, 4) * torch.tensor([1.0, 3.0]).view(2, 1, 1)
    split, space = Split(images), Space.continuous((2, 4, 4))
    data = Dataset(name="images", space=space, train=split, validation=split, test=split, split="none")
    flow = create("realnvp", space, layers=2, hidden=8).eval()
    found = two_stage("gmm", flow, data, components=1).prior.space
    with torch.no_grad():
        z = flow.encode(images)
    scale = torch.tensor(found.scale).view(2, 16)
    assert torch.allclose(scale, z.transpose(0, 1).flatten(1).std(1)[:, None].expand(2, 16), rtol=1e-4)


def test_what_has_no_codes_of_this_data_is_refused() -> None:
    with pytest.raises(BadInput, match="states no latent space"):
        two_stage("gmm", create("gmm", POINTS.space), POINTS)
    with pytest.raises(BadInput, match="the first stage is of"):
        two_stage("gmm", create("vae", Space.continuous((3,))), POINTS)


# -- training


def test_one_gaussian_learns_the_moments_of_the_codes(tmp_path: Path) -> None:
    first = autoencoder()
    model = two_stage("gmm", first, POINTS, components=1, ridge=1e-9)
    before = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    list(fit(model, POINTS, out=tmp_path / "run"))
    torch.testing.assert_close(first.state_dict(), before, rtol=0, atol=0)
    with torch.no_grad():
        z = first.encode(POINTS.train.x)
    normal = torch.distributions.MultivariateNormal(z.mean(0), z.mT.cov(correction=0))
    assert torch.allclose(model.prior.log_prob(z), normal.log_prob(z), atol=1e-2)


@pytest.mark.parametrize("name", ["gmm on autoencoder", "realnvp on autoencoder", "realnvp on vae", "gan on vae"])
def test_a_run_that_was_cut_ends_with_the_same_bits_and_loads_by_itself(name: str, tmp_path: Path, cache: Path) -> None:
    prior, _, first = name.split()
    chosen = {"gmm": {"components": 3}, "realnvp": {"layers": 2, "hidden": 8}, "gan": {"width": 8, "latent": 2}}[prior]
    how: dict[str, Any] = {} if prior == "gmm" else {"steps": 8, "batch": 32}

    def made() -> TwoStage:
        torch.manual_seed(0)
        return two_stage(prior, {"vae": vae, "autoencoder": autoencoder}[first](), POINTS, **chosen)

    whole = made()
    list(fit(whole, POINTS, out=tmp_path / "whole", **how))
    steps = fit(made(), POINTS, out=tmp_path / "cut", checkpoint_every=0.0, **how)
    for _ in range(2):
        next(steps)
    steps.close()  # as a kill does
    shutil.rmtree(cache, ignore_errors=True)
    again = dgm.runs.Run(tmp_path / "cut").untrained()
    list(fit(again, POINTS, out=tmp_path / "cut", resume=True))
    torch.testing.assert_close(again.state_dict(), whole.state_dict(), rtol=0, atol=0)
    shutil.rmtree(tmp_path / "whole")
    (tmp_path / "cut").rename(tmp_path / "elsewhere")
    loaded = dgm.load(tmp_path / "elsewhere")
    torch.testing.assert_close(loaded.state_dict(), whole.state_dict(), rtol=0, atol=0)
    assert torch.equal(loaded.sample(5, seed=0), whole.sample(5, seed=0))


def test_a_first_stage_of_buffers_makes_the_same_codes_when_its_run_goes_on(tmp_path: Path) -> None:
    """Kills: only frozen parameters are read before the codes are made."""
    data = tokens()

    def made() -> TwoStage:
        torch.manual_seed(0)
        codec = Shuffle(data.space, Shuffle.Config())
        codec.table.copy_(torch.tensor([2, 0, 1]))  # as if it was learnt
        return two_stage("made", codec, data, hidden=8)

    whole = made()
    list(fit(whole, data, out=tmp_path / "whole", steps=8))
    steps = fit(made(), data, out=tmp_path / "cut", checkpoint_every=0.0, steps=8)
    for _ in range(4):
        next(steps)
    steps.close()
    again = dgm.runs.Run(tmp_path / "cut").untrained(Shuffle)
    list(fit(again, data, out=tmp_path / "cut", resume=True))
    torch.testing.assert_close(again.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_a_run_that_has_not_ended_loads_with_its_first_stage(tmp_path: Path) -> None:
    steps = fit(two_stage("realnvp", vae(), POINTS, layers=2), POINTS, out=tmp_path, checkpoint_every=0.0, steps=9)
    next(steps)
    next(steps)
    steps.close()
    torch.testing.assert_close(dgm.load(tmp_path).first_stage.state_dict(), vae().state_dict(), rtol=0, atol=0)


def test_tokens_of_a_users_own_codec(tmp_path: Path) -> None:
    data = tokens()
    torch.manual_seed(0)
    model = two_stage("made", Shuffle(data.space, Shuffle.Config()), data, hidden=16)
    before = log_likelihood(model, data.test.x).nats.mean()
    list(fit(model, data, out=tmp_path / "run", steps=200, lr=1e-2))
    likelihood = log_likelihood(model, data.test.x)
    assert likelihood.kind is Kind.EXACT
    assert likelihood.nats.mean() > before + 0.3
    assert registry.title(registry.describe(model)) == f"made on {Shuffle.__module__}:Shuffle"
    with pytest.raises(BadInput, match="--trust"):
        dgm.load(tmp_path / "run")
    loaded = dgm.load(tmp_path / "run", model=Shuffle)
    assert torch.equal(loaded.sample(20, seed=0), model.sample(20, seed=0))


def test_a_prior_takes_the_condition_of_the_data() -> None:
    data = replace(POINTS, condition=Space.categories(3))
    model = two_stage("realnvp", vae(), data, data.condition, layers=2)
    list(fit(model, data, steps=3))
    assert model.condition == data.condition
    assert len(dgm.sample(model, 4, 2)) == 4
    with pytest.raises(BadInput, match="takes no condition"):
        two_stage("gmm", vae(), data, data.condition)
