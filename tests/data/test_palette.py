"""Colours as tokens: which ones they are, that nothing else is made of them, and that they come out as colours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import commands
import numpy
import pytest
import torch
from PIL import Image

from dgm import contracts, data
from dgm.data import palette
from dgm.data.dataset import Split
from dgm.data.palette import clustered, colours_of, in_colour, table, tokens
from dgm.errors import BadInput, UnknownName
from dgm.registry import create
from dgm.space import Space

FIVE = torch.tensor([[255, 0, 0], [0, 254, 0], [0, 0, 253], [9, 8, 7], [200, 100, 50]], dtype=torch.uint8)


def of_five(n: int = 20) -> torch.Tensor:
    """(N, 3, 4, 6) images of five colours, all of them in each."""
    places = torch.arange(n * 24).reshape(n, 4, 6) * 7 % 5
    return FIVE[places].movedim(3, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for k, image in enumerate(of_five()):
        Image.fromarray(image.movedim(0, 2).numpy()).save(pictures / f"{k:02d}.png")
    return pictures


def test_colours_that_fit_come_back_as_they_were(folder: Path) -> None:
    """Kills: channels in another order, rows and columns in another order, a place off by one."""
    plain, dataset = data.load(str(folder)), data.load(str(folder), palette=8)
    assert dataset.space == Space.tokens((1, 4, 6), 5)
    assert dataset.describe()["palette"] == "0000fd00fe00090807c86432ff0000"
    for name, split in dataset.splits.items():
        colours, space = in_colour(dataset.space.check(split.x), dataset.space, dataset.describe())
        assert torch.equal(colours, plain.splits[name].x)
        assert space == plain.space


def test_each_pixel_takes_the_nearest_colour() -> None:
    x = torch.randint(256, (40, 3, 5, 5), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    palette = colours_of(x, 12)
    far = torch.cdist(x.movedim(1, 3).reshape(-1, 3).double(), torch.from_numpy(table(palette).copy()).double())
    taken = far.gather(1, tokens(x, palette).reshape(-1, 1).long())[:, 0]
    assert torch.allclose(taken, far.amin(1))


def test_the_palette_is_the_means_of_clusters() -> None:
    """Kills: medians, truncation for rounding, clusters of whole images."""
    noise = torch.randint(-20, 21, (500, 3, 8, 8), generator=torch.Generator().manual_seed(1))
    middles = torch.tensor([[40, 40, 200], [60, 180, 90], [210, 120, 30]])
    places = torch.randint(3, (500, 8, 8), generator=torch.Generator().manual_seed(2))
    x = (middles[places].movedim(3, 1) + noise).to(torch.uint8)
    pixels = x.movedim(1, 3).reshape(-1, 3).double()
    means = [pixels[(places == k).flatten()].mean(0).round().int().tolist() for k in range(3)]
    assert table(colours_of(x, 3)).tolist() == sorted(means)


def test_the_palette_is_of_pixels_all_over_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every twelfth here. Kills: the first pixels, rows of pixels."""
    monkeypatch.setattr(palette, "PIXELS", 40)
    pixels = torch.zeros(20 * 24, 3, dtype=torch.uint8)
    pixels[::12] = FIVE.repeat(8, 1)
    found = table(colours_of(pixels.view(20, 4, 6, 3).movedim(3, 1), 8))
    assert sorted(found.tolist()) == sorted(FIVE.tolist())


def test_the_palette_is_that_of_the_training_split(folder: Path) -> None:
    """Kills: colours of the held-out splits, which a model would know of."""
    dataset = data.load(str(folder))
    others = Split(torch.full_like(dataset.test.x, 77))
    assert sorted(table(clustered(replace(dataset, test=others), 8).palette).tolist()) == sorted(FIVE.tolist())


def test_what_has_no_colours_is_refused(folder: Path) -> None:
    with pytest.raises(BadInput, match="needs colour images"):
        data.load(str(folder), palette=8, grey=True)
    with pytest.raises(BadInput, match="from 2 to 4096"):
        data.load(str(folder), palette=1)
    with pytest.raises(BadInput, match="needs colour images"):
        clustered(data.load("digits"), 8)
    with pytest.raises(UnknownName, match="option of the data set digits"):
        data.load("digits", palette=8)


def test_what_is_no_palette_stays_as_it_is() -> None:
    x, space = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), Space.levels((3, 4, 4), 256)
    assert in_colour(x, space, {"palette": ""}) == in_colour(x, space, {}) == (x, space)


@pytest.mark.parametrize("name", ["image_gpt", "made", "masked_diffusion"])
def test_laws_hold_of_images_of_tokens(name: str) -> None:
    model = contracts.perturbed(create(name, Space.tokens((1, 2, 2), 3)))
    broken = [f"{result.law}: {result.detail}" for result in contracts.check(model) if result.outcome == "broken"]
    assert not broken


def test_samples_are_written_in_colour_and_pictures_are_gone_on_with(folder: Path, tmp_path: Path) -> None:
    def dgm(command: str) -> None:
        done = commands.dgm(command, tmp_path)
        assert done.returncode == 0, done.stderr

    small = "--steps 2 --model.layers 1 --model.width 8"
    dgm(f"train image_gpt --data {folder} --palette 8 {small} --out run")
    dgm(f"sample run -n 12 --given {folder / '03.png'} --observed 0.5 --out samples")
    given = numpy.asarray(Image.open(folder / "03.png"))
    for path in sorted((tmp_path / "samples").iterdir()):
        image = numpy.asarray(Image.open(path))
        assert {tuple(colour) for colour in image.reshape(-1, 3)} <= {tuple(colour) for colour in FIVE.tolist()}
        assert (image[:2] == given[:2]).all()
    dgm("sample run -n 4 --out grid.png")
    grid = numpy.asarray(Image.open(tmp_path / "grid.png")).reshape(-1, 3)
    assert len(numpy.unique(grid, axis=0)) == 6  # five colours and the lines between
    dgm(f"evaluate run --samples 20 --data {folder}")
    dgm(f"report run --out report.html --data {folder}")
