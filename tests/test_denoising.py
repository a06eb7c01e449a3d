"""`dgm sample` of models that undo noise: any solver, states on the way, one line for what cannot be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from commands import dgm
from PIL import Image


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of digits with and without labels, one of the plane and two that undo no noise; hardly trained."""
    folder = tmp_path_factory.mktemp("denoising")
    for arguments in (
        "train ddpm --conditional --steps 30 --ema 0 --warmup 0 --lr 0.01 --model.width 8 --out ddpm",
        "train ddpm --conditional --steps 3 --model.width 8 --out weak",
        "train flow_matching --steps 3 --model.width 8 --model.sampling-steps 5 --out flow",
        "train flow_matching --data toy/moons --steps 3 --model.sampling-steps 5 --out moons",
        "train pixelcnn --steps 3 --model.width 4 --model.layers 1 --out pixelcnn",
        "train vae --steps 3 --out vae",
    ):
        done = dgm(arguments, folder)
        assert done.returncode == 0, done.stderr
    return folder


def samples(runs: Path, arguments: str) -> numpy.ndarray:
    done = dgm(f"sample {arguments} --out x.npz", runs)
    assert done.returncode == 0, done.stderr
    x = numpy.load(runs / "x.npz")["x"]
    (runs / "x.npz").unlink()
    return x


def pixels(image: Image.Image) -> numpy.ndarray:
    return numpy.asarray(image.convert("RGB")).astype(int)


@pytest.mark.slow
def test_every_solver_samples_and_what_is_left_out_is_the_model_s_own(runs: Path) -> None:
    from dgm.samplers.solvers import SOLVERS

    own = samples(runs, "ddpm -n 3")
    assert (samples(runs, "ddpm -n 3 --solver ddim --sampling-steps 50 --spacing uniform --eta 0") == own).all()
    for solver in SOLVERS:
        assert samples(runs, f"ddpm -n 3 --solver {solver} --sampling-steps 6 --spacing log_snr").shape == own.shape
    for other in ("--eta 1", "--sampling-steps 4", "--spacing quadratic", "--solver heun"):
        assert (samples(runs, f"ddpm -n 3 {other}") != own).any(), other


def test_a_solver_is_that_of_the_library(runs: Path) -> None:
    from dgm import load
    from dgm.samplers.diffusion import SamplerConfig, sample

    sampler = SamplerConfig(solver="ddim", sampling_steps=7, spacing="karras", clamp=True, options={"eta": 0.5})
    found = samples(runs, "ddpm -n 4 --sampling-steps 7 --spacing karras --eta 0.5 --seed 3")
    assert (found == sample(load(runs / "ddpm"), 4, seed=3, sampler=sampler).numpy()).all()


def test_guidance_is_that_of_the_library(runs: Path) -> None:
    from functools import partial

    import torch

    from dgm import load
    from dgm.samplers.diffusion import trajectory
    from dgm.samplers.guidance import autoguidance, classifier_free

    model, sevens = load(runs / "ddpm"), torch.full((3,), 7)
    plain = samples(runs, "ddpm -n 3 --label 7")
    for options, guide in (
        ("--guidance 3", partial(classifier_free, scale=3.0)),
        ("--guidance 3 --guidance-interval 0.2 0.6", partial(classifier_free, scale=3.0, interval=(0.2, 0.6))),
        ("--guidance 2 --autoguidance weak", partial(autoguidance, weak=load(runs / "weak"), scale=2.0)),
    ):
        *_, last = trajectory(model, 3, sevens, seed=0, guide=guide)
        found = samples(runs, f"ddpm -n 3 --label 7 {options}")
        assert (found == last.x.numpy()).all()
        assert (found != plain).any()


def test_a_strip_shows_the_way_to_the_same_samples(runs: Path) -> None:
    for run in ("ddpm", "pixelcnn"):
        assert dgm(f"sample {run} -n 3 --show-steps 4 --out {run}.png", runs).returncode == 0
        assert dgm(f"sample {run} -n 3 --out {run}-alone.png", runs).returncode == 0
        with Image.open(runs / f"{run}.png") as strip, Image.open(runs / f"{run}-alone.png") as grid:
            across, alone = pixels(strip), pixels(grid)
        assert across.shape[:2] == (3 * 45 - 5, 4 * 45 - 5)  # of 8 pixels, each 5 × 5, and a line
        assert (across[:40, -40:] == alone[:40, :40]).all()
        assert (across[:40, :40] != across[:40, -40:]).any()


