"""`dgm edit`: what is given stays, what is measured is measured again, one line for what cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch
from commands import dgm
from PIL import Image

from dgm import data, load
from dgm.editing.inversion import decode


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of digits, of colour images and of points, hardly trained; held-out digits as files."""
    folder = tmp_path_factory.mktemp("edit")
    colours = numpy.random.default_rng(0).integers(0, 256, (40, 8, 8, 3)).astype(numpy.uint8)
    numpy.save(folder / "colours.npy", colours)
    for arguments in (
        "train ddpm --conditional --steps 30 --ema 0 --warmup 0 --lr 0.01 --model.width 8 --out ddpm",
        "train flow_matching --data colours.npy --steps 3 --model.width 8 --out colour",
        "train flow_matching --data toy/moons --steps 3 --out moons",
        "train vae --steps 3 --out vae",
    ):
        done = dgm(arguments, folder)
        assert done.returncode == 0, done.stderr
    x = data.load("digits").test.x[:3].numpy()
    numpy.savez(folder / "three.npz", x=x)
    Image.fromarray((x[0, 0] * (255 / 16)).round().astype(numpy.uint8)).save(folder / "one.png")
    small = x[0, 0].reshape(4, 2, 4, 2).mean((1, 3))
    Image.fromarray((small * (255 / 16)).round().astype(numpy.uint8)).save(folder / "small.png")
    mask = numpy.full((8, 8), 255, numpy.uint8)
    mask[2:5, 1:7] = 0
    Image.fromarray(mask).save(folder / "mask.png")
    return folder


def edited(runs: Path, arguments: str, name: str = "x") -> numpy.ndarray:
    done = dgm(f"edit {arguments} --out edited.npz", runs)
    assert done.returncode == 0, done.stderr
    with numpy.load(runs / "edited.npz") as file:
        found = file[name]
    (runs / "edited.npz").unlink()
    return found


@pytest.mark.parametrize(
    ("mask", "anew"),
    [
        ("top", numpy.s_[:4, :]),
        ("bottom", numpy.s_[4:, :]),
        ("left", numpy.s_[:, :4]),
        ("right", numpy.s_[:, 4:]),
        ("centre", numpy.s_[2:6, 2:6]),
        ("mask.png", numpy.s_[2:5, 1:7]),
    ],
)
def test_what_is_not_masked_stays(runs: Path, mask: str, anew: tuple[slice, slice]) -> None:
    x = edited(runs, f"inpaint ddpm --mask {mask} --given three.npz -n 4 --sampling-steps 6 --resamplings 2")
    given = numpy.load(runs / "three.npz")["x"].repeat(4, 0)
    known = numpy.ones((8, 8), bool)
    known[anew] = False
    assert x.shape == (12, 1, 8, 8)
    assert (x[..., known] == given[..., known]).all()
    assert (x[..., ~known] != given[..., ~known]).any()
    assert (x[0] != x[1]).any()


def test_a_row_is_the_original_what_was_given_and_the_results(runs: Path) -> None:
    few = "--sampling-steps 5 --resamplings 1 -n 3"
    assert dgm(f"edit inpaint ddpm --mask bottom {few} --examples 2 --out row.png", runs).returncode == 0
    with Image.open(runs / "row.png") as image:
        pixels = numpy.asarray(image.convert("L")).astype(int)
    assert pixels.shape == (2 * 45 - 5, 5 * 45 - 5)  # of 8 pixels, each 5 × 5, and a line
    first = data.load("digits").test.x[0, 0].numpy() * (255 / 16)
    assert abs(pixels[2:40:5, 2:40:5] - first).max() <= 0.5
    assert (pixels[:20, 45:85] == pixels[:20, :40]).all()
    assert (pixels[20:40, 45:85] == pixels[20, 45]).all()
    for k in (2, 3, 4):
        assert (pixels[:20, 45 * k : 45 * k + 40] == pixels[:20, :40]).all()


def test_a_picture_is_in_painted_as_the_same_array_is(runs: Path) -> None:
    options = "inpaint ddpm --mask left -n 2 --sampling-steps 5 --label 3 --seed 1"
    x = edited(runs, f"{options} --given one.png")
    assert (x == edited(runs, f"{options} --given three.npz")[:2]).all()
    assert (x != edited(runs, f"{options.replace('--label 3', '')} --given one.png")).any()


def test_many_pixels_average_to_the_few(runs: Path) -> None:
    small = numpy.asarray(Image.open(runs / "small.png")) / 255 * 16
    x = edited(runs, "superres ddpm --factor 2 --given small.png -n 3 --sampling-steps 6").astype(float)
    inside = (x > 0).reshape(3, 4, 2, 4, 2).all((2, 4)) & (x < 16).reshape(3, 4, 2, 4, 2).all((2, 4))
    found = x.reshape(3, 4, 2, 4, 2).mean((2, 4))
    assert abs(found - small.round())[inside].max(initial=0) <= 0.5  # levels are rounded, and clamped at both ends


def test_colours_have_the_grey_that_was_given(runs: Path) -> None:
    x = edited(
        runs, "colourise colour --data colours.npy --split train --examples 3 -n 2 --sampling-steps 6 --resamplings 1"
    ).astype(float)
    assert x.shape == (6, 3, 8, 8)
    from dgm.runs import Run

    grey = Run(runs / "colour").dataset(str(runs / "colours.npy")).train.x[:3].double().mean(1).numpy().repeat(2, 0)
    inside = ((x > 0) & (x < 255)).all(1)
    assert inside.mean() > 0.3
    assert abs(x.mean(1) - grey)[inside].max() <= 0.5


