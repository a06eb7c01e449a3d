"""Conditions of every kind as vectors, sequences and maps: what reaches them, and what stands for what is hidden."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from dgm.distributions.scaling import Scaling
from dgm.networks.condition_embedding import ConditionEmbedding, ImageEmbedding, TokenEmbedding, parts_of
from dgm.networks.conditioning import (
    ConditionFeatures,
    ConditionMaps,
    ConditionProjections,
    TimedConditioning,
    condition_vector,
)
from dgm.networks.conditions import partly_hidden
from dgm.networks.maps import MapsAtSizes, resized
from dgm.protocols import PartlyHidden
from dgm.space import Space

RECORD = Space.record(
    age=Space.levels((), 120, optional=True),
    job=Space.categories(4),
    pay=Space.continuous((), loc=(1000.0,), scale=(500.0,), optional=True),
    flags=Space.binary((3,)),
)
KINDS: dict[str, Space] = {
    "label": Space.categories(3),
    "categories": Space.categories(3, (2,)),
    "attributes": Space.binary((5,)),
    "numbers": Space.continuous((2,), loc=(5.0, -1.0), scale=(2.0, 0.1)),
    "tokens": Space.tokens(6, 7),
    "image": Space.levels((3, 10, 7), 256),
    "record": RECORD,
}
each_kind = pytest.mark.parametrize("space", KINDS.values(), ids=KINDS)


def batch(space: Space, n: int) -> Tensor:
    """Conditions spread over their space, about a third of the optional values missing."""
    if space.kind == "record":
        return torch.cat([of_part(part, n) for part in parts_of(space)], 1)
    if space.discrete:
        return torch.randint(space.values or 2, (n, *space.shape)).to(space.dtype)
    return Scaling(space).inverse(torch.randn(n, *space.shape))


def of_part(part: Space, n: int) -> Tensor:
    values = batch(part, n).double().reshape(n, -1)
    return torch.where(torch.rand(n, 1) < 1 / 3, math.nan, values) if part.optional else values


@each_kind
def test_a_row_depends_on_its_own_condition_alone_and_on_every_number_of_it(space: Space) -> None:
    """Kills: a part, a place or a channel that is left out; statistics of the batch."""
    embedding = ConditionEmbedding(space, 16).double()
    y = space.check(batch(space, 8)).double()
    whole = embedding(y, 8)
    torch.testing.assert_close(torch.cat([embedding(row, 1) for row in y.split(1)]), whole)
    for k in range(space.dim):
        other = y.clone()
        flat = other.reshape(8, -1)
        moved, values = flat[:, k].nan_to_num() + 1, values_at(space, k)
        flat[:, k] = moved % values if values else moved
        changed = (embedding(flat.view_as(y), 8) - whole).abs().amax(1) > 1e-9
        assert changed.all(), f"number {k} changes nothing"


def values_at(space: Space, k: int) -> int | None:
    if space.kind != "record":
        return space.values
    return next(part.values for (_, part), at in zip(space.parts, space.places.values(), strict=True) if k < at.stop)


@pytest.mark.parametrize("shape", [(3,), (2, 5, 4)])
def test_numbers_and_images_are_embedded_in_standard_units(shape: tuple[int, ...]) -> None:
    """A condition in other units has the same embedding. Kills: numbers as they are."""
    space = Space.continuous(shape, loc=(100.0,) * math.prod(shape), scale=(20.0,) * math.prod(shape))
    plain, other, z = (
        ConditionEmbedding(Space.continuous(shape), 8),
        ConditionEmbedding(space, 8),
        torch.randn(4, *shape),
    )
    other.load_state_dict(plain.state_dict())
    torch.testing.assert_close(other(100 + 20 * z, 4), plain(z, 4), rtol=1e-4, atol=1e-4)


def test_maps_are_convolved_and_the_vector_of_other_parts_is_added_everywhere() -> None:
    """W_2 silu(W_1 x) + v. Kills: an activation or the other parts left out."""
    space = Space.record(picture=Space.levels((2, 3, 4), 5), label=Space.categories(3))
    maps, x = ConditionMaps(space, (3, 4)).double(), torch.randint(5, (6, 2, 3, 4))
    y = torch.cat([x.flatten(1).double(), torch.tensor([[0, 1, 2, 0, 1, 2]]).mT], 1)
    first, _, second = maps.convolutions
    h = conv2d(x.double() / 2 - 1, first.weight, first.bias, padding=1)  # type: ignore[arg-type]
    vector = list(maps.parts)[1].embedding.table.weight[y[:, -1].long()]
    expected = conv2d(h * h.sigmoid(), second.weight, second.bias, padding=1) + vector[:, :, None, None]  # type: ignore[arg-type]
    torch.testing.assert_close(maps(y, 6), expected)


def test_maps_enter_a_network_by_a_sum_at_each_size() -> None:
    """h + W of the maps' means over cells. Kills: a product, maps of another size."""
    entrance, maps = MapsAtSizes(2, [3, 5], [(2, 3), (4, 6)]), torch.randn(4, 2, 4, 6)
    h, w = torch.randn(4, 5, 4, 6), entrance.projections[1].weight
    torch.testing.assert_close(entrance(h, 1, maps), h + torch.einsum("oi,bihw->bohw", w, maps))
    flat = maps[:, :, :1, :1].expand(-1, -1, 4, 6)
    of_flat = torch.einsum("oi,bi->bo", entrance.projections[0].weight, flat[:, :, 0, 0])
    torch.testing.assert_close(entrance(h[:, :3, :2, :3], 0, flat), h[:, :3, :2, :3] + of_flat[:, :, None, None])
    assert entrance(h, 1, None) is h


