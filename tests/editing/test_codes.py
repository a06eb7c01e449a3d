"""Editing by codes of models whose codes are known: a rotation of the plane, a linear encoder, a decoder alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import dgm
from dgm import edit
from dgm.condition import Names
from dgm.data import Dataset, Split
from dgm.editing.codes import between, ends, linear, spherical
from dgm.errors import BadInput, UnknownName, Unsupported
from dgm.space import Space


class Linear(nn.Module):
    """z = (x - 1) W with an orthogonal W; with a condition, x is shifted by the label."""

    condition: Space | None = None

    def __init__(self, dim: int = 3) -> None:
        super().__init__()
        self.space = self.latent_space = Space.continuous((dim,))
        basis = torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(0)))[0]
        self.register_buffer("w", basis)

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return (x - 1 - (0 if y is None else y[:, None])) @ self.w

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return z @ self.w.mT + 1 + (0 if y is None else y[:, None])


class Decoder(nn.Module):
    """x = 2 z, without an encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.space = self.latent_space = Space.continuous((2,))

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return 2 * z


def labelled(x: Tensor, y: Tensor, condition: Space, names: Names) -> Dataset:
    split = Split(x, y)
    about: dict[str, Any] = {"condition": condition, "names": names, "split": "one"}
    return Dataset(name="few", space=Space.continuous((3,)), train=split, validation=split, test=split, **about)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(1))


def test_an_arc_has_its_ends_and_its_length() -> None:
    z, other = torch.randn(2, 1, 30, 30).double()
    other = other * z.norm() / other.norm()
    way = spherical(z, other, torch.linspace(0, 1, 5))
    torch.testing.assert_close(way[0], z)
    torch.testing.assert_close(way[-1], other)
    torch.testing.assert_close(way.flatten(1).norm(dim=1), z.norm().expand(5))
    strides = (way[1:] - way[:-1]).flatten(1).norm(dim=1)
    torch.testing.assert_close(strides, strides[:1].expand(4))
    torch.testing.assert_close(spherical(z, z, torch.tensor([0.5]))[0], z)


def test_an_arc_between_codes_of_two_lengths_is_the_formula() -> None:
    """Equation 67 of the paper, at angles of less and more than a right one; on a line where there is no arc."""
    z, other = torch.tensor([2.0, 0.0]).double(), torch.tensor([0.0, 3.0]).double()
    half = spherical(z, other, torch.tensor([1 / 3]))
    torch.testing.assert_close(half, math.sin(math.pi / 3) * z[None] + math.sin(math.pi / 6) * other[None])
    obtuse = torch.tensor([-1.0, 1.0]).double()
    theta = 3 * math.pi / 4
    expected = (math.sin(0.8 * theta) * z + math.sin(0.2 * theta) * obtuse) / math.sin(theta)
    torch.testing.assert_close(spherical(z, obtuse, torch.tensor([0.2]).double())[0], expected)
    torch.testing.assert_close(spherical(z, 2 * z, torch.tensor([0.25]))[0], 1.25 * z)
    zero = torch.zeros(2).double()
    torch.testing.assert_close(spherical(z, zero, torch.tensor([0.25]))[0], 0.75 * z)


def test_a_line_is_the_weighted_mean() -> None:
    z, other = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 4.0])
    torch.testing.assert_close(
        linear(z, other, torch.tensor([0.0, 0.25, 1.0])), torch.tensor([[2, 0], [1.5, 1], [0, 4]])
    )


def test_an_invertible_model_reconstructs_x(x: Tensor) -> None:
    again = edit.reconstruct(Linear(), x)
    torch.testing.assert_close(again.x, x)
    assert again.error < 1e-6
    moons = dgm.data.load("toy/moons")
    flow = dgm.create("realnvp", moons.space, layers=2)
    torch.testing.assert_close(edit.reconstruct(flow, moons.test.x[:20]).x, moons.test.x[:20], atol=1e-5, rtol=0)


def test_the_error_is_of_grey_values_of_standard_deviations_or_of_different_tokens() -> None:
    from dgm.editing.codes import error

    model = Linear()
    model.space = Space.levels((2,), 5)
    assert error(model, torch.tensor([[0, 4]]), torch.tensor([[4, 4]])) == pytest.approx(math.sqrt(1 / 2))
    model.space = Space.continuous((2,), scale=(2.0, 1.0), loc=(7.0, 0.0))
    assert error(model, torch.tensor([[0.0, 1.0]]), torch.tensor([[4.0, 1.0]])) == pytest.approx(math.sqrt(4 / 2))
    model.space = Space.tokens(4, 9)
    assert error(model, torch.tensor([[0, 1, 2, 3]]), torch.tensor([[0, 1, 2, 8]])) == 0.25
    model.space = Space.record(a=Space.continuous((), optional=True), b=Space.levels((), 3))
    nan = float("nan")
    rows = torch.tensor([[nan, 1.0], [2.0, 1.0]]).double(), torch.tensor([[nan, 2.0], [nan, 1.0]]).double()
    assert error(model, *rows) == 0.5


