"""`dgm sample` of autoregressive models: what is given stays, text comes out as text, sound as sound."""

from __future__ import annotations

import wave
from pathlib import Path
from subprocess import CompletedProcess

import commands
import numpy
import pytest
from PIL import Image

pytestmark = pytest.mark.xdist_group("sample")  # one worker has all, so that the runs are trained once


def dgm(*arguments: str, cwd: Path) -> CompletedProcess[str]:
    return commands.dgm(arguments, cwd)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of images, one of text and one of sound, hardly trained."""
    folder = tmp_path_factory.mktemp("sample")
    (folder / "words.txt").write_text("to be or not to be, that is the question\n" * 60, encoding="utf-8")
    rng = numpy.random.default_rng(0)
    (folder / "sounds").mkdir()
    for k in range(12):
        with wave.open(str(folder / "sounds" / f"{k}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes((rng.normal(size=900) * 3000).astype("<i2").tobytes())
    for arguments in (
        "train pixelcnn --data digits --steps 3 --model.width 4 --model.layers 1 --out images",
        "train char_gpt --data words.txt --context 16 --steps 3 --model.layers 1 --out text",
        "train wavenet --data sounds --seconds 0.05 --steps 3 --model.layers 3 --model.width 8 --out sound",
        "train vae --data digits --steps 3 --out vae",
    ):
        done = dgm(*arguments.split(), cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


def array(path: Path) -> numpy.ndarray:
    return numpy.load(path)["x"]


def test_the_given_half_of_a_picture_stays(runs: Path) -> None:
    shades = numpy.random.default_rng(1).integers(0, 17, (8, 8))
    Image.fromarray((shades * 255 / 16).round().astype(numpy.uint8)).save(runs / "whole.png")
    Image.fromarray((shades[:3] * 255 / 16).round().astype(numpy.uint8)).save(runs / "upper.png")
    for given, options, rows in (
        ("whole.png", "--observed 0.5", 4),
        ("whole.png", "", 4),
        ("whole.png", "--observed 1", 8),
        ("upper.png", "", 3),
    ):
        done = dgm(*f"sample images -n 5 --given {given} {options} --out x.npz".split(), cwd=runs)
        assert done.returncode == 0, done.stderr
        x = array(runs / "x.npz")[:, 0]
        (runs / "x.npz").unlink()
        assert (x[:, :rows] == shades[:rows]).all()
        assert rows == 8 or (x[:, rows:] != x[:1, rows:]).any()


def test_an_array_is_gone_on_with_example_by_example(runs: Path) -> None:
    given = numpy.random.default_rng(2).integers(0, 17, (3, 1, 8, 8)).astype(numpy.uint8)
    numpy.savez(runs / "three.npz", x=given)
    done = dgm(
        *["sample", "images", "-n", "3", "--given", "three.npz", "--observed", "0.25", "--out", "y.npz"], cwd=runs
    )
    assert done.returncode == 0, done.stderr
    assert (array(runs / "y.npz")[:, :, :2] == given[:, :, :2]).all()


def test_a_text_goes_on_from_its_prompt(runs: Path) -> None:
    arguments = ["sample", "text", "-n", "2", "--prompt", "to be", "--length", "50", "--out", "-"]
    first, second = (dgm(*arguments, cwd=runs) for _ in range(2))
    assert first.stdout == second.stdout
    texts = first.stdout.removesuffix("\n").split("\n-----\n")
    assert [len(text) for text in texts] == [50, 50]
    assert all(text.startswith("to be") for text in texts)
    assert texts[0] != texts[1]
    (runs / "prompt.txt").write_text("to be", encoding="utf-8")
    again = dgm(*["sample", "text", "-n", "2", "--given", "prompt.txt", "--length", "50", "--out", "t.txt"], cwd=runs)
    assert again.returncode == 0, again.stderr
    assert (runs / "t.txt").read_text(encoding="utf-8") == first.stdout


def test_a_share_of_a_text_stays_and_a_long_one_s_end(runs: Path) -> None:
    def after(prompt: str, *options: str) -> list[str]:
        done = dgm(*["sample", "text", "-n", "8", "--prompt", prompt, *options, "--out", "-"], cwd=runs)
        assert done.returncode == 0, done.stderr
        return done.stdout.removesuffix("\n").split("\n-----\n")

    half = after("to be or not", "--observed", "0.5")
    assert all(text.startswith("to be ") for text in half)
    assert len({text[6] for text in half}) > 1
    assert all(text.startswith("is the question") for text in after("to be, that is the question"))


def test_texts_are_written_as_a_picture_too(runs: Path) -> None:
    done = dgm(*["sample", "text", "-n", "3", "--out", "text.png"], cwd=runs)
    assert done.returncode == 0, done.stderr
    with Image.open(runs / "text.png") as picture:
        assert picture.height >= 3 * 30  # a line of 18 and a margin of 12 pixels each


def test_temperature_zero_and_top_one_are_greedy(runs: Path) -> None:
    greedy = [
        dgm(*f"sample text -n 2 {option} --seed {seed} --out -".split(), cwd=runs).stdout
        for seed, option in ((0, "--temperature 0"), (1, "--temperature 0"), (2, "--top-k 1"))
    ]
    assert len(set(greedy)) == 1
    assert len(set(greedy[0].removesuffix("\n").split("\n-----\n"))) == 1


def test_sound_goes_on_from_a_recording_and_is_written(runs: Path) -> None:
    with wave.open(str(runs / "start.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes((numpy.sin(numpy.arange(100)) * 9000).astype("<i2").tobytes())
    for out in ("s.npz", "s.wav", "s.png", "s"):
        done = dgm(*f"sample sound -n 2 --given start.wav --out {out}".split(), cwd=runs)
        assert done.returncode == 0, done.stderr
    x = array(runs / "s.npz")[:, 0]
    assert (x[0, :100] == x[1, :100]).all()
    assert (x[0, 100:] != x[1, 100:]).any()
    with wave.open(str(runs / "s.wav")) as file:
        assert (file.getframerate(), file.getnframes()) == (8000, 800)
    assert len(list((runs / "s").glob("*.wav"))) == 2
    with Image.open(runs / "s.png") as picture:
        assert picture.width > 200


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("sample vae --temperature 0.5 --out a.png", "draws all values at once"),
        ("sample vae --given whole.png --out a.png", "draws all values at once"),
        ("sample images --temperature -1 --out a.png", "--temperature must be from 0 to 1000, got -1"),
        ("sample images --top-p 0 --out a.png", "top-p must be in (0, 1], got 0"),
        ("sample images --given nowhere.png --out a.png", "there is no file nowhere.png"),
        ("sample images --given words.txt --out a.png", "no text"),
        ("sample images --given whole.png --observed 2 --out a.png", "--observed must be from 0 to 1, got 2"),
        ("sample images --length 5 --out a.png", "a length is for text"),
        ("sample images --out a.wav", "needs sound"),
        ("sample images --out a.txt", "text was asked for, and this run is of levels"),
        ("sample images --out -", "text was asked for, and this run is of levels"),
        ("sample text --out a", "a folder of pictures needs images"),
        ("sample text --given latin.txt --out -", "never had the character"),
        ("sample text --given table.csv --out -", "--given cannot be a '.csv' file"),
        ("sample text --prompt Q --out -", "never had the character 'Q'"),
        ("sample text --prompt to --given words.txt --out -", "both --given and --prompt"),
        ("sample text --given start.wav --out -", "a sound cannot be given"),
        ("sample text --length 0 --out -", "--length must be at least 1, got 0"),
        ("sample images --given three.npz -n 4 --out a.png", "holds 3 examples, expected 1 or 4"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(arguments: str, says: str, runs: Path) -> None:
    Image.new("L", (8, 8)).save(runs / "whole.png")
    numpy.savez(runs / "three.npz", x=numpy.zeros((3, 1, 8, 8), numpy.uint8))
    (runs / "start.wav").touch()
    (runs / "table.csv").touch()
    (runs / "latin.txt").write_bytes("né".encode("latin-1"))
    done = dgm(*arguments.split(), cwd=runs)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (runs / "a.png").exists()
    assert not (runs / "a.wav").exists()
