"""Two stages against closed forms: linear-Gaussian first stages, flows, codecs of tokens, and the laws of all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from codecs_of_tests import Shuffle
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal

import dgm
from dgm import contracts, registry
from dgm.contracts import Outcome, perturbed
from dgm.errors import BadInput, Unsupported
from dgm.likelihood import Kind, kind_of, kinds_of, log_likelihood
from dgm.models.two_stage import TwoStage
from dgm.protocols import ImportanceWeighted, Invertible, Model, Variational, has
from dgm.registry import create
from dgm.samplers import sequential
from dgm.seeds import streams
from dgm.space import Space

BITS, PLANE = Space.binary((3,)), Space.continuous((2,))
DRAWS = 4000
W, B, S = torch.tensor([[1.0, 0.5], [-0.3, 0.8], [0.2, 0.1]]), torch.tensor([0.1, -0.2, 0.3]), 0.7
MEAN, COVARIANCE = torch.tensor([0.4, -0.6]), torch.tensor([[0.5, 0.2], [0.2, 0.9]])


@dataclass(frozen=True)
class Config:
    pass


class Linear(nn.Module):
    """p(x|z) = N(W z + b, S² I) and q(z|x) = N(A x + c, L L^T)."""

    Config = Config
    latent_space = PLANE

    def __init__(self, space: Space, config: Config, a: Tensor, c: Tensor, factor: Tensor) -> None:
        super().__init__()
        self.space, self.config, self.a, self.c, self.factor = space, config, a, c, factor

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return x @ self.a.mT + self.c

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return z @ W.mT + B

    def sample_code(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return MultivariateNormal(self.encode(x), scale_tril=self.factor).sample()

    def code_and_log_ratio(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z = self.sample_code(x)
        log_q = MultivariateNormal(self.encode(x), scale_tril=self.factor).log_prob(z)
        return z, Normal(self.decode(z), S).log_prob(x).sum(1) - log_q

    def sample_given_code(self, z: Tensor, y: Tensor | None = None, *, seed: Any = None) -> Tensor:
        return self.decode(z) + S * streams(len(z), seed).normal((3,))


class Halves(nn.Module):
    """As a quantising first stage has it: codes x // 2 of levels x, and p(x|z) with a little mass beside the two."""

    Config = Config
    deterministic_codes = True

    def __init__(self, space: Space, config: Config) -> None:
        super().__init__()
        self.space, self.config = space, config
        self.latent_space = Space.tokens(space.shape, (space.values or 0) // 2)

    def logits(self, z: Tensor) -> Tensor:
        near = torch.arange(self.space.values or 0) // 2 == z[..., None]
        return torch.where(near, 3.0, 0.0) + 0.1 * torch.arange(self.space.values or 0)

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return x.long() // 2

    sample_code = encode

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.logits(z).argmax(-1).to(self.space.dtype)

    def code_and_log_ratio(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_p = self.logits(self.encode(x)).log_softmax(-1).gather(-1, x.long()[..., None])
        return self.encode(x), log_p.flatten(1).sum(1)

    def sample_given_code(self, z: Tensor, y: Tensor | None = None, *, seed: Any = None) -> Tensor:
        return streams(len(z), seed).categorical(self.logits(z)).to(self.space.dtype)


def normal(mean: Tensor, covariance: Tensor) -> Model:
    """N(mean, covariance), as a mixture of one."""
    model = create("gmm", Space.continuous((len(mean),)), components=1)
    model.means.copy_(mean[None])
    model.covariances.copy_(covariance[None])
    return model


def posterior() -> tuple[Tensor, Tensor, Tensor]:
    """A, c and the factor of the exact posterior under the prior N(MEAN, COVARIANCE)."""
    precision = COVARIANCE.inverse() + W.mT @ W / S**2
    covariance = precision.inverse()
    a = covariance @ W.mT / S**2
    c = covariance @ (COVARIANCE.inverse() @ MEAN - W.mT @ B / S**2)
    return a, c, torch.linalg.cholesky(covariance)


def marginal() -> MultivariateNormal:
    return MultivariateNormal(W @ MEAN + B, W @ COVARIANCE @ W.mT + S**2 * torch.eye(3))


def linear(a: Tensor, c: Tensor, factor: Tensor) -> TwoStage:
    first = Linear(Space.continuous((3,)), Config(), a, c, factor)
    return TwoStage.of(first, normal(MEAN, COVARIANCE))


def test_under_the_exact_posterior_every_draw_of_the_bound_is_the_density() -> None:
    model, x = linear(*posterior()), torch.randn(20, 3)
    expected = marginal().log_prob(x)
    assert torch.allclose(model.elbo(x), expected, atol=1e-4)
    assert torch.allclose(model.log_weight(x), expected, atol=1e-4)


def test_the_bound_is_below_by_the_divergence_of_the_posteriors() -> None:
    a, c, factor = posterior()
    model, x = linear(a, c + 0.3, 0.8 * factor), torch.randn(3, 3)
    draws = model.elbo(x.repeat(DRAWS, 1)).view(DRAWS, 3)
    exact, ours = (
        MultivariateNormal(x @ a.mT + off, scale_tril=f) for off, f in ((c, factor), (c + 0.3, 0.8 * factor))
    )
    gap = torch.distributions.kl_divergence(ours, exact)
    error = draws.std(0) / math.sqrt(DRAWS)
    assert (gap > 0.1).all()
    assert ((draws.mean(0) - (marginal().log_prob(x) - gap)).abs() < 5 * error).all()


def test_samples_have_the_moments_of_the_marginal() -> None:
    x = linear(*posterior()).sample(20_000, seed=0)
    expected = marginal()
    assert torch.allclose(x.mean(0), expected.mean, atol=5 * 1.3 / math.sqrt(20_000))
    assert torch.allclose(x.mT.cov(), expected.covariance_matrix, atol=5 * 2 / math.sqrt(20_000))


def test_with_the_standard_normal_the_bound_is_the_vaes_own() -> None:
    vae = perturbed(create("vae", BITS, latent=2, hidden=8))
    model, x = TwoStage.of(vae, normal(torch.zeros(2), torch.eye(2))), contracts.all_examples(BITS)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = vae.log_weight(x)
        torch.manual_seed(0)
        assert torch.allclose(model.log_weight(x), weights, atol=1e-5)
    with torch.no_grad():
        ours, own = (bound(x.repeat(DRAWS, 1)).view(DRAWS, -1) for bound in (model.elbo, vae.elbo))
    error = (ours.var(0) + own.var(0)).sqrt() / math.sqrt(DRAWS)
    assert ((ours.mean(0) - own.mean(0)).abs() < 5 * error).all()


def flow(space: Space, **config: Any) -> Model:
    return perturbed(create("realnvp", space, layers=2, hidden=8, **config))


def model_of(name: str) -> TwoStage:
    torch.manual_seed(0)
    levels, tokens = Space.levels((1,), 6), Space.tokens(3, 3)
    match name:
        case "flow, gmm":
            return TwoStage.of(flow(PLANE), create("gmm", PLANE, components=3))
        case "bounded flow, realnvp":
            return TwoStage.of(flow(Space.continuous((2,), low=0.0, high=4.0)), flow(PLANE))
        case "dequantised flow, gmm":
            return TwoStage.of(flow(Space.levels((2,), 4)), create("gmm", PLANE, components=2))
        case "vae, gmm":
            vae = perturbed(create("vae", BITS, latent=2, hidden=8))
            return TwoStage.of(vae, normal(torch.tensor([0.5, -0.5]), torch.tensor([[0.8, 0.3], [0.3, 0.6]])))
        case "vae, ddpm":
            vae = perturbed(create("vae", BITS, latent=2, hidden=8))
            return TwoStage.of(vae, perturbed(create("ddpm", PLANE, width=8, timesteps=10)))
        case "autoencoder, gmm":
            first = create("autoencoder", Space.continuous((3,)), latent=2, hidden=8)
            return TwoStage.of(perturbed(first), create("gmm", PLANE))
        case "shuffled tokens, made":
            return TwoStage.of(Shuffle(tokens, Shuffle.Config()), perturbed(create("made", tokens, hidden=8)))
        case "shuffled tokens, image_gpt":
            prior = create("image_gpt", tokens, width=16, layers=1, heads=2)
            return TwoStage.of(Shuffle(tokens, Shuffle.Config()), perturbed(prior))
        case "halved levels, masked_diffusion":
            prior = create("masked_diffusion", Space.tokens(1, 3), width=16, layers=1)
            return TwoStage.of(Halves(levels, Config()), perturbed(prior))
        case "halved levels, made":
            return TwoStage.of(Halves(levels, Config()), perturbed(create("made", Space.tokens(1, 3), hidden=8)))
        case "flow, gan":
            return TwoStage.of(flow(PLANE), perturbed(create("gan", PLANE, width=8)))
        case "flow, ebm":
            return TwoStage.of(flow(PLANE), perturbed(create("ebm", PLANE, width=8)))
    raise AssertionError(name)


KINDS = {
    "flow, gmm": [Kind.EXACT],
    "bounded flow, realnvp": [Kind.EXACT],
    "dequantised flow, gmm": [Kind.LOWER_BOUND],
    "vae, gmm": [Kind.LOWER_BOUND],
    "vae, ddpm": [Kind.LOWER_BOUND, Kind.ESTIMATE],
    "autoencoder, gmm": [],
    "shuffled tokens, made": [Kind.EXACT],
    "shuffled tokens, image_gpt": [Kind.EXACT],
    "halved levels, masked_diffusion": [Kind.LOWER_BOUND],
    "halved levels, made": [Kind.LOWER_BOUND],
    "flow, gan": [],
    "flow, ebm": [Kind.UNNORMALISED],
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "vae, ddpm")) for name in KINDS]
)
def test_the_kind_follows_from_the_stages_and_all_laws_hold(name: str) -> None:
    model = model_of(name)
    assert kinds_of(model) == KINDS[name]
    results = {result.law: result for result in contracts.check(model)}
    broken = {law: result.detail for law, result in results.items() if result.outcome is Outcome.BROKEN}
    assert not broken
    passed = " ".join(law for law, result in results.items() if result.passed)
    assert ("sum" in passed) == (kind_of(model) in (Kind.EXACT, Kind.LOWER_BOUND))