def test_a_label_is_looked_up() -> None:
    """V^T y of one-hot y, whatever the way in which a layer takes it."""
    space, y = Space.categories(4), torch.tensor([3, 0, 3])
    read = ConditionProjections(space)
    assert read(y) is y
    projection = read.projection(5)
    assert torch.equal(projection(read(y)), projection.weight[y])  # type: ignore[index]
    vector = condition_vector(space, 5)
    assert vector is not None
    assert torch.equal(vector(y), vector.weight[y])  # type: ignore[index]
    features = ConditionFeatures(space)
    assert (features.width, features(y, torch.zeros(1)).tolist()) == (4, torch.eye(4)[y].tolist())
    assert condition_vector(None, 5) is None
    assert ConditionFeatures(None).width == 0


@each_kind
def test_what_is_hidden_is_the_null_embedding_and_nothing_else_changes(space: Space) -> None:
    """Kills: the hidden and the shown rows exchanged, hidden rows of zeros, a null of only one part."""
    embedding, y, hidden = ConditionEmbedding(space, 16, null=True), batch(space, 6), torch.arange(6) % 3 == 0
    partly, none, shown = embedding(PartlyHidden(y, hidden), 6), embedding(None, 6), embedding(y, 6)
    null = torch.stack([part.null for part in embedding.parts]).sum(0)
    torch.testing.assert_close(none, null.expand(6, -1))
    torch.testing.assert_close(partly[hidden], none[hidden])
    torch.testing.assert_close(partly[~hidden], shown[~hidden])
    assert ((shown - none).abs().amax(1) > 1e-3).all()
    without = ConditionEmbedding(space, 16)
    assert len(list(embedding.parameters())) - len(list(without.parameters())) == sum(
        not part.optional for part in parts_of(space)
    )


def test_a_missing_value_is_the_null_of_its_own_part() -> None:
    """Kills: NaN in a vector, one null for all parts."""
    embedding = ConditionEmbedding(RECORD, 8)
    y = torch.tensor([[30.0, 2, 1500.0, 0, 1, 1]], dtype=torch.float64)
    missing = y.clone()
    missing[0, 2] = math.nan
    age, job, pay, flags = (sequence[:, 0] for sequence in embedding.sequences(y, 1))
    torch.testing.assert_close(embedding(y, 1), age + job + pay + flags)
    of_pay = list(embedding.parts)[2].null
    torch.testing.assert_close(embedding(missing, 1), age + job + of_pay + flags)
    assert (of_pay - pay).abs().max() > 1e-3