def test_a_linear_model_interpolates_linearly_between_its_pairs(x: Tensor) -> None:
    between = edit.interpolate(Linear(), x[:5], n=4)
    assert between.shape == (2, 4, 3)
    for k, w in enumerate(torch.linspace(0, 1, 4)):
        torch.testing.assert_close(between[:, k], (1 - w) * x[[0, 2]] + w * x[[1, 3]])
    arc = edit.interpolate(Linear(), x[:2], n=3, path="spherical")[0]
    torch.testing.assert_close(arc[[0, 2]], x[:2])
    assert not torch.allclose(arc[1], x[:2].mean(0))


def test_each_half_of_an_interpolation_has_the_condition_of_its_end(x: Tensor) -> None:
    model = Linear()
    model.condition = Space.categories(4)
    y = torch.tensor([0, 3])
    found = edit.interpolate(model, x[:2], y, n=4)[0]
    ends = x[:2] - y[:, None]
    nearer = torch.tensor([0, 0, 3, 3])[:, None]
    torch.testing.assert_close(found, torch.lerp(ends[0], ends[1], torch.linspace(0, 1, 4)[:, None]) + nearer)


def test_a_traversal_replaces_one_dimension_in_a_row_by_its_range(x: Tensor) -> None:
    model, z = Linear(), torch.tensor([0.5, 0.25, -1.0])
    of = edit.Spread(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.0, 2.0, 1.0]))
    found = edit.traverse(model, z, of, dimensions=2, n=3)  # two standard deviations to either side
    assert found.dimensions.tolist() == [1, 2]
    codes = model.encode(found.x.flatten(0, 1)).unflatten(0, (2, 3))
    expected = z.expand(2, 3, 3).clone()
    expected[0, :, 1], expected[1, :, 2] = torch.tensor([1.6, 2.0, 2.4]), torch.tensor([2.4, 3.0, 3.6])
    torch.testing.assert_close(codes, expected)


def test_the_spread_is_that_of_the_codes(x: Tensor) -> None:
    model = Linear()
    of, z = edit.spread(model, Split(x)), model.encode(x)
    torch.testing.assert_close(of, edit.Spread(z.mean(0), z.std(0), z.std(0)))
    noise = edit.spread(Decoder(), Split(x))
    torch.testing.assert_close(noise, edit.Spread(torch.zeros(2), torch.ones(2), torch.ones(2)))


def test_the_range_of_an_unused_dimension_of_a_vae_is_that_of_the_prior() -> None:
    """Draws of q(z|x), not its mean, which is constant there: the standard deviation would be 0."""
    space = Space.binary((4,))
    vae = dgm.create("vae", space, latent=2, hidden=4)
    for parameter in vae.encoder.parameters():
        nn.init.zeros_(parameter)
    of = edit.spread(vae, Split(torch.randint(2, (1000, 4)).to(torch.uint8)))
    torch.testing.assert_close(of.scale, torch.ones(2), atol=0.1, rtol=0)  # 4.5 standard errors
    torch.testing.assert_close(of.weight, torch.zeros(2))


def test_the_dimension_of_the_largest_divergence_is_the_most_important_one() -> None:
    """KL(N(0, e^2b) || N(0, 1)) = (e^2b - 1) / 2 - b, although the mean of q(z|x) is constant."""
    vae = dgm.create("vae", Space.binary((4,)), latent=2, hidden=4)
    for parameter in vae.encoder.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        list(vae.encoder.parameters())[-1][2:] = torch.tensor([-1.0, -2.0])
    of = edit.spread(vae, Split(torch.randint(2, (50, 4)).to(torch.uint8)))
    torch.testing.assert_close(of.weight, torch.tensor([(math.exp(-2) + 1) / 2, (math.exp(-4) + 3) / 2]))


def test_arithmetic_of_a_linear_model_is_that_of_the_means_of_x(x: Tensor) -> None:
    model, y = Linear(), torch.tensor([0, 0, 1, 1, 1, 2])
    data = labelled(x, y, Space.categories(3), Names(labels=("a-b", "c", "d")))
    a, c, d = (x[y == k].mean(0) for k in range(3))
    found = edit.arithmetic(model, "a-b - c + d", data)
    torch.testing.assert_close(found.x, (a - c + d)[None])
    torch.testing.assert_close(found.terms, torch.stack([a, c, d]))
    rows = edit.arithmetic(model, "x + c - d", data, x[:2])
    torch.testing.assert_close(rows.x, x[:2] + c - d)
    torch.testing.assert_close(edit.arithmetic(model, "x", data, x[:2]).x, x[:2])
    torch.testing.assert_close(edit.arithmetic(model, "2", data).x, d[None])


