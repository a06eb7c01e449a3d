"""PixelCNN++: the mixture over whole pixels against its likelihood by hand, what each pixel sees, what is kept."""

from __future__ import annotations

import itertools
from typing import Literal

import pytest
import torch
from torch.nn.utils.parametrizations import weight_norm

from dgm import contracts
from dgm.errors import BadInput
from dgm.models.autoregressive import pixelcnn_pp
from dgm.models.autoregressive.pixelcnn_pp import (
    Block,
    PixelCNNPP,
    Stream,
    Upsample,
    UpsamplePixel,
    UpsampleRow,
    concat_elu,
)
from dgm.networks.causal_conv import CausalConv2d, Cursor
from dgm.networks.raster import raster_order, to_sequence
from dgm.samplers import sequential
from dgm.space import Space


def model(space: Space, resolutions: int = 3, layers: int = 1, condition: Space | None = None) -> PixelCNNPP:
    config = PixelCNNPP.Config(width=6, layers=layers, resolutions=resolutions, components=3)
    return contracts.perturbed(PixelCNNPP(space, config, condition)).eval()


def joint(raw: torch.Tensor, rgb: torch.Tensor, k: int) -> torch.Tensor:
    """p(R, G, B) of one pixel from the network's numbers for it, in the words of the paper: equations 2 and 3."""
    m = 3
    weights, means, scales = raw[:m].softmax(0), raw[m : 4 * m].view(3, m), raw[4 * m : 7 * m].view(3, m).exp()
    alpha, beta, gamma = raw[7 * m :].view(3, m).tanh()
    r, g, _ = z = 2 * rgb / (k - 1) - 1
    centres = means[0], means[1] + alpha * r, means[2] + beta * r + gamma * g
    total = torch.tensor(0.0, dtype=torch.float64)
    for i in range(m):
        p = weights[i]
        for c in range(3):
            upper = ((z[c] + 1 / (k - 1) - centres[c][i]) / scales[c, i]).sigmoid() if rgb[c] < k - 1 else 1.0
            lower = ((z[c] - 1 / (k - 1) - centres[c][i]) / scales[c, i]).sigmoid() if rgb[c] > 0 else 0.0
            p = p * (upper - lower)
        total = total + p
    return total


def raw_of(pixelcnn: PixelCNNPP, x: torch.Tensor) -> torch.Tensor:
    """What the last convolution says, before the channels are tied."""
    seen: list[torch.Tensor] = []
    hook = pixelcnn.output.register_forward_hook(lambda module, given, result: seen.append(result))
    pixelcnn.conditionals(x)
    hook.remove()
    return seen[0]


@torch.no_grad()
def test_the_conditionals_make_the_joint_mixture_over_whole_pixels() -> None:
    """Kills: a sign of alpha, beta or gamma, one in another's place, tanh left out, weights that are not updated."""
    space = Space.levels((3, 2, 3), 5)
    pixelcnn = model(space).double()
    x = torch.randint(5, (4, *space.shape)).to(space.dtype)
    raw = raw_of(pixelcnn, x)
    for n in range(4):
        pixels = itertools.product(range(2), range(3))
        expected = sum(joint(raw[n, :, i, j], x[n, :, i, j].double(), 5).log() for i, j in pixels)
        assert pixelcnn.log_prob(x)[n].item() == pytest.approx(float(expected), abs=1e-9)


@torch.no_grad()
def test_the_27_values_of_a_pixel_sum_to_one() -> None:
    pixelcnn = model(Space.levels((3, 1, 1), 3)).double()
    values = torch.tensor(list(itertools.product(range(3), repeat=3)), dtype=torch.uint8)[:, :, None, None]
    p = pixelcnn.log_prob(values).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-10)
    red, green, blue = (p.view(3, 3, 3).sum(tuple({0, 1, 2} - {c})) for c in range(3))
    independent = red[:, None, None] * green[:, None] * blue
    assert (p.view(3, 3, 3) - independent).abs().max() > 1e-3, "the channels are not tied"


def sensitivity(pixelcnn: PixelCNNPP, x: torch.Tensor) -> torch.Tensor:
    """(D, D) in raster order: how far each conditional moves with each value, summed over a batch."""
    x = x.requires_grad_()
    outputs = to_sequence(pixelcnn.conditionals(x), pixelcnn.space).sum((0, 2))
    gradients = [torch.autograd.grad(output, x, retain_graph=True, allow_unused=True)[0] for output in outputs]
    rows = [to_sequence(torch.zeros_like(x) if g is None else g, pixelcnn.space).abs().sum(0) for g in gradients]
    return torch.stack(rows)