@pytest.mark.parametrize("run", ["ddpm", "pixelcnn", "moons"])
def test_an_animation_ends_with_the_samples_and_stays_there(runs: Path, run: str) -> None:
    for out in ("gif", "png"):
        done = dgm(f"sample {run} -n 9 --out animation-{run}.{out}", runs)
        assert done.returncode == 0, done.stderr
    with Image.open(runs / f"animation-{run}.gif") as movie, Image.open(runs / f"animation-{run}.png") as still:
        seconds = []
        for k in range(movie.n_frames):
            movie.seek(k)
            seconds.append(movie.info["duration"] / 1000)
        assert sum(seconds) == pytest.approx(39 * 0.08 + 2)
        assert seconds[-1] >= 2
        # equal frames are one that is seen for longer, as most of the plane's are, whose model hardly moves a point yet
        assert movie.n_frames >= (2 if run == "moons" else 30)
        assert movie.info["loop"] == 0
        assert movie.size == still.size
        if run != "moons":  # whose frames share the limits of the last one's points and a palette of 256 colours
            assert (pixels(movie) == pixels(still)).all()


def test_points_on_their_way_are_beside_one_another(runs: Path) -> None:
    assert dgm("sample moons -n 50 --show-steps 3 --out points.png", runs).returncode == 0
    with Image.open(runs / "points.png") as strip:
        assert strip.size == (3 * 480, 480)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("ddpm --solver hein", "no solver is called 'hein'; did you mean 'heun'?"),
        ("ddpm --sampling-steps 0", "--sampling-steps must be from 1 to 100000, got 0"),
        ("ddpm --steps 9", "'--steps' was renamed to '--sampling-steps'; use the new name"),
        ("ddpm --solver heun --eta 0.5", "the solver 'heun' takes no eta"),
        ("ddpm --eta 2", "--eta must be from 0 to 1, got 2"),
        ("ddpm --guidance-interval 0.2 0.8", "give --guidance too"),
        ("ddpm --autoguidance flow", "give --guidance too"),
        ("ddpm --guidance 2 --autoguidance vae", "which is not a denoising model"),
        ("ddpm --guidance 2", "--guidance needs a condition, and none is given; add --label"),
        ("ddpm --guidance 2 --guidance-interval 0.8 0.2", "two times from 0 to 1, got 0.8 0.2"),
        ("ddpm --guidance 2 --autoguidance flow", "the weak model has the condition none, this one categories"),
        (
            "flow --guidance 2 --autoguidance weak",
            "the weak model has the condition categories, 10 values, this one none",
        ),
        ("ddpm --guidance 2 --autoguidance moons", "the weak model is of continuous 2"),
        ("ddpm --temperature 0.5", "draws all values at once"),
        ("flow --guidance 2", "trained without one"),
        ("vae --solver heun", "VAE is not a denoising model and has no option solver"),
        ("vae --guidance 2", "has no option guidance"),
        ("pixelcnn --sampling-steps 9", "PixelCNN is not a denoising model and has no option sampling_steps"),
        ("vae --show-steps 4", "no steps to show"),
        ("ddpm --show-steps 1", "--show-steps must be from 2 to 1000, got 1"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(arguments: str, says: str, runs: Path) -> None:
    done = dgm(f"sample {arguments} --out none.png", runs)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (runs / "none.png").exists()


def test_a_spacing_that_is_none_is_named(runs: Path) -> None:
    """In a process of its own: here the types of every call are checked before its values are."""
    command = [sys.executable, "-m", "dgm", *["sample", "ddpm", "--spacing", "even", "--out", "none.png"]]
    done = subprocess.run(command, cwd=runs, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("dgm: no spacing is called 'even'; known: karras")


def test_steps_have_no_place_in_a_table(runs: Path) -> None:
    assert "needs a .png or .gif" in dgm("sample ddpm --show-steps 4 --out none.npz", runs).stderr
    assert "no steps to show" in dgm("sample vae --out none.gif", runs).stderr
