"""How examples of each kind of data are shown, and which data a study refuses."""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

import dgm
from dgm.data import Dataset, Split, sound
from dgm.errors import BadInput, DamagedRun, Unsupported
from dgm.space import Space
from dgm.study import examples
from dgm.study.answers import REAL
from dgm.study.opening import open_study
from dgm.study.plan import Plan


def data_of(space: Space, x: torch.Tensor, **about: object) -> Dataset:
    parts = {name: Split(x) for name in ("train", "validation", "test")}
    return Dataset(name="data", space=space, split="", **parts, **about)  # type: ignore[arg-type]


def lengths(files: dict[str, list[bytes]]) -> set[int]:
    return {len(content) for held in files.values() for content in held}


def test_images_are_their_own_pixels_real_and_generated_alike() -> None:
    x = torch.randint(0, 256, (6, 3, 5, 7), dtype=torch.uint8)
    data = data_of(Space.levels((3, 5, 7), 256), x)
    files = examples.files({REAL: x[:4], "vae": x[4:]}, data)
    shown = [numpy.asarray(Image.open(io.BytesIO(content))) for content in files[REAL] + files["vae"]]
    assert (numpy.stack(shown) == x.movedim(1, -1).numpy()).all()
    assert len(lengths(files)) == 1


def test_unbounded_images_are_shown_in_the_range_of_the_real_ones() -> None:
    """Kills: a range of each batch, which a sample of one outlier tells from real data."""
    x = torch.linspace(-1, 3, 16).view(1, 1, 4, 4)
    files = examples.files({REAL: x, "gan": torch.cat([x, 100 * x])}, data_of(Space.continuous((1, 4, 4)), x))
    assert files["gan"][0] == files[REAL][0]
    shown = numpy.asarray(Image.open(io.BytesIO(files[REAL][0])))[..., 0].reshape(-1)
    assert shown == pytest.approx(numpy.linspace(0, 255, 16), abs=1)
    pixels = numpy.asarray(Image.open(io.BytesIO(files["gan"][1])))[..., 0].reshape(-1)
    assert set(pixels.tolist()) == {0, 255}


def test_bounded_images_are_shown_within_their_bounds() -> None:
    x = torch.linspace(0.2, 0.4, 4).view(1, 1, 2, 2)
    files = examples.files({REAL: x}, data_of(Space.continuous((1, 2, 2), low=0.0, high=1.0), x))
    shown = numpy.asarray(Image.open(io.BytesIO(files[REAL][0])))[..., 0]
    assert shown == pytest.approx(255 * x[0, 0].numpy(), abs=1)


def test_clips_are_rows_of_frames() -> None:
    clips = dgm.data.load("moving_digits")
    x, _ = clips.test.batch(torch.arange(2))
    files = examples.files({REAL: x[:1], "td_vae": x[1:]}, clips)
    with Image.open(io.BytesIO(files[REAL][0])) as picture:
        assert picture.width > 7 * picture.height
    assert len(lengths(files)) == 1


def test_texts_are_their_characters_filled_to_one_length() -> None:
    x = torch.tensor([[0, 1, 2], [2, 2, 2]])
    files = examples.files({REAL: x[:1], "char_gpt": x[1:]}, data_of(Space.tokens(3, 3), x, alphabet="aé\n"))
    assert files[REAL][0].decode() == "aé\n"
    assert files["char_gpt"][0].decode() == "\n\n\n "


def test_sounds_are_wav_files_of_one_length() -> None:
    x = torch.randint(0, 256, (2, 1, 400), dtype=torch.uint8)
    files = examples.files({REAL: x[:1], "wavenet": x[1:]}, data_of(Space.levels((1, 400), 256), x, rate=8000))
    with wave.open(io.BytesIO(files["wavenet"][0])) as file:
        assert (file.getframerate(), file.getnframes()) == (8000, 400)
        heard = numpy.frombuffer(file.readframes(400), "<i2") / 32767
    assert heard == pytest.approx(sound.expand(x[1].flatten()), abs=1 / 32767)
    assert len(lengths(files)) == 1


@pytest.mark.parametrize("space", [Space.continuous((2,)), Space.levels((2, 4, 4), 4), Space.binary((8,))])
def test_data_that_cannot_be_shown_is_refused(space: Space) -> None:
    with pytest.raises(Unsupported, match="a study shows images, clips, texts and sounds, got"):
        examples.medium_of(data_of(space, torch.zeros(1, *space.shape)))