@pytest.mark.parametrize("resolutions", [1, 2, 3])
def test_the_jacobian_in_colour_is_strictly_lower_triangular_and_full(resolutions: int) -> None:
    """Kills: a stream that sees its own row or pixel, a channel tied to itself or to a later one."""
    pixelcnn = model(Space.levels((3, 3, 3), 5), resolutions)
    found = sensitivity(pixelcnn, 4 * torch.rand(8, 3, 3, 3))
    assert not found.triu().any()
    # the first pixel of all sees nothing but its own channels, which is past enough: no exception below the diagonal
    assert found[torch.ones(27, 27).tril(-1).bool()].min() > 0, "a dimension does not see all of its past"


@pytest.mark.parametrize("shape", [(1, 7, 10), (1, 9, 5), (1, 8, 8)], ids=str)
def test_every_earlier_pixel_is_seen_at_any_size(shape: tuple[int, int, int]) -> None:
    """Kills: a halved row or column that is given to a pixel before it ends, or never."""
    found = sensitivity(model(Space.levels(shape, 5), layers=3), 4 * torch.rand(4, *shape))
    assert not found.triu().any()
    assert found[torch.ones_like(found).tril(-1).bool()].min() > 0


@pytest.mark.parametrize("layers", [1, 2])
def test_full_resolution_alone_reaches_along_what_was_read_last(layers: int) -> None:
    """From an odd row and column, where the halved maps end before what was read last."""
    found = sensitivity(model(Space.levels((1, 4, 24), 5), layers=layers), 4 * torch.rand(8, 1, 4, 24))
    seen = (found.view(4, 24, 4, 24)[3, 11] > 0).nonzero()
    assert seen[seen[:, 0] == 3, 1].tolist() == list(range(11 - 4 * layers, 11))
    assert seen[seen[:, 0] == 2, 1].max() == 11 + 4 * layers


def test_lower_resolutions_see_further() -> None:
    space = Space.levels((1, 16, 16), 5)
    x = 4 * torch.rand(1, *space.shape)
    one, three = (int((sensitivity(model(space, resolutions), x)[-1] != 0).sum()) for resolutions in (1, 3))
    assert one < 0.6 * three


SPACES = [
    Space.binary((1, 5, 3)),
    Space.binary((2, 3, 4)),
    Space.levels((3, 3, 4), 5),
    Space.levels((1, 9, 7), 4),
    Space.levels((3, 1, 5), 3),
]


@pytest.mark.parametrize("resolutions", [1, 2, 4])
@pytest.mark.parametrize("space", SPACES, ids=str)
@torch.no_grad()
def test_what_is_kept_is_the_whole(space: Space, resolutions: int) -> None:
    """Kills: a kept row, pixel or half of it that is another's."""
    pixelcnn = model(space, resolutions, layers=2, condition=Space.categories(3)).double()
    x, y = contracts.random_examples(space, 4), torch.tensor([0, 1, 2, 1])
    parallel, read = to_sequence(pixelcnn.conditionals(x, y), space), torch.zeros_like(x)
    for i, (dim, outputs) in enumerate(
        zip(raster_order(space), pixelcnn.sequential_conditionals(read, y), strict=True)
    ):
        assert torch.allclose(outputs, parallel[:, i], atol=1e-10)
        read.view(4, -1)[:, dim] = x.flatten(1)[:, dim]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_sample_is_the_same_with_and_without_what_is_kept(space: Space) -> None:
    pixelcnn = model(space)
    kept, naive = (list(sequential.trajectory(pixelcnn, 3, seed=2, cached=cached))[-1].x for cached in (True, False))
    assert torch.equal(kept, naive)


