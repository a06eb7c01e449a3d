"""Clips of moving digits against the images that they are of."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy
import torch

from dgm import data
from dgm.data.dataset import Dataset, Split
from dgm.data.moving import Clips, moving
from dgm.report.pictures import view
from dgm.space import Space


def test_a_frame_is_the_image_moved_by_a_pixel_and_returns_on_the_other_side() -> None:
    """Kills: a direction of every clip, a frame that stays, a move down in place of across."""
    pictures = torch.randint(2, (40, 1, 3, 5)).to(torch.uint8)
    clips = Clips(pictures, 6, seed=0)
    assert set(clips.step.tolist()) == {-1, 1}
    assert len(set(clips.start.tolist())) == 5
    x = clips[torch.tensor([7, 0])]
    assert x.shape == (2, 6, 1, 3, 5)
    for row, k in enumerate((7, 0)):
        for t in range(6):
            expected = pictures[k].roll(int(clips.start[k] + t * clips.step[k]), dims=-1)
            assert torch.equal(x[row, t], expected)


def test_clips_are_indexed_as_a_tensor_is() -> None:
    clips = Clips(torch.randint(2, (4, 1, 2, 3)).to(torch.uint8), 2, seed=0)
    whole = clips[:]
    assert whole.shape == clips.shape
    assert torch.equal(clips[2], whole[2])
    assert torch.equal(clips[1:3], whole[1:3])
    assert torch.equal(clips[whole[:, 0, 0, 0, 0] == 1], whole[whole[:, 0, 0, 0, 0] == 1])


def test_the_clips_of_digits_are_of_the_seed_alone() -> None:
    first, again = data.load("moving_digits"), data.load("moving_digits")
    still = data.load("digits")
    assert first.space == Space.binary((8, 1, 8, 8))
    assert torch.equal(first.test.x, again.test.x)
    assert torch.equal(first.test.x.flatten(2).sum(2), (still.test.x > 8).flatten(1).sum(1)[:, None].expand(-1, 8))
    assert first.train.y is not None
    assert torch.equal(first.train.y.view(8, -1)[5], still.train.y)  # type: ignore[arg-type]
    assert torch.equal(first.train.x[5000:6000].flatten(2).sum(2)[:, 0], (still.train.x > 8).flatten(1).sum(1))


def test_the_clips_of_each_split_are_drawn_apart() -> None:
    """Kills: the seed of one split for another, whose clips of alike images are then its own."""
    dots = Split(torch.eye(8, dtype=torch.uint8)[0].expand(200, 1, 1, 8))
    still = Dataset(name="", space=Space.binary((1, 1, 8)), train=dots, validation=dots, test=dots, split="")
    places = [split.x[:200, 0].flatten(1).argmax(1) for split in moving(still, 2, in_memory=True).splits.values()]
    for first, second in combinations(places, 2):
        assert (first == second).double().mean() < 0.25  # 1 / 8 by chance


def test_a_picture_of_clips_has_a_row_for_each() -> None:
    x = torch.zeros(3, 4, 1, 8, 8, dtype=torch.uint8)
    x[1, 2] = 1
    picture = numpy.asarray(view(x, Space.binary((4, 1, 8, 8))).convert("L"))
    scale = 5  # of an image of 8 pixels to 40
    corners = picture[:: 9 * scale, :: 9 * scale]
    assert corners.tolist() == [[0] * 4, [0, 0, 255, 0], [0] * 4]


def test_clips_of_mnist_are_drawn_when_a_batch_is_loaded(data_root: Path) -> None:
    clips, still = data.load("moving_mnist"), data.load("mnist")
    x, y = clips.train.batch(torch.tensor([5, 3]))
    assert x.shape == (2, 10, 1, 28, 28)
    assert torch.equal(x.flatten(2).sum(2)[:, 0], (still.train.x[[5, 3]] > 127).flatten(1).sum(1))
    assert y is not None
    assert torch.equal(y, still.train.y[[5, 3]])  # type: ignore[index]