def test_real_examples_are_random_ones_of_the_split_each_once() -> None:
    digits = dgm.data.load("digits")
    plan = Plan(0, ("vae",), 200, 10)
    x = examples.real(plan, digits, "test")
    assert len(x) == 110
    rows = [(digits.test.x == one).flatten(1).all(1).nonzero()[0].item() for one in x]
    assert len(set(rows)) == 110
    assert max(rows) > 400
    with pytest.raises(BadInput, match="the validation split has 300 examples, the study needs 510"):
        examples.real(Plan(0, ("vae",), 1000, 10), digits, "validation")


def test_the_seed_draws_the_real_examples_and_their_noise() -> None:
    """Of ten examples all can be shown, in an order and with a binarisation of the seed. Kills: a seed of either."""
    x = torch.arange(10.0)[:, None]
    noisy = Split(x, transform=lambda rows, generator: rows + torch.rand(rows.shape, generator=generator))
    data = Dataset(name="", space=Space.continuous((1,)), split="", train=Split(x), validation=Split(x), test=noisy)
    first, again, other = (examples.real(Plan(seed, ("vae",), 20, 0), data, "test") for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert sorted(first.floor().flatten().tolist()) == list(range(10))
    assert (first.floor() != other.floor()).any()
    assert not set(first.frac().flatten().tolist()) & set(other.frac().flatten().tolist())


def test_samples_are_those_of_the_study_s_seed(tmp_path: Path) -> None:
    digits = dgm.data.load("digits")
    dgm.save(dgm.create("vae", digits.space, latent=2, hidden=8), tmp_path / "vae", digits)
    session = open_study([tmp_path / "vae"], tmp_path / "study.jsonl", trials=4, pairs=2, seed=5)
    x = dgm.sample(dgm.load(tmp_path / "vae"), 4, seed=5)
    assert session.examples["vae"] == examples.files({REAL: digits.test.x[:1], "vae": x}, digits)["vae"]
    session.file.close()
    with pytest.raises(BadInput, match="its seed is 5, this one's 0"):
        open_study([tmp_path / "vae"], tmp_path / "study.jsonl", trials=4, pairs=2)


def test_each_run_has_a_name_of_its_own(tmp_path: Path) -> None:
    digits = dgm.data.load("digits")
    for folder in ("a", "b"):
        dgm.save(dgm.create("vae", digits.space, latent=2, hidden=8), tmp_path / folder / "vae", digits)
    runs = [tmp_path / "a/vae", tmp_path / "b/vae"]
    session = open_study(runs, tmp_path / "study.jsonl", trials=2, pairs=0)
    assert list(session.examples) == [REAL, *map(str, runs)]
    for run in runs:  # each has the study's seed, and one example beside the two real ones
        x = dgm.sample(dgm.load(run), 1, seed=0)
        assert session.examples[str(run)] == examples.files({REAL: digits.test.x[:1], "vae": x}, digits)["vae"]
    session.file.close()
    with pytest.raises(BadInput, match="each run needs a name of its own"):
        open_study([runs[0], runs[0]], tmp_path / "other.jsonl")


def test_images_are_timed_and_texts_are_not(tmp_path: Path) -> None:
    """By default: 150 trials of a run with the staircase and 100 without, as in the paper."""
    digits = dgm.data.load("digits")
    (tmp_path / "text.txt").write_text("to be or not to be " * 500, encoding="utf-8")
    text = dgm.data.load(tmp_path / "text.txt", context=8)
    dgm.save(dgm.create("vae", digits.space, latent=2, hidden=8), tmp_path / "vae", digits)
    dgm.save(dgm.create("char_gpt", text.space, layers=1, width=8, heads=1), tmp_path / "gpt", text)
    path = str(tmp_path / "text.txt")
    for name, data, timed, trials in (("vae", None, True, 150), ("gpt", path, False, 100)):
        session = open_study([tmp_path / name], tmp_path / f"{name}.jsonl", data=data, pairs=0)
        session.file.close()
        assert (session.timed, session.plan.trials) == (timed, trials)
    with pytest.raises(BadInput, match="the staircase times images, got text"):
        open_study([tmp_path / "gpt"], tmp_path / "timed.jsonl", data=path, timed=True)
    with pytest.raises(BadInput, match="were trained on different data"):
        open_study([tmp_path / "vae", tmp_path / "gpt"], tmp_path / "both.jsonl")
    (tmp_path / "vae" / "manifest.json").unlink()
    with pytest.raises(DamagedRun, match="has not been trained to its end"):
        open_study([tmp_path / "vae"], tmp_path / "vae.jsonl", pairs=0)