def test_how_it_was_computed_is_said() -> None:
    likelihood = log_likelihood(model_of("flow, gmm"), torch.zeros(2, 2))
    assert likelihood.method == "change of variables, prior: closed form"
    model, x = model_of("vae, ddpm"), contracts.all_examples(BITS)
    assert (
        log_likelihood(model, x).method == "evidence lower bound, prior: variational bound, one step drawn of T, 1 draw"
    )
    assert "ODE" in log_likelihood(model, x, kind="estimate").method
    with pytest.raises(Unsupported, match="x has no density given its code"):
        log_likelihood(model_of("autoencoder, gmm"), torch.zeros(2, 3))


@pytest.mark.parametrize("name", ["vae, gmm", "dequantised flow, gmm"])
def test_samples_have_the_frequencies_of_the_weights(name: str) -> None:
    model, n = model_of(name), 20_000
    x = contracts.all_examples(model.space)
    with torch.no_grad():
        draws = model.log_weight(x.repeat(DRAWS, 1)).exp().view(DRAWS, -1)
    place = (model.space.values or 0) ** torch.arange(model.space.dim)
    number, table = ((x.flatten(1).long() * place).sum(1) for x in (model.sample(n, seed=0), x))
    share = torch.stack([(number == k).double().mean() for k in table])
    p = draws.mean(0) / draws.mean(0).sum()  # a dequantised flow has mass outside the box of the levels
    error = (p * (1 - p) / n + draws.var(0) / DRAWS).sqrt()
    assert ((share - p).abs() < 5 * error + 1e-3).all()


