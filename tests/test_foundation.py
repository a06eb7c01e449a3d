"""Spaces, likelihoods, seeds, settings, the registry: what everything else leans on."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dgm import registry
from dgm.contracts import all_examples, perturbed
from dgm.errors import BadInput, UnknownName, Unsupported
from dgm.likelihood import Kind, Likelihood, evaluation_batch, log_likelihood
from dgm.models.table import MODELS
from dgm.registry import create, describe, from_description, model_class
from dgm.settings import build, seconds
from dgm.space import Space
from dgm.training import Settings


class TestSpace:
    def test_json_round_trip(self) -> None:
        for space in (
            Space.binary((1, 4, 4)),
            Space.tokens(5, 7),
            Space.continuous((2,), loc=(1.0, 2.0), scale=(0.5, 3.0)),
            Space.continuous((3,), low=-1.0, high=2.0),
            Space.categories(10),
            Space.categories(1),
            Space.categories(3, shape=(4,)),
            Space.binary(()),
            Space.continuous((), low=-1.0, high=2.0, loc=(0.5,)),
        ):
            assert Space.from_json(json.loads(json.dumps(space.to_json()))) == space

    @pytest.mark.parametrize("space", [Space.categories(3), Space.levels((), 3), Space.tokens((), 3)])
    def test_a_batch_of_single_numbers_has_one_dimension(self, space: Space) -> None:
        assert space.dim == 1
        y = torch.tensor([0, 2]).to(space.dtype)
        assert torch.equal(space.check(y), y)
        for wrong in (y[:, None], y + 1, y[0]):
            with pytest.raises(BadInput):
                space.check(wrong)

    @pytest.mark.parametrize(
        ("x", "said"),
        [
            (torch.zeros(2, 3), "expected examples of shape"),
            (torch.zeros(2, 2), "expected integers"),
            (torch.tensor([[0, 3]]), "from 0 to 2, got 0 to 3"),
            (torch.tensor([[-1, 0]]), "got -1 to 0"),
        ],
    )
    def test_a_batch_of_another_space_is_refused(self, x: torch.Tensor, said: str) -> None:
        with pytest.raises(BadInput, match=re.escape(said)):
            Space.levels((2,), 3).check(x)

    def test_ends_of_a_range_belong_to_it_and_small_integers_are_kept_in_bytes(self) -> None:
        for space, ends in (
            (Space.levels((2,), 256), [0, 255]),
            (Space.levels((2,), 257), [0, 256]),
            (Space.tokens(2, 4), [0, 3]),
            (Space.binary((2,)), [0, 1]),
            (Space.continuous((2,), low=-1.0, high=2.0), [-1.0, 2.0]),
        ):
            x = torch.tensor([ends]).to(space.dtype)
            assert torch.equal(space.check(x), x)
        kept = [Space.levels((1,), 256), Space.levels((1,), 257), Space.tokens(1, 4), Space.categories(4)]
        assert [space.dtype for space in kept] == [torch.uint8, torch.int64, torch.int64, torch.int64]
        assert Space.continuous(()).dtype == torch.float32
        assert Space.binary((3, 4, 5)).dim == 60
        assert Space.levels((1,), 2).values == 2, "two values are enough"
        for infinite in (math.inf, -math.inf):
            with pytest.raises(BadInput, match="infinity"):
                Space.continuous((1,)).check(torch.tensor([[0.0], [infinite]]))

    def test_nan_and_bounds(self) -> None:
        with pytest.raises(BadInput, match="NaN"):
            Space.continuous((1,)).check(torch.tensor([[math.nan]]))
        with pytest.raises(BadInput, match=r"from 0\.0 to 1\.0"):
            Space.continuous((1,), low=0.0, high=1.0).check(torch.tensor([[1.5]]))

    def test_nonsense_is_refused(self) -> None:
        for make in (
            lambda: Space.levels((2,), 1),
            lambda: Space.continuous((0,)),
            lambda: Space.continuous((2,), low=1.0, high=0.0),
            lambda: Space.continuous((2,), scale=(1.0,)),
            lambda: Space.continuous((1,), scale=(0.0,)),
        ):
            with pytest.raises(BadInput):
                make()


class TestLikelihood:
    def test_units(self) -> None:
        """A fair choice among 256 values is 8 bits a dimension and a perplexity of 256."""
        fair = Likelihood(torch.full((3,), -12 * math.log(256)), Kind.EXACT, "", dim=12)
        assert fair.bits_per_dim.tolist() == pytest.approx([8, 8, 8])
        assert fair.perplexity.item() == pytest.approx(256, rel=1e-5)

    def test_perplexity_is_of_the_mean_and_not_a_mean(self) -> None:
        """Kills: a mean of exponentials."""
        unlike = Likelihood(torch.tensor([-2.0, -6.0]), Kind.EXACT, "", dim=2)
        assert unlike.perplexity.item() == pytest.approx(math.exp(2))
        assert unlike.bits_per_dim.tolist() == pytest.approx([1 / math.log(2), 3 / math.log(2)])

    def test_draws_are_averaged_where_their_kind_says(self) -> None:
        """Weights as probabilities, bounds and estimates as logarithms, and both an example at a time.

        Kills: a mean over the batch, the logarithm of a mean for the mean of logarithms or the reverse, log K left out.
        """
        drawn = [torch.tensor([-1.0, -10.0]), torch.tensor([-3.0, -10.0]), torch.tensor([-8.0, -40.0])]
        of_logs = torch.tensor([-4.0, -20.0])
        of_weights = torch.stack(drawn).double().exp().mean(0).log().float()

        def model(*methods: str) -> Any:
            left = iter(drawn)
            given = {name: lambda self, x, y=None: next(left) for name in methods}
            return type("Model", (torch.nn.Module,), {"space": Space.binary((1,)), "config": None, **given})()

        x = torch.zeros(2, 1, dtype=torch.uint8)
        for methods, kind, expected in (
            (("elbo",), Kind.LOWER_BOUND, of_logs),
            (("log_prob_estimate",), Kind.ESTIMATE, of_logs),
            (("elbo", "log_weight"), Kind.LOWER_BOUND, of_weights),
        ):
            found = log_likelihood(model(*methods), x, draws=3)
            assert found.kind is kind
            assert torch.allclose(found.nats, expected)

    def test_one_without_a_likelihood_says_who_has_one(self) -> None:
        space = Space.levels((1, 8, 8), 17)
        x = all_examples(Space.levels((1, 1, 1), 2)).expand(-1, 1, 8, 8)
        with pytest.raises(Unsupported, match=r"GAN has no likelihood.*made, .*vae"):
            log_likelihood(create("gan", space), x)
        with pytest.raises(Unsupported, match=r"Autoencoder has no likelihood: an autoencoder does not define p\(x\)"):
            log_likelihood(create("autoencoder", space), x)

    def test_draws_tighten_importance_weights(self) -> None:
        space = Space.binary((1, 4, 4))
        x = torch.zeros(256, 1, 4, 4, dtype=torch.uint8)
        vae = perturbed(create("vae", space, latent=2))
        one, many = log_likelihood(vae, x), log_likelihood(vae, x, draws=50)
        assert one.kind is many.kind is Kind.LOWER_BOUND
        assert "K = 50" in many.method
        assert many.nats.mean() > one.nats.mean()
        weights = torch.stack([vae.log_weight(x[:1]) for _ in range(4000)]).detach()
        assert many.nats.mean().item() == pytest.approx((weights.logsumexp(0) - math.log(4000)).item(), abs=0.05)

    def test_unnormalised_is_minus_the_energy(self) -> None:
        ebm = create("ebm", Space.continuous((2,)))
        x = torch.randn(5, 2)
        found = log_likelihood(ebm, x)
        assert found.kind is Kind.UNNORMALISED
        assert torch.allclose(found.nats, -ebm.energy(x))


class TestSettings:
    def test_errors_teach(self) -> None:
        config = model_class("vae").Config
        with pytest.raises(UnknownName, match="did you mean 'latent'"):
            build(config, {"latnt": 3}, what="vae")
        renamed = "'unlabelled' was renamed to 'condition_dropout'; use the new name"
        with pytest.raises(UnknownName, match=renamed):
            build(model_class("ddpm").Config, {"unlabelled": 0.2}, what="ddpm")
        with pytest.raises(UnknownName, match="no option of vae is called 'unlabelled'"):
            build(config, {"unlabelled": 0.2}, what="vae")
        with pytest.raises(UnknownName, match="'classes'; the condition is a space now: train with --conditional"):
            build(config, {"classes": 10}, what="vae")
        with pytest.raises(UnknownName, match="'r1_every' was renamed to 'penalty_every'"):
            build(model_class("gan").Config, {"r1_every": 4}, what="gan")
        with pytest.raises(BadInput, match="latent must be at least 1, got 0"):
            build(config, {"latent": 0}, what="vae")
        with pytest.raises(BadInput, match="latent must be a whole number, got 'x'; its default is 16"):
            build(config, {"latent": "x"}, what="vae")
        with pytest.raises(BadInput, match="latent must be a whole number, got True"):
            build(config, {"latent": True}, what="vae")
        with pytest.raises(BadInput, match="latent must be below 2\\^63, got 1000"):
            build(config, {"latent": 10**30}, what="vae")
        for value in (float("nan"), float("inf"), -float("inf"), 10**400):
            with pytest.raises(BadInput, match="training's lr must be a finite number, got"):
                build(Settings, {"lr": value}, what="training")

    @pytest.mark.parametrize(("text", "value"), [("60s", 60), ("2m", 120), ("1h", 3600), ("1.5", 1.5)])
    def test_seconds(self, text: str, value: float) -> None:
        assert seconds(text) == value

    def test_seconds_refuses(self) -> None:
        for text in ("soon", "inf", "nan", "0", "-3s", "1e400", "9000h", ""):
            with pytest.raises(BadInput, match="60s, 5m or 2h"):
                seconds(text)


class TestRegistry:
    def test_unknown_model(self) -> None:
        with pytest.raises(UnknownName, match="did you mean 'realnvp'"):
            create("realnpv", Space.binary((2,)))

    def test_a_space_that_a_model_does_not_take(self) -> None:
        with pytest.raises(BadInput, match="tokens"):
            create("vae", Space.tokens(4, 5))

    @pytest.mark.parametrize("name", MODELS)
    def test_description_round_trip(self, name: str) -> None:
        model = create(name, Space.tokens(8, 17) if name == "char_gpt" else Space.levels((1, 8, 8), 17))
        described = describe(model)
        assert describe(from_description(described)) == described
        assert registry.trained(described)["name"] == registry.title(described) == name

    def test_a_class_by_its_path(self) -> None:
        by_path = create("dgm.models.vae.vae:VAE", Space.binary((4,)), latent=2)
        assert describe(by_path)["name"] == "vae"
        with pytest.raises(BadInput, match="cannot be imported"):
            create("nowhere.at:All", Space.binary((4,)))
        with pytest.raises(BadInput, match="needs to be a class with a Config"):
            create("dgm.space:Space", Space.binary((4,)))

    def test_others_models_join_by_entry_point(self, tmp_path: Path) -> None:
        """A package with an entry point, installed beside dgm, which knows nothing of it."""
        package = Path(__file__).parent / "plugin_package"
        info = tmp_path / "uniform_model-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: uniform-model\nVersion: 1.0\n", encoding="utf-8")
        (info / "entry_points.txt").write_text("[dgm.models]\nuniform = uniform_model:Uniform\n", encoding="utf-8")
        environment = os.environ | {"PYTHONPATH": f"{package}{os.pathsep}{tmp_path}"}
        for command in (["models"], ["check", "uniform"]):
            done = subprocess.run(
                [sys.executable, "-m", "dgm", *command], env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert "uniform" in done.stdout or "0 are broken" in done.stdout


@pytest.mark.parametrize("module", ["dgm", "dgm.registry", "dgm.cli.main", "dgm.cli.models"])
def test_no_torch_is_imported_by(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_there_are_as_many_labels_as_samples() -> None:
    model = create("made", Space.binary((4,)), Space.categories(3), hidden=8)
    with pytest.raises(BadInput, match="expected 5 labels, one a sample, got 2"):
        model.sample(5, torch.tensor([0, 1]), seed=0)


@pytest.mark.parametrize(("dim", "examples"), [(2, 512), (64, 512), (784, 83), (3072, 21), (100_000, 16)])
def test_a_pass_takes_as_many_examples_as_memory_is_kept_for(dim: int, examples: int) -> None:
    model = create("made", Space.binary((dim,)), hidden=1)
    assert evaluation_batch(model) == examples
    assert evaluation_batch(model.to("meta")) == 512
