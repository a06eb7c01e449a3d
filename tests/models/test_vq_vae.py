"""VQ-VAE: the codebook against its closed form, the gradient and the loss against their definitions, two stages."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d

from dgm import contracts
from dgm.contracts import Outcome
from dgm.likelihood import Kind, kind_of
from dgm.models.two_stage import TwoStage
from dgm.models.vae.vq_vae import VQVAE, Codebook, straight_through
from dgm.registry import create
from dgm.seeds import streams
from dgm.space import Space

BITS = Space.binary((1, 3, 3))
SMALL: dict[str, Any] = {"codes": 5, "width": 3, "hidden": 6, "blocks": 1}


def codebook(**settings: Any) -> Codebook:
    return Codebook(VQVAE.Config(codes=4, width=2, **settings))


def test_the_codebook_starts_as_normal_vectors_that_no_example_has_counted() -> None:
    """Kills: uniform entries, another scale, counts or sums that start above 0."""
    book = Codebook(VQVAE.Config(codes=4000, width=3))
    assert stats.kstest(book.entries.flatten().numpy(), stats.norm.cdf).pvalue > 1e-6
    assert not book.counts.any()
    assert not book.sums.any()


def test_codes_of_samples_are_uniform() -> None:
    """Of one grid place and field. Kills: a last entry that is never drawn."""
    model: Any = create("vq_vae", BITS, fields=2, **SMALL)
    z, _ = model.drawn(streams(2500, 0), None)
    assert z.shape == (2500, 2, 1, 1)
    assert stats.chisquare(z.flatten().bincount(minlength=5).numpy()).pvalue > 1e-6


def test_the_networks_are_the_papers() -> None:
    """Section 4.1: strided convolutions, ReLU-3×3-ReLU-1×1 blocks, and the mirror image of that.

    Kills: a rectifier or a residual connection left out.
    """
    model: Any = create("vq_vae", Space.continuous((2, 4, 8)), fields=2, halvings=2, codes=5, width=3, hidden=6)
    model.double()

    def blocks(h: Tensor, layers: Any) -> Tensor:
        for block in layers:
            h = h + conv2d(conv2d(h.relu(), *block.conv.parameters(), padding=1).relu(), *block.last.parameters())
        return h

    first, _, second, one, two, _, last = model.encoder
    h, x = torch.randn(3, 6, 1, 2).double(), torch.randn(3, 2, 4, 8).double()
    down = conv2d(conv2d(x, *first.parameters(), stride=2, padding=1).relu(), *second.parameters(), stride=2, padding=1)
    torch.testing.assert_close(model.encoder(x), conv2d(blocks(down, [one, two]).relu(), *last.parameters()))
    one, two, _, first, _, second = model.decoder
    up = conv_transpose2d(blocks(h, [one, two]).relu(), *first.parameters(), stride=2, padding=1)
    torch.testing.assert_close(model.decoder(h), conv_transpose2d(up.relu(), *second.parameters(), stride=2, padding=1))


def test_a_label_shifts_the_first_features_of_the_decoder() -> None:
    """Kills: no shift, one of another example's label, one at some places alone."""
    model: Any = contracts.perturbed(create("vq_vae", BITS, Space.categories(4), **SMALL))
    y, z_q = torch.tensor([3, 1]), torch.randn(2, 1, *model.grid, 3)
    h = model.first(z_q[:, 0].movedim(-1, 1)) + model.bias(y)[:, :, None, None]
    assert model.bias(y).abs().min() > 0
    torch.testing.assert_close(model.outputs(z_q, y)[..., 0], model.decoder(h)[..., :3, :3])


def test_the_code_is_that_of_the_nearest_entry() -> None:
    book, z_e = codebook(), torch.randn(2, 3, 5, 2)
    distances = (z_e[..., None, :] - book.entries).norm(dim=-1)
    assert torch.equal(book.nearest(z_e), distances.argmin(-1))
    assert torch.equal(book(book.nearest(z_e)), book.entries[distances.argmin(-1)])


def test_each_entry_is_the_weighted_mean_of_its_vectors() -> None:
    r"""e_k = \sum_t \gamma^{T-t} \sum_i z_i / \sum_t \gamma^{T-t} n_t over the batches t of its vectors.

    Kills: the decay for its complement, a count of all batches, a mean of means, an entry moved that has no vector.
    """
    book, decay = codebook(decay=0.8, revival=0.0), 0.8
    before, sums, counts = book.entries.clone(), torch.zeros(4, 2), torch.zeros(4)
    for t in range(6):
        z_e, z = torch.randn(2, 3, 2), torch.randint(3, (2, 3))
        book.update(z_e, z)
        for vector, k in zip(z_e.view(-1, 2), z.flatten().tolist(), strict=True):
            sums[k] += decay ** (5 - t) * vector
            counts[k] += decay ** (5 - t)
    assert (counts[:3] > 0).all()
    torch.testing.assert_close(book.entries[:3], sums[:3] / counts[:3, None])
    assert torch.equal(book.entries[3], before[3])


def test_an_entry_that_is_hardly_used_becomes_a_vector_of_the_batch() -> None:
    book, z_e = codebook(revival=0.5), torch.randn(2, 4, 2)
    book.update(z_e, torch.tensor([[0, 0, 0, 0], [1, 1, 1, 1]]))
    torch.testing.assert_close(book.entries[:2], z_e.mean(1))
    assert all((z_e == entry).all(-1).any() for entry in book.entries[2:])
    assert not torch.equal(book.entries[2], book.entries[3])
    assert torch.equal(book.counts, torch.full((4,), book.counts[0]).mul_(torch.tensor([1, 1, 0.5, 0.5])))