@pytest.mark.parametrize("name", ["dequantised flow, gmm", "vae, ddpm"])
def test_its_description_makes_it_again(name: str) -> None:
    model = model_of(name)
    described = registry.describe(model)
    again = registry.from_description(described)
    assert registry.describe(again) == described
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval().sample(4, seed=0), model.sample(4, seed=0))


def test_its_title_names_both() -> None:
    described = registry.describe(model_of("dequantised flow, gmm"))
    assert (registry.title(described), registry.trained(described)["name"]) == ("gmm on realnvp", "gmm")
    assert list(registry.names_in(described)) == ["two_stage", "dequantised", "realnvp", "gmm"]


def test_the_first_stage_is_frozen() -> None:
    model = model_of("vae, gmm").train()
    assert not model.first_stage.training
    assert not any(parameter.requires_grad for parameter in model.first_stage.parameters())
    assert model.prior.training
    dropout = TwoStage.of(flow(PLANE, dropout=0.5), flow(PLANE)).train()
    assert torch.equal(dropout.sample_code(torch.ones(5, 2)), dropout.encode(torch.ones(5, 2)))


def test_the_prior_is_trained_on_draws_of_the_posterior() -> None:
    """Kills: its means, which are less spread than the codes."""
    model, x = model_of("vae, gmm"), contracts.all_examples(BITS)
    torch.manual_seed(0)
    z, _ = model.for_part(x, None)
    torch.manual_seed(0)
    assert torch.equal(z, model.first_stage.sample_code(x))
    assert not torch.equal(z, model.encode(x))