def test_conditions_are_hidden_as_often_as_asked() -> None:
    """Each by a draw of its own: 30 % of 40,000 within five standard errors, in every part of the batch."""
    y, n = torch.randn(40_000, 2), 40_000
    found = partly_hidden(y, 0.3)
    assert isinstance(found, PartlyHidden)
    assert found.y is y
    for part in (found.hidden, found.hidden[: n // 2], found.hidden[n // 2 :]):
        assert part.double().mean().item() == pytest.approx(0.3, abs=5 * (0.21 / len(part)) ** 0.5)
    assert partly_hidden(y, 0.0) is y
    assert partly_hidden(None, 0.3) is None
    assert partly_hidden(y, 1.0).hidden.all()  # type: ignore[union-attr]


def test_tokens_are_read_by_four_heads_where_the_width_allows_it() -> None:
    heads = [TokenEmbedding(Space.tokens(4, 9), width).layers[0].heads for width in (16, 6, 5)]
    assert heads == [4, 2, 1]


def test_the_order_of_tokens_is_seen() -> None:
    """Kills: a mean over embeddings, a bag of words."""
    embedding, y = ConditionEmbedding(Space.tokens(4, 9), 16), torch.tensor([[1, 2, 3, 4], [1, 3, 2, 4]])
    first, second = embedding(y, 2)
    assert (first - second).abs().max() > 1e-3


@each_kind
def test_the_lengths_of_sequences_are_known_beforehand(space: Space) -> None:
    embedding = ConditionEmbedding(space, 16)
    assert sum(part.shape[1] for part in embedding.sequences(batch(space, 2), 2)) == embedding.length


def test_an_image_stands_beside_an_image_scaled_and_resized() -> None:
    """An image of x's size as it is, in [-1, 1]; a larger or smaller one of one colour stays that colour."""
    space = Space.levels((2, 4, 6), 256)
    y, t = torch.randint(256, (3, 2, 4, 6), dtype=torch.uint8), torch.rand(3)
    same = TimedConditioning(8, space, size=(4, 6))(t, y)
    torch.testing.assert_close(same.maps, y / 127.5 - 1)
    flat = torch.full((3, 2, 4, 6), 51, dtype=torch.uint8)
    for size in ((8, 12), (2, 3), (5, 5)):
        conditioning = TimedConditioning(8, space, dropout=0.5, size=size)
        assert conditioning.channels == 2
        torch.testing.assert_close(conditioning(t, flat).maps, torch.full((3, 2, *size), 51 / 127.5 - 1))
        null = next(iter(conditioning.parts)).null
        hidden = conditioning(t, PartlyHidden(flat, torch.tensor([True, False, False]))).maps
        torch.testing.assert_close(hidden[0], null[:, None, None].expand(-1, *size))
        torch.testing.assert_close(conditioning(t, None).maps, null[:, None, None].expand(3, -1, *size))
        assert not torch.allclose(hidden[1], hidden[0])
    beside_rows = TimedConditioning(8, space)(t, y)  # x is no image: the picture is one vector
    assert beside_rows.maps is None


def test_every_part_of_a_record_reaches_a_denoiser_in_its_own_form() -> None:
    space = Space.record(
        text=Space.tokens(4, 9), label=Space.categories(3), low=Space.continuous((1, 2, 2), low=0.0, high=1.0)
    )
    conditioning, y, t = TimedConditioning(8, space, size=(4, 4)), batch(space, 5), torch.rand(5)
    found = conditioning(t, y)
    assert found.sequence is not None
    assert found.maps is not None
    assert (found.sequence.shape, found.maps.shape) == ((5, 4, 8), (5, 1, 4, 4))
    for part, place in space.places.items():
        other = y.clone()
        other[:, place] = y.roll(1, 0)[:, place]
        again = conditioning(t, other)
        moved = {name for name in found._fields if not torch.equal(getattr(found, name), getattr(again, name))}
        assert moved == {"text": {"vector", "sequence"}, "label": {"vector"}, "low": {"maps"}}[part]


def test_a_perceptron_of_an_image_has_the_pixels_of_a_condition_image() -> None:
    """Beside the embedding of the other parts. Kills: one vector that averages over the places; pixels unscaled."""
    image = Space.levels((2, 3, 4), 5)
    y = batch(image, 6)
    features = ConditionFeatures(image, (3, 4), flat=True)
    assert (features.width, features.has_maps, features.has_images) == (24, False, True)
    torch.testing.assert_close(features(y, torch.zeros(1)), Scaling(image)(y).flatten(1))
    record = Space.record(picture=image, label=Space.categories(3))
    both = ConditionFeatures(record, (3, 4), flat=True)
    rows = torch.cat([y.flatten(1), torch.tensor([[0, 1, 2, 0, 1, 2]]).mT], 1).double()
    found = both(rows, torch.zeros(1))
    assert both.width == found.shape[1] == 24 + 64
    torch.testing.assert_close(found[:, :24], Scaling(image)(y).flatten(1))
    torch.testing.assert_close(found[:3, 24:], found[3:, 24:])
    assert (found[0, 24:] - found[1, 24:]).abs().max() > 1e-3
    assert ConditionFeatures(Space.categories(3), (3, 4), flat=True).width == 3
    assert ConditionFeatures(image, None, flat=True).width == 64


def test_an_image_is_embedded_by_convolutions_with_silu_between_all_of_them() -> None:
    """Of 5 x 3 pixels: one at full size, one of stride 2, one of 1 x 1. Kills: any activation left out."""
    embedding = ImageEmbedding(Space.continuous((2, 5, 3)), 4).double()
    h = x = torch.randn(6, 2, 5, 3, dtype=torch.float64)
    first, second, third = embedding.convolutions[::2]
    h = conv2d(x, first.weight, first.bias, padding=1)
    h = conv2d(h * h.sigmoid(), second.weight, second.bias, padding=1, stride=2)
    h = conv2d(h * h.sigmoid(), third.weight, third.bias)
    torch.testing.assert_close(embedding(x), h.flatten(2).mT)


def test_maps_at_half_the_size_are_means_under_a_triangle() -> None:
    """(x_{2i-1} + 3 x_{2i} + 3 x_{2i+1} + x_{2i+2}) / 8. Kills: means of the two nearest pixels alone, which alias."""
    x = torch.randn(2, 3, 1, 8, dtype=torch.float64).expand(-1, -1, 8, -1)
    expected = (x[..., 1:5:2] + 3 * x[..., 2:6:2] + 3 * x[..., 3:7:2] + x[..., 4:8:2]) / 8
    torch.testing.assert_close(resized(x, (4, 4))[..., 1:3], expected[:, :, :4])
    torch.testing.assert_close(resized(x.mT, (4, 4))[..., 1:3, :], expected[:, :, :4].mT)