def test_a_blur_is_undone_from_the_run_s_data_and_from_a_file(runs: Path) -> None:
    assert edited(runs, "deblur ddpm --blur 0.7 --noise 0.02 --examples 2 -n 2 --sampling-steps 5").shape == (
        4,
        1,
        8,
        8,
    )
    assert edited(runs, "deblur ddpm --given one.png -n 2 --sampling-steps 5").shape == (2, 1, 8, 8)


def test_codes_are_decoded_to_their_images_and_to_what_lies_between(runs: Path) -> None:
    model, few = load(runs / "ddpm"), "--given three.npz --sampling-steps 30"
    z = torch.from_numpy(edited(runs, f"encode ddpm {few}", name="z"))
    again = edited(runs, f"reconstruct ddpm {few}")
    assert (decode(model, z, sampling_steps=30).numpy() == again).all()
    way = edited(runs, f"interpolate ddpm {few} -n 4")
    assert way.shape == (4, 1, 8, 8)
    assert abs(way[[0, 3]].astype(int) - again[:2]).max() <= 1  # rounded to levels
    for task in ("reconstruct", "interpolate"):
        done = dgm(f"edit {task} ddpm {few} --out {task}.png", runs)
        assert done.returncode == 0, done.stderr
    with Image.open(runs / "reconstruct.png") as rows, Image.open(runs / "interpolate.png") as row:
        assert (rows.size, row.size) == ((3 * 45 - 5, 3 * 45 - 5), (10 * 45 - 5, 45 - 5))


def test_codes_of_a_vae_are_traversed_and_added(runs: Path) -> None:
    three = data.load("digits").test.x[:3].numpy()
    assert (
        edited(runs, "arithmetic vae --expression x-7+7 --given three.npz") == edited(runs, "reconstruct vae")[:3]
    ).all()
    assert edited(runs, "encode vae --given three.npz", name="z").shape == (3, 16)
    assert edited(runs, "traverse vae --dimensions 5 -n 3 --examples 2").shape == (2 * 5 * 3, 1, 8, 8)
    assert dgm("edit arithmetic vae --expression x-7+7 --given three.npz --out sum.png", runs).returncode == 0
    assert dgm("edit traverse vae --dimensions 5 -n 3 --out traversed.png", runs).returncode == 0
    with Image.open(runs / "sum.png") as rows, Image.open(runs / "traversed.png") as dimensions:
        assert (rows.size, dimensions.size) == ((4 * 45 - 5, 3 * 45 - 5), (3 * 45 - 5, 5 * 45 - 5))
        first = numpy.asarray(rows.convert("L")).astype(int)[2:40:5, 2:40:5]
    assert abs(first - three[0, 0] * (255 / 16)).max() <= 0.5


def test_help_is_there_for_every_task(tmp_path: Path) -> None:
    from dgm.cli.edit import TASKS

    said = dgm("edit --help", tmp_path).stdout
    assert all(f"dgm edit {name} RUN" in said for name in TASKS)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("inpant ddpm", "no task of dgm edit is called 'inpant'; did you mean 'inpaint'?"),
        ("inpaint ddpm", "--mask"),
        ("inpaint ddpm --mask bttom", "no mask is called 'bttom'; did you mean 'bottom'?"),
        ("inpaint ddpm --mask three.npz", "cannot be read as an image"),
        ("inpaint vae --mask top", "VAE is not a denoising model"),
        ("arithmetic vae --expression x-11", "no label of this run is called '11'"),
        ("arithmetic vae", "--expression"),
        ("interpolate vae --path curved", "--path"),
        ("inpaint moons --mask top", "is for images, this model is of continuous 2"),
        ("inpaint nowhere --mask top", "not a run directory"),
        ("inpaint ddpm --mask top --given nowhere.png", "there is no file nowhere.png"),
        ("inpaint ddpm --mask top --given words.txt", "--given cannot be a '.txt' file"),
        ("inpaint ddpm --mask top -n 0", "-n must be at least 1, got 0"),
        ("inpaint ddpm --mask top --sampling-steps 0", "--sampling-steps must be from 1 to 100000, got 0"),
        ("inpaint ddpm --mask top --jump 0", "--jump must be from 1 to 100000, got 0"),
        ("inpaint ddpm --mask top --label 10", "no label of this run is called '10'"),
        ("inpaint ddpm --mask top --factor 3", "no option of dgm edit inpaint is called '--factor'"),
        ("superres ddpm --factor 3", "8 × 8 pixels cannot be divided into blocks of 3"),
        ("superres ddpm --factor 1", "--factor must be at least 2, got 1"),
        ("superres ddpm --noise -1", "--noise must be from 0 to 10, got -1"),
        ("deblur ddpm --blur 0", "above 0, got 0.0"),
        ("colourise ddpm", "there are no colours in levels 1×8×8"),
        ("encode ddpm", "end it in .npz"),
        ("interpolate ddpm --given one.png", "needs 2 of them, got 1"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(arguments: str, says: str, runs: Path) -> None:
    (runs / "words.txt").touch()
    done = dgm(f"edit {arguments} --out none.png", runs)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (runs / "none.png").exists()