@pytest.mark.slow
def test_each_conditional_stage_takes_the_condition() -> None:
    labels, y = Space.categories(3), torch.tensor([0, 1, 2, 2])
    x = contracts.all_examples(BITS)[:4]
    prior, first = create("realnvp", PLANE, labels, layers=2), create("vae", BITS, labels, latent=2, hidden=8)
    for vae, of_codes in ((first, prior), (first, flow(PLANE)), (create("vae", BITS, latent=2), prior)):
        model = TwoStage.of(perturbed(vae), perturbed(of_codes))
        assert model.condition == labels
        assert registry.describe(registry.from_description(registry.describe(model))) == registry.describe(model)
        ours, others = (log_likelihood(model, x, y, draws=500).nats for y in (y, (y + 1) % 3))
        assert ((ours - others).abs() > 1e-3).any()
        assert len(model.sample(4, seed=0)) == len(model.sample(4, y, seed=0)) == 4
        assert model.loss(x, y).shape == (4,)


def test_every_likelihood_of_the_prior_is_under_the_condition() -> None:
    """Kills: the condition left out, or log |det dz/dx| with the other sign, in any of them."""
    prior = create("flow_matching", PLANE, Space.categories(3), width=8)
    model, x, y = TwoStage.of(flow(PLANE), prior), torch.randn(4, 2), torch.tensor([0, 1, 2, 2])
    names = ("log_prob", "elbo", "log_weight", "log_prob_estimate", "energy")
    for name in names:
        setattr(prior, name, lambda z, y: y.to(z))
    ladj = model.encode_and_ladj(x)[1]
    for name in names:
        torch.testing.assert_close(getattr(model, name)(x, y), y - ladj if name == "energy" else y + ladj)