def test_to_grow_is_to_undo_a_stride() -> None:
    upsample, cursor, low, like = Upsample(4), Cursor(), torch.randn(2, 4, 3, 2), torch.zeros(1, 1, 5, 3)
    whole = upsample(low, like)
    assert whole.shape == (2, 4, 5, 3)
    for i, j in itertools.product(range(5), range(3)):
        expected = (
            torch.einsum("bi,io->bo", low[:, :, i // 2, j // 2], upsample.weight[:, :, i % 2, j % 2]) + upsample.bias
        )
        assert torch.allclose(whole[:, :, i, j], expected, atol=1e-6)
    rows, pixels = UpsampleRow(upsample, 0, cursor), UpsamplePixel(upsample, 0, cursor)
    for cursor.row in range(5):
        row = rows(low[:, :, cursor.row // 2 :][:, :, :1] if cursor.row % 2 == 0 else None, like)
        assert torch.allclose(row[:, :, 0], whole[:, :, cursor.row], atol=1e-6)
        for cursor.column in range(3):
            new = cursor.row % 2 == cursor.column % 2 == 0
            pixel = pixels(low[:, :, cursor.row // 2, cursor.column // 2] if new else None, like)
            assert torch.allclose(pixel, whole[:, :, cursor.row, cursor.column], atol=1e-6)


def test_each_convolution_sees_what_the_authors_own_does() -> None:
    """In their published code: 2 x 3 on rows, 2 x 2 on pixels; at first 2 x 3 above, and 1 x 3 above with the left."""

    def seen(conv: torch.nn.Module) -> set[tuple[int, int]]:
        x = torch.randn(1, conv.weight.shape[1], 7, 7, requires_grad=True)
        (gradient,) = torch.autograd.grad(conv(x)[0, :, 3, 3].sum(), x)
        return {(i - 3, j - 3) for i, j in gradient[0].sum(0).nonzero().tolist()}

    pixelcnn = model(SPACES[0])
    rows, pixels = pixelcnn.rows, pixelcnn.pixels
    assert seen(rows.first) == set(itertools.product((-2, -1), (-1, 0, 1)))
    assert seen(pixels.first) == {(-1, -1), (-1, 0), (-1, 1), (0, -1)}
    for conv in (rows.down[0][0].enter, rows.up[1][0].leave):
        assert seen(conv) == set(itertools.product((-1, 0), (-1, 0, 1)))
    for conv in (pixels.down[0][0].enter, pixels.up[1][0].leave):
        assert seen(conv) == set(itertools.product((-1, 0), (-1, 0)))


@pytest.mark.parametrize("mask", ["A", "row"])
def test_normed_weights_are_those_of_torch(mask: Literal["A", "row"]) -> None:
    """Kills: the norm over other axes or over hidden weights, one that is not learned, a start other than the plain."""
    normed, plain = CausalConv2d(2, 3, 3, mask=mask, normed=True), torch.nn.Conv2d(2, 3, (2, 3))
    plain.load_state_dict({"weight": normed.weight * normed.mask, "bias": normed.bias})
    x = torch.randn(2, 2, 4, 5)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 0))
    assert torch.allclose(normed(x), plain(padded), atol=1e-6), "it starts elsewhere than without"

    peer = weight_norm(plain)
    parameters = [normed.norm, normed.weight], [*peer.parametrizations.weight.parameters()]
    for ours, theirs in zip(*parameters, strict=True):
        ours.data = ours * torch.linspace(0.5, 2, 3)[:, None, None, None]  # other norms and lengths than at the start
        theirs.data = theirs * torch.linspace(0.5, 2, 3)[:, None, None, None]
    h, expected = normed(x), peer(padded)
    assert torch.allclose(h, expected, atol=1e-6)
    gradients = (torch.autograd.grad(y.square().sum(), p) for y, p in zip((h, expected), parameters, strict=True))
    for ours, theirs in zip(*gradients, strict=True):
        # what is hidden has no gradient here; there, where it is a weight of 0, it has one
        seen = normed.mask if ours.shape == normed.mask.shape else slice(None)
        assert torch.allclose(ours[seen], theirs[seen], atol=1e-4)


def test_a_block_is_the_gated_residual_by_hand() -> None:
    """Kills: the residual or the gate left out, a sign of what it is told."""
    block = Block("pixels", 0, 1, PixelCNNPP.Config(width=3, dropout=0.0), 2)
    h, other, label = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5), torch.eye(2)
    inner = block.enter(concat_elu(h)) + block.skips[0](concat_elu(other))
    left = block.leave(concat_elu(inner)) + block.condition_bias.weight.T[:, :, None, None]
    assert torch.allclose(block(h, label, [other]), h + left[:, :3] * left[:, 3:].sigmoid(), atol=1e-6)


def test_dropout_is_of_the_activations(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the published code. Kills: dropout of the features before concat_elu."""
    block, h = Block("pixels", 0, 0, PixelCNNPP.Config(width=3), 0), torch.randn(2, 3, 4, 5)
    monkeypatch.setattr(pixelcnn_pp, "dropout", lambda h, share, training: 3 * h)
    a, b = block.leave(3 * concat_elu(block.enter(concat_elu(h)))).chunk(2, 1)
    assert torch.allclose(block(h, None, []), h + a * b.sigmoid(), atol=1e-6)


def test_the_middle_grey_level_differs_from_padding() -> None:
    pixelcnn = model(Space.levels((1, 6, 6), 3))
    middle = torch.ones(1, 1, 6, 6, dtype=torch.uint8)  # is scaled to 0, as the padding is
    for first in (pixelcnn.rows.first, pixelcnn.pixels.first):
        h = first(pixelcnn.inputs(middle))
        assert (h[..., 0, 0] != h[..., 3, 3]).all()


def test_a_label_shifts_every_conditional() -> None:
    pixelcnn, x = model(SPACES[0], condition=Space.categories(2)), torch.zeros(1, 1, 5, 3, dtype=torch.uint8)
    zero, one = (pixelcnn.conditionals(x, torch.tensor([y])) for y in (0, 1))
    assert (zero != one).all()


def test_features_are_left_out_in_training_alone() -> None:
    pixelcnn, x = model(SPACES[0]), torch.zeros(1, 1, 5, 3, dtype=torch.uint8)
    assert torch.equal(pixelcnn.loss(x), pixelcnn.loss(x))
    pixelcnn.train()
    assert not torch.equal(pixelcnn.loss(x), pixelcnn.loss(x))


def test_concat_elu_is_the_elu_of_both_signs() -> None:
    h = torch.tensor([[[[2.0]], [[-1.0]]]])
    assert concat_elu(h).flatten().tolist() == pytest.approx([2, -0.6321206, -0.8646647, 1], abs=1e-6)


def figure(stream: Stream, z: torch.Tensor, y: torch.Tensor, beside: list[torch.Tensor] | None) -> list[torch.Tensor]:
    """Figure 2 with two levels of two blocks: the features after each block, which sees those of the other stream."""
    said: list[torch.Tensor] = []

    def through(block: Block, given: torch.Tensor, *twin: torch.Tensor) -> torch.Tensor:
        said.append(block(given, y, [*twin, *([] if beside is None else [beside[len(said)]])]))
        return said[-1]

    a = through(stream.down[0][0], stream.first(z))
    b = through(stream.down[0][1], a)
    c = through(stream.down[1][0], stream.downsample[0](b))
    d = through(stream.down[1][1], c)
    e = through(stream.up[1][0], d, d)
    f = through(stream.up[1][1], e, c)
    g = through(stream.up[0][0], stream.upsample[0](f, b), b)
    through(stream.up[0][1], g, a)
    return said


def test_the_streams_are_the_papers_figure() -> None:
    """In colour, of oblong images. Kills: a short-cut from another block, a rung between the streams left out."""
    pixelcnn = model(Space.levels((3, 4, 5), 5), resolutions=2, layers=2, condition=Space.categories(3)).double()
    x, y = torch.randint(5, (2, 3, 4, 5), dtype=torch.uint8), torch.eye(3, dtype=torch.float64)[[2, 0]]
    z = torch.cat([x / 2.0 - 1, torch.ones(2, 1, 4, 5)], 1).double()
    h = figure(pixelcnn.pixels, z, y, figure(pixelcnn.rows, z, y, None))[-1]
    raw = pixelcnn.output(torch.nn.functional.elu(h)).movedim(1, -1)
    expected = torch.stack(list(pixelcnn.tied(raw, x)), 1)
    assert torch.allclose(pixelcnn.conditionals(x, torch.tensor([2, 0])), expected)


def test_every_convolution_is_weight_normalised() -> None:
    """As in the published code. Kills: plain ones at the start, in a skip connection or at the end."""
    convs = [part for part in model(Space.levels((3, 8, 8), 5)).modules() if isinstance(part, CausalConv2d)]
    assert len(convs) > 20
    assert all(conv.norm is not None for conv in convs)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (Space.levels((6,), 4), "pixelcnn_pp takes images"),
        (Space.levels((1, 2, 2), 4, loc=(0.0,) * 4, scale=(1.0, 2.0, 3.0, 4.0)), "without a scale for each pixel"),
    ],
)
def test_spaces_that_it_refuses(space: Space, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        model(space)