def test_the_gradient_of_the_entry_is_that_of_the_vector() -> None:
    """dL/dz_e is dL/dz_q, at the entry and not at the vector."""
    z_e, e = torch.randn(3, 2, requires_grad=True), torch.randn(3, 2, requires_grad=True)
    z_q = straight_through(z_e, e)
    torch.testing.assert_close(z_q, e)
    z_q.pow(3).sum().backward()
    torch.testing.assert_close(z_e.grad, 3 * e.detach().square())
    assert e.grad is None


def test_the_loss_is_equation_3_with_the_constant_of_the_uniform_prior() -> None:
    """Kills: each sign and weight of the loss, and a commitment that moves the codebook."""
    model: Any = create("vq_vae", BITS, commitment=0.7, fields=2, **SMALL).double()
    x = torch.randint(2, (6, 1, 3, 3)).to(torch.uint8)
    loss, (z_e, z) = model.loss_and_outputs(x)
    e = model.codebook.entries[z]
    log_p = torch.distributions.Bernoulli(logits=model.outputs(e.view(6, 2, 1, 1, 3), None)[..., 0]).log_prob(
        x.double()
    )
    expected = -log_p.sum((1, 2, 3)) + 2 * math.log(5) + 0.7 * (z_e.view_as(e) - e).square().sum((1, 2))
    torch.testing.assert_close(loss, expected / 9)
    torch.testing.assert_close(model.elbo(x), log_p.sum((1, 2, 3)) - 2 * math.log(5))
    assert not any(buffer.requires_grad for buffer in model.codebook.buffers())


def test_the_gradient_of_the_loss_is_straight_through() -> None:
    """dL/dz_e is the decoder's gradient at the entry plus 2 beta (z_e - e)."""
    model: Any = create("vq_vae", BITS, commitment=0.7, **SMALL).double()
    x = torch.randint(2, (6, 1, 3, 3)).to(torch.uint8)
    seen: list[Tensor] = []
    model.encoder[-1].register_forward_hook(lambda module, given, out: seen.append(out) or out.retain_grad())  # type: ignore[func-returns-value]
    model.loss(x).sum().backward()
    z_e = seen[0].detach().movedim(1, -1)
    e = model.codebook(model.codebook.nearest(z_e))
    at_e = e[:, None].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(-model.likelihood(x, at_e, None).sum(), at_e)
    assert seen[0].grad is not None
    torch.testing.assert_close(9 * seen[0].grad.movedim(1, -1), gradient[:, 0] + 2 * 0.7 * (z_e - e))


def test_the_bound_is_the_largest_term_of_the_sum_over_codes_where_the_encoder_finds_it() -> None:
    """With each code's own image, log p(x|z) + log p(z) at the nearest code is one term of p(x), which sums to one."""
    model: Any = contracts.perturbed(create("vq_vae", BITS, **SMALL)).double()
    x, codes = contracts.all_examples(BITS), torch.arange(5)[:, None, None, None]
    with torch.no_grad():
        each = torch.stack([model.likelihood(x, model.codebook(z.expand(512, 1, 1, 1)), None) for z in codes])
        log_p = each.logsumexp(0) - math.log(5)
        bound = model.elbo(x)
    assert log_p.exp().sum().item() == pytest.approx(1)
    at_code = each.gather(0, model.encode(x).view(1, -1))[0] - math.log(5)
    torch.testing.assert_close(bound, at_code)
    assert (bound < log_p).all()


@pytest.mark.parametrize(
    "space", [Space.binary((1, 5, 6)), Space.levels((3, 7, 4), 256), Space.continuous((2, 4, 4))], ids=str
)
def test_images_of_any_size_are_coded_on_a_grid(space: Space) -> None:
    model: Any = create("vq_vae", space, fields=2, halvings=1, **SMALL)
    x = contracts.random_examples(space, 3)
    assert model.latent_space.shape == (2, -(-space.shape[1] // 2), -(-space.shape[2] // 2))
    assert space.check(model.decode(model.encode(x))).shape == x.shape


@pytest.mark.parametrize("prior", ["image_gpt", "gated_pixelcnn", "masked_diffusion", "made"])
def test_a_prior_of_its_codes_gives_a_bound_and_samples(prior: str) -> None:
    """exp of log p(x|z(x)) + log p(z(x)) sums to at most one, and samples are p(x|z) of the prior's codes."""
    settings: dict[str, Any] = {"hidden": 8} if prior == "made" else {"width": 8, "layers": 1}
    first: Any = contracts.perturbed(create("vq_vae", Space.binary((1, 4, 2)), fields=2, halvings=1, **SMALL))
    model = TwoStage.of(first, contracts.perturbed(create(prior, first.latent_space, **settings)))
    assert kind_of(model) is Kind.LOWER_BOUND
    for law in (
        contracts.bound_sums_to_at_most_one,
        contracts.codes_lie_in_the_latent_space,
        contracts.samples_lie_in_the_space,
        contracts.sample_depends_on_seed_and_index_alone,
    ):
        result = contracts.run(law, model)
        assert result.passed or prior == "masked_diffusion", result.detail
        assert result.outcome is not Outcome.BROKEN, result.detail
    if prior != "masked_diffusion":
        x = contracts.all_examples(first.space)
        with torch.no_grad():
            expected = model.prior.log_prob(first.encode(x)) + first.elbo(x) + 4 * math.log(5)
            torch.testing.assert_close(model.elbo(x), expected)


def test_a_convolutional_prior_of_tokens_is_autoregressive_and_a_density() -> None:
    model = contracts.perturbed(create("gated_pixelcnn", Space.tokens((2, 2, 2), 2), width=8, layers=2, head=8))
    results = list(contracts.check(model))
    assert not [r.detail for r in results if r.outcome is Outcome.BROKEN]
    assert any("sums to one" in r.law for r in results if r.passed)