def test_codes_are_sampled_under_the_condition() -> None:
    """Kills: the condition left out, where the prior has one or it is drawn."""
    prior, y, z = create("realnvp", PLANE, Space.categories(3), layers=2), torch.tensor([0, 1, 2, 2]), torch.randn(4, 2)
    model, given = TwoStage.of(flow(PLANE), prior), list[Any]()
    prior.sample = lambda n, y, *, seed: given.append(y) or z
    assert torch.equal(model.drawn(4, y, seed=0)[0], z)
    assert torch.equal(given[0], y)
    drawn = model.drawn(4, None, seed=0)[1]
    assert torch.equal(given[1], drawn)


def test_stages_that_do_not_fit_are_refused() -> None:
    vae = create("vae", BITS, latent=2)
    with pytest.raises(BadInput, match="does not fit"):
        TwoStage.of(vae, create("gmm", Space.continuous((3,))))
    with pytest.raises(BadInput, match="states no latent space"):
        TwoStage.of(create("gmm", PLANE), create("gmm", PLANE))
    with pytest.raises(BadInput, match="conditional on"):
        TwoStage.of(create("vae", BITS, Space.categories(2), latent=2), create("realnvp", PLANE, Space.categories(3)))
    with pytest.raises(BadInput, match="neither stage"):
        TwoStage(BITS, TwoStage.Config(), Space.categories(2), first_stage=vae, prior=create("gmm", PLANE))


def test_capabilities_of_codes_are_the_first_stages() -> None:
    assert has(model_of("flow, gan"), Invertible)
    assert has(model_of("vae, ddpm"), Variational)
    assert not has(model_of("autoencoder, gmm"), Variational)