def test_attributes_are_named_with_their_value(x: Tensor) -> None:
    model, y = Linear(), torch.tensor([[0, 1], [1, 1], [1, 0], [0, 0], [1, 0], [0, 1]]).to(torch.uint8)
    data = labelled(x, y, Space.binary((2,)), Names(columns=("glasses", "hat")))
    found = edit.arithmetic(model, "x + glasses - glasses=0 + hat=1", data, x[:1])
    on, off, hat = x[y[:, 0] == 1].mean(0), x[y[:, 0] == 0].mean(0), x[y[:, 1] == 1].mean(0)
    torch.testing.assert_close(found.terms, torch.stack([on, off, hat]))
    code = model.encode(x[:1]) + model.encode(torch.stack([on, off, hat]))[[0, 2]].sum(0) - model.encode(off[None])
    torch.testing.assert_close(found.z, code)
    record = Space.record(shape=Space.categories(2), size=Space.levels((), 3))
    names = Names(parts={"shape": Names(labels=("heart", "square"))})
    data = labelled(x, torch.tensor([[0.0, 2], [1, 1], [0, 1], [1, 2], [1, 0], [0, 0]]).double(), record, names)
    found = edit.arithmetic(model, "shape=heart - size=2", data)
    torch.testing.assert_close(found.terms, torch.stack([x[[0, 2, 5]].mean(0), x[[0, 3]].mean(0)]))


def test_a_decoder_alone_has_drawn_codes() -> None:
    model = Decoder()
    z = edit.drawn(model, 4, seed=3)
    torch.testing.assert_close(z[1:3], edit.drawn(model, 3, seed=3)[1:])
    between = edit.between(model, z, n=3)
    torch.testing.assert_close(edit.decode(model, between.flatten(0, 1)), 2 * between.flatten(0, 1))
    torch.testing.assert_close(between[:, 1], (z[::2] + z[1::2]) / 2)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda m, d: edit.reconstruct(Decoder(), d.train.x[:, :2]), Unsupported, "a decoder alone"),
        (lambda m, d: edit.reconstruct(dgm.create("made", Space.binary((4,))), [[0] * 4]), Unsupported, "has no codes"),
        (lambda m, d: edit.interpolate(m, d.train.x[:1]), BadInput, "needs 2 of them, got 1"),
        (lambda m, d: edit.interpolate(m, d.train.x, path="curved"), BadInput, "linear, spherical, got 'curved'"),
        (lambda m, d: edit.arithmetic(m, "a - e", d), UnknownName, "'e'"),
        (lambda m, d: edit.arithmetic(m, "a - + b", d), BadInput, "is empty"),
        (lambda m, d: edit.arithmetic(m, "", d), BadInput, "is empty"),
        (lambda m, d: edit.arithmetic(m, "x - a", d), BadInput, "there is none"),
        (lambda m, d: edit.arithmetic(m, "c", d), BadInput, "no training example has 'c'"),
        (lambda m, d: edit.arithmetic(m, "a", dgm.data.load("toy/moons")), Unsupported, "no labels or attributes"),
    ],
)
def test_a_refusal_says_why(call: Any, error: type[Exception], says: str, x: Tensor) -> None:
    data = labelled(x, torch.tensor([0, 0, 1, 1, 1, 1]), Space.categories(3), Names(labels=("a", "b", "c")))
    with pytest.raises(error, match=says):
        call(Linear(), data)


def test_discrete_codes_are_decoded_and_have_nothing_in_between() -> None:
    model = dgm.create("vq_vae", Space.levels((1, 8, 8), 17), width=8, codes=8)
    x = torch.randint(17, (2, 1, 8, 8)).to(torch.uint8)
    assert edit.reconstruct(model, x).x.shape == x.shape
    with pytest.raises(Unsupported, match="no values in between"):
        edit.interpolate(model, x)


def test_each_half_has_the_condition_of_its_end_and_the_middle_that_of_the_first() -> None:
    """Pairs of conditions for odd and even numbers of results. Kills: the middle given to the second, pairs mixed."""
    y = torch.tensor([3, 7, 1, 2, 9])  # the last has no partner
    for n, expected in ((4, [3, 3, 7, 7, 1, 1, 2, 2]), (3, [3, 3, 7, 1, 1, 2])):
        found = ends(y, n)
        assert found is not None
        assert found.tolist() == expected


def test_codes_as_long_as_noise_keep_their_length_and_others_are_on_a_line() -> None:
    """By default; and the arc of a narrow angle is an arc too. Kills: one path for all, a line below some angle."""
    z = torch.tensor([[1.0, 0.0], [math.cos(0.2), math.sin(0.2)]])
    middle = spherical(z[0], z[1], torch.tensor([0.25]))[0]
    torch.testing.assert_close(middle, torch.tensor([math.cos(0.05), math.sin(0.05)]))
    denoising, vae = (
        dgm.create("ddpm", Space.continuous((1, 4, 4)), width=8),
        dgm.create("vae", Space.continuous((2,)), latent=16),
    )
    codes = torch.randn(2, 16)
    codes = codes / codes.norm(dim=1, keepdim=True)
    assert float(between(denoising, codes.view(2, 1, 4, 4), n=3)[0, 1].norm()) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(between(vae, codes, n=3)[0, 1], codes.mean(0))