def test_a_point_mass_of_codes_has_a_bound_and_no_weights() -> None:
    model, x = model_of("halved levels, made"), contracts.all_examples(Space.levels((1,), 6))
    z = torch.arange(3)[:, None]
    with torch.no_grad():
        p_z = model.prior.log_prob(z).exp()
        given = model.first_stage.logits(z)[:, 0].softmax(-1)
        assert torch.allclose(model.elbo(x).exp(), (p_z[:, None] * given)[x[:, 0].long() // 2, x[:, 0].long()])
        assert (model.elbo(x).exp() < p_z @ given).all()
    assert not has(model, ImportanceWeighted)


def test_a_solver_and_guidance_are_the_priors() -> None:
    first, prior, weak = create("autoencoder", PLANE, latent=2), *(create("ddpm", PLANE, width=8) for _ in range(2))
    model, weak_model = TwoStage.of(first, perturbed(prior)), TwoStage.of(first, perturbed(weak))
    for how in (
        {"solver": "heun", "sampling_steps": 4},
        {"eta": 0.5, "sampling_steps": 4},
        {"guidance": dgm.Guidance(scale=2.0, weak=weak_model), "sampling_steps": 4},
    ):
        x = dgm.sample(model, 5, seed=1, **how)
        bare = how | ({"guidance": dgm.Guidance(scale=2.0, weak=weak)} if "guidance" in how else {})
        with torch.no_grad():
            assert torch.allclose(x, first.decode(dgm.sample(prior, 5, seed=1, **bare)), atol=1e-5)
    with pytest.raises(Unsupported, match="is not a denoising model"):
        dgm.sample(model_of("vae, gmm"), 2, solver="heun")


def test_the_mean_goes_with_a_solver() -> None:
    model = model_of("vae, ddpm")
    prior = dgm.sample(model.prior, 40, seed=1, solver="heun", sampling_steps=3)
    x = dgm.sample(model, 40, seed=1, solver="heun", sampling_steps=3, mean=True)
    with torch.no_grad():
        assert torch.equal(x, model.decode(prior))
    assert not torch.equal(x, dgm.sample(model, 40, seed=1, solver="heun", sampling_steps=3))
    flow = create("realnvp", BITS, layers=2)
    with pytest.raises(Unsupported, match="no decoder"):
        dgm.sample(flow, 2, mean=True)


def test_decoding_options_are_the_priors() -> None:
    model = model_of("shuffled tokens, made")
    decoding = dgm.DecodingOptions(temperature=0.5)
    x = dgm.sample(model, 50, seed=1, decoding=decoding)
    assert torch.equal(x, model.decode(dgm.sample(model.prior, 50, seed=1, decoding=decoding)))


def test_states_on_the_way_are_decoded() -> None:
    model = model_of("vae, ddpm")
    *_, before, last = dgm.trajectory(model, 3, seed=2)
    assert torch.equal(last.x, dgm.sample(model, 3, seed=2))
    assert before.x.shape == last.x.shape


def test_a_table_knows_its_family() -> None:
    described = registry.describe(model_of("dequantised flow, gmm"))
    assert registry.family(described) == "two stages"
    assert registry.family(described["parts"]["first_stage"]) == "flow"
    assert registry.family(described["parts"]["prior"]) == "mixture"
    assert registry.family({"name": "package.module:Mine"}) == "own model"


@torch.no_grad()
def test_a_given_upper_part_is_completed_by_the_prior_of_its_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prior is given the codes of the complete rows, and the given pixels stay as they are.

    Kills: a row of codes more or less, the codes of another example, pixels that are decoded again.
    """
    torch.manual_seed(0)
    space = Space.levels((2, 16, 8), 5)
    vq = create("vq_vae", space, codes=7, hidden=8, width=4, blocks=1).eval()
    prior = create("made", vq.latent_space, hidden=8).eval()
    model = TwoStage.of(vq, prior)
    height, width = vq.latent_space.shape[-2:]
    per_row = 16 // height
    x = torch.randint(5, (3, 2, 16, 8), dtype=torch.uint8)
    observed = 2 * 8 * (2 * per_row) + 7  # two rows of codes, three and a half pixels more
    z, count, known = model.observed_codes(x, observed)
    assert count == 2 * width
    assert int(known.sum()) == observed
    filled = x.clone()
    filled[:, :, 2 * per_row :] = x[:, :, 2 * per_row - 1 : 2 * per_row]
    assert torch.equal(z, vq.encode(filled))
    drawn = dgm.sample(model, 3, given=x, observed=observed, seed=1)
    assert torch.equal(drawn[:, known], x[:, known])
    noise = streams(3, 1, torch.device("cpu"))
    *_, codes = sequential.trajectory(prior, 3, seed=noise, given=z, observed=count)
    assert torch.equal(codes.x.flatten(1)[:, :count], z.flatten(1)[:, :count])
    assert torch.equal(drawn, torch.where(known, x, model.sample_given_code(codes.x, seed=noise)))
    last = [state.x for state in dgm.trajectory(model, 3, given=x, observed=observed, seed=1)][-1]
    assert torch.equal(last, drawn)
    monkeypatch.setattr("dgm.sampling.CHUNK", 2)
    assert torch.equal(dgm.sample(model, 3, given=x, observed=observed, seed=1), drawn)
    with pytest.raises(BadInput, match="hold no row of codes"):
        dgm.sample(model, 3, given=x, observed=3)


def test_what_cannot_be_completed_by_codes_is_refused() -> None:
    images = Space.levels((1, 4, 4), 3)
    auto = create("autoencoder", images, latent=2, hidden=8)
    with pytest.raises(Unsupported, match="cannot be given a part of x"):
        dgm.sample(TwoStage.of(auto, create("gmm", auto.latent_space)), 1, given=torch.zeros(1, 1, 4, 4), observed=8)


def test_codes_have_positions_only_where_x_has_them() -> None:
    """Kills: a look at the codes alone."""
    vq = create("vq_vae", Space.levels((1, 8, 8), 3), codes=3, hidden=4, width=4, blocks=1)
    model = TwoStage.of(vq, create("made", vq.latent_space, hidden=4))
    model.space = Space.levels((64,), 3)
    with pytest.raises(Unsupported, match="have no positions in x"):
        model.observed_codes(torch.zeros(1, 64, dtype=torch.uint8), 40)
