"""Sounds, tables and long texts to a container and back, and decoding in other batches than encoding."""

from __future__ import annotations

import io
import math
import subprocess
import sys
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor

import dgm
from dgm.compression import content
from dgm.compression.archive import Coder, Rate, compress, decompress, in_float64
from dgm.compression.codecs import SequentialCodec
from dgm.compression.reals import Grid, RealColumn
from dgm.compression.sounds import SILENCE, VALUES, CompandedCodec, companding
from dgm.compression.stack import Stack
from dgm.contracts.laws import perturbed
from dgm.data import sound
from dgm.distributions.columns import Missing
from dgm.distributions.output import output_distribution
from dgm.errors import BadInput, Unsupported
from dgm.protocols import Model
from dgm.registry import create
from dgm.space import Space

OF_SOUND: dict[str, Any] = {"options": {}, "rate": 8000}


def model_of(space: Space, name: str = "made", **config: Any) -> Model:
    torch.manual_seed(0)
    return perturbed(create(name, space, **config))


def returned(model: Model, about: dict[str, Any], path: Path, **how: Any) -> tuple[bytes, Rate]:
    rate = compress(model, about, [path], path.with_name("x.dgm"), **how)
    back = path.with_name("back")
    assert decompress(model, about, path.with_name("x.dgm"), back) == []
    return back.read_bytes(), rate


# -- sounds


def of_sound() -> Model:
    return model_of(Space.levels((1, 40), 256), hidden=8)


def wav(samples: numpy.ndarray, *, rate: int = 8000, width: int = 2, channels: int = 1) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    return out.getvalue()


@pytest.mark.parametrize("length", [40, 100])
def test_a_sound_of_16_bits_comes_back_and_costs_its_levels_and_what_they_leave_open(
    length: int, tmp_path: Path
) -> None:
    samples = numpy.random.default_rng(0).normal(0, 3000, length).round().clip(-32768, 32767)
    samples[:4] = -32768, 32767, 0, -1
    trailer = b"LIST\x04\x00\x00\x00abcd"
    path, model = tmp_path / "a.wav", of_sound()
    path.write_bytes(wav(samples) + trailer)
    back, rate = returned(model, OF_SOUND, path)
    assert back == path.read_bytes()
    padded = numpy.zeros(math.ceil(length / 40) * 40)
    padded[:length] = samples
    levels = torch.from_numpy(sound.compress(padded / 32768)).view(-1, 1, 40)
    open_to = torch.from_numpy(numpy.bincount(sound.compress(numpy.arange(-32768, 32768) / 32768), minlength=256))
    kept = open_to[levels.long()].double().log2().flatten()[:length]
    with torch.no_grad():
        claimed = float(kept.sum() - model.log_prob(levels).sum() / math.log(2))
    assert rate.claimed == pytest.approx(claimed, rel=1e-6)
    assert rate.bits == pytest.approx(claimed, rel=1e-3, abs=64)


def test_each_level_has_its_values() -> None:
    level, first, size = companding()
    assert int(size.sum()) == VALUES
    assert (size > 0).all()
    for k in (0, 1, 127, 128, 255):
        inside = torch.arange(int(first[k]), int(first[k] + size[k]))
        assert (level[inside] == k).all()
    assert level[SILENCE] == sound.compress(numpy.zeros(1))[0]


def test_values_of_16_bits_are_popped_as_they_were_pushed() -> None:
    model = of_sound()
    x = torch.randint(VALUES, (5, 1, 40), generator=torch.Generator().manual_seed(0)).to(Space.levels((), VALUES).dtype)
    with in_float64(model):
        codec, stack = CompandedCodec(SequentialCodec(model), torch.tensor([40, 40, 7, 40, 0])), Stack()
        x[2, :, 7:] = x[4] = SILENCE  # after the ends of sounds
        codec.push(stack, x, None)
        assert torch.equal(codec.pop(stack, 5, None), x)


def test_silence_after_the_end_of_a_sound_costs_its_level_alone(tmp_path: Path) -> None:
    """The claim and the code agree also where the values that are pushed first are all the same."""
    model, path, rates = of_sound(), tmp_path / "a.wav", []
    for length in (80, 41):
        path.write_bytes(wav(numpy.zeros(length)))
        rates.append(returned(model, OF_SOUND, path)[1])
        assert rates[-1].bits == pytest.approx(rates[-1].claimed, rel=1e-3, abs=64)
    of_silence = math.log2(float(companding().size[companding().level[SILENCE]]))
    assert rates[0].claimed - rates[1].claimed == pytest.approx(39 * of_silence)


@pytest.mark.parametrize(
    ("how", "expected"),
    [({"rate": 16000}, "at 16000 Hz"), ({"channels": 2}, "in 2 channels"), ({"width": 1}, "8 bits")],
)
def test_a_sound_of_another_format_is_refused(how: dict[str, int], expected: str, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(numpy.zeros(60), **how))
    with pytest.raises(BadInput, match=expected):
        compress(of_sound(), OF_SOUND, [tmp_path / "a.wav"], tmp_path / "x.dgm")
    assert not (tmp_path / "x.dgm").exists()


@pytest.mark.parametrize("space", [Space.levels((1, 4, 4), 17), Space.levels((16,), 256)])
def test_an_image_is_not_an_example_of_fewer_levels_or_of_a_row(space: Space, tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 4 4 255\n" + bytes(16))
    with pytest.raises(Unsupported, match="an image is not an example of"):
        content.Pictures().describe(tmp_path / "a.pgm", content.Interface(space, {}))


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("t10k-images-idx3-ubyte.gz", "compressed already; unpack it first"),
        ("digits", "IDX array whose name ends in -"),
    ],
)
def test_a_file_of_unknown_form_is_refused_with_what_to_do(name: str, remedy: str, tmp_path: Path) -> None:
    """Published IDX files are distributed as .gz. Kills: "a '' file is not an example"."""
    (tmp_path / name).write_bytes(bytes(40))
    with pytest.raises(Unsupported, match=rf"{name} is .*{remedy}"):
        compress(of_sound(), OF_SOUND, [tmp_path / name], tmp_path / "x.dgm")


def test_sounds_are_not_mixed_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(numpy.zeros(40)))
    numpy.save(tmp_path / "a.npy", numpy.zeros((1, 1, 40), numpy.uint8))
    with pytest.raises(BadInput, match="compress them apart"):
        compress(of_sound(), OF_SOUND, [tmp_path / "a.wav", tmp_path / "a.npy"], tmp_path / "x.dgm")


# -- tables

PEOPLE = "name,age,member,since\n" + "".join(
    f"{name},{age},{member},{since}\n"
    for name, age, member, since in [
        ('"Smith, A"', 31, "true", "2020-01-05"),
        ("Jones", 44, "false", ""),
        ("Jones", 31, "true", "2020-02-29"),
        ("Kim", 52, "false", "2020-01-05"),
    ]
    * 12
)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, dict[str, Any], Path]:
    path = tmp_path_factory.mktemp("people") / "people.csv"
    path.write_text(PEOPLE, encoding="utf-8")
    dataset = dgm.data.load(path, types="name=category,age=integer,member=boolean,since=date")
    return model_of(dataset.space, hidden=16), dataset.describe(), path


def as_others_write_it(text: str) -> str:
    """Other ends of lines, another delimiter and another text of missing values."""
    lines = (line.replace(",", ";").replace('"Smith; A"', '"Smith, A"') for line in text.splitlines())
    return "".join((f"{line}NA" if line.endswith(";") else line) + "\r\n" for line in lines)


TABLES: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "as others write it": as_others_write_it,
    "some numbers with zeros, and no last end": lambda text: text.replace(",31,true", ",31.0,true", 3).rstrip("\n"),
}


@pytest.mark.parametrize("name", TABLES)
def test_rows_come_back_byte_for_byte(name: str, people: tuple[Model, dict[str, Any], Path], tmp_path: Path) -> None:
    model, about, _ = people
    path = tmp_path / "rows.csv"
    path.write_bytes(TABLES[name](PEOPLE).encode())
    back, rate = returned(model, about, path, block=10)
    assert back == path.read_bytes()
    assert rate.bits == pytest.approx(rate.claimed, rel=1e-3, abs=64 * 5)  # of five blocks
    assert rate.kind == "exact"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("age,member", "size,member"), "other columns"),
        (("Kim", "Lee"), "row 4: .*'Lee'"),
        ((",44,", ",444,"), "row 2: .*'444'"),
        ((",44,", ",,"), "row 2: .*no missing values in 'age'"),
        (("Jones,44,false,", "Jones,44,false"), "row 2: 3 cells, expected 4"),
        ((",31,", ",31.0,"), "24 of 48 rows"),
    ],
)
def test_rows_that_the_model_does_not_have_are_refused(
    change: tuple[str, str], expected: str, people: tuple[Model, dict[str, Any], Path], tmp_path: Path
) -> None:
    model, about, _ = people
    path = tmp_path / "rows.csv"
    path.write_text(PEOPLE.replace(*change), encoding="utf-8")
    with pytest.raises(BadInput, match=expected):
        compress(model, about, [path], tmp_path / "x.dgm")
    assert not (tmp_path / "x.dgm").exists()


WEATHER = "day,temperature [C],rain [mm],wind\n" + "".join(
    f"{2 + k % 3},{20 + 0.1 * round(80 * math.sin(k)):.1f},{'' if k % 7 == 0 else f'{0.25 * (k % 11):.2f}'},"
    f"{'weak' if k % 3 else 'strong'}\n"
    for k in range(60)
)
REALS = {"mixed": (WEATHER, "day=integer,temperature [C]=real,rain [mm]=real,wind=category")}
REALS["all"] = ("a,b\n" + "".join(f"{k / 8:.3f},{-k / 10:g}\n" for k in range(60)), "a=real,b=real")


@pytest.mark.parametrize("name", ["made", "nade", "orderless_made"])
@pytest.mark.parametrize("rows", REALS)
def test_real_columns_are_coded_with_their_decimals(name: str, rows: str, tmp_path: Path) -> None:
    """The claim is the density times the distance of two values, which is small beside every scale."""
    text, types = REALS[rows]
    path = tmp_path / "rows.csv"
    path.write_text(text, encoding="utf-8")
    dataset = dgm.data.load(path, types=types)
    model = model_of(dataset.space, name, hidden=8, **({"orders": 2} if name == "orderless_made" else {}))
    back, rate = returned(model, dataset.describe(), path)
    assert back == path.read_bytes()
    assert rate.bits == pytest.approx(rate.claimed, rel=5e-3, abs=96)
    assert rate.size < len(text)


@pytest.mark.parametrize("places", [0, 1, 6])
def test_a_real_number_costs_the_probability_of_its_cell(places: int) -> None:
    """Of a mixture of two normal distributions of any scale, with one code word or two."""
    from scipy.stats import norm

    grid, step = Grid(places, -4 * 10**places, 9 * 10**places), 10.0**-places
    observed = output_distribution(Space.continuous(()), 2)
    outputs = torch.tensor([[0.3, -0.2, -0.5, 1.0, math.log(0.4), math.log(1.2)]], dtype=torch.float64).repeat(200, 1)
    x = grid.values(grid.ranks(torch.linspace(-3, 3, 200, dtype=torch.float64)))
    stack = Stack()
    RealColumn(observed, 0, grid).push(stack, x, outputs)
    weights, moments = torch.tensor([0.3, -0.2]).softmax(0).tolist(), [(-0.5, 0.4), (1.0, 1.2)]

    def mass(low: Any, high: Any) -> Any:
        return sum(w * (norm.cdf(high, *m) - norm.cdf(low, *m)) for w, m in zip(weights, moments, strict=True))

    inside = mass(-4 - step / 2, 5 - step / 2)
    expected = -numpy.log2(mass(x.numpy() - step / 2, x.numpy() + step / 2) / inside).sum()
    assert 32 * (len(stack.words()) - 2) == pytest.approx(expected, abs=34)
    assert torch.equal(RealColumn(observed, 0, grid).pop(stack, outputs), x)


def test_a_missing_value_costs_its_probability() -> None:
    """A column of one number is coded by whether it is missing alone. Kills: the probabilities of the two swapped."""
    observed = Missing(output_distribution(Space.continuous(()), 1))
    x = torch.where(torch.arange(900) % 9 > 0, 3.0, torch.nan).double()
    outputs = torch.tensor([[-2.0, 0.0, 3.0, 0.0]], dtype=torch.float64).repeat(len(x), 1)
    stack, column = Stack(), RealColumn(observed, 0, Grid(0, 3, 1))
    column.push(stack, x, outputs)
    expected = torch.where(x.isnan(), 1 + math.exp(2), 1 + math.exp(-2)).log2().sum().item()
    assert 32 * (len(stack.words()) - 2) == pytest.approx(expected, abs=34)
    torch.testing.assert_close(column.pop(stack, outputs), x, equal_nan=True)


def test_a_column_of_one_number_comes_back(tmp_path: Path) -> None:
    """It takes no bits. Kills: a distribution of one value given to the coder, which refuses it; the text of -0.0."""
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n" + "".join(f"{k / 8},{k}\n" for k in range(30)), encoding="utf-8")
    dataset = dgm.data.load(path, types="a=real,b=integer")
    for rows in ("a,b\n1.25,3\n", "a,b\n-0.5,3\n-0.5,4\n", "a,b\n-0.00,3\n"):
        path.write_text(rows, encoding="utf-8")
        assert returned(model_of(dataset.space, hidden=8), dataset.describe(), path)[0] == rows.encode()


def test_tables_with_other_decimals_are_coded_together(tmp_path: Path) -> None:
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path, places in zip(paths, (1, 3), strict=True):
        path.write_text("a,b\n" + "".join(f"{k / 7:.{places}f},{k}\n" for k in range(-30, 30)), encoding="utf-8")
    dataset = dgm.data.load(paths[1], types="a=real,b=integer")
    model = model_of(dataset.space, hidden=8)
    compress(model, dataset.describe(), paths, tmp_path / "x.dgm", block=50)
    decompress(model, dataset.describe(), tmp_path / "x.dgm", tmp_path / "back")
    assert all((tmp_path / "back" / path.name).read_bytes() == path.read_bytes() for path in paths)


def test_real_numbers_with_too_many_decimals_and_other_models_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n" + "".join(f"{k / 7},{k}\n" for k in range(30)), encoding="utf-8")
    dataset = dgm.data.load(path, types="a=real,b=integer")
    with pytest.raises(BadInput, match=r"column 'a' .* decimals, more than can be coded; round it"):
        compress(model_of(dataset.space, hidden=8), dataset.describe(), [path], tmp_path / "x.dgm")
    for number, expected in (
        ("1e-30", "30 decimals"),
        ("12345678901234567890.5", "6 decimals, more"),
        ("1e6", "1,000,000,000,000 numbers of 6 decimals"),
    ):
        path.write_text(f"a,b\n0.000001,1\n{number},2\n", encoding="utf-8")
        with pytest.raises(BadInput, match=expected):
            compress(model_of(dataset.space, hidden=8), dataset.describe(), [path], tmp_path / "x.dgm")
    path.write_text("a,b\n" + "".join(f"{k / 8},{k}\n" for k in range(30)), encoding="utf-8")
    with pytest.raises(Unsupported, match="no codec of real numbers"):
        compress(model_of(dataset.space, "vae", hidden=8), dataset.describe(), [path], tmp_path / "x.dgm")


# -- long texts, and other batches


def test_a_text_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A character may lie on both sides of the end of a piece, and no more than a piece is kept."""
    monkeypatch.setattr(content, "PIECE", 5)
    text = "aé b\n" * 40
    (tmp_path / "a.txt").write_bytes(text.encode())
    about = {"options": {}, "alphabet": "\n abé"}
    model = model_of(Space.tokens(6, 5), hidden=8)
    kept = []
    windows = content.Texts.examples
    monkeypatch.setattr(
        content.Texts, "examples", lambda *args: (kept.append(x.untyped_storage().size()) or x for x in windows(*args))
    )
    assert returned(model, about, tmp_path / "a.txt", block=4)[0] == text.encode()
    assert max(kept) <= 8 * (6 + 5)


class OneByOne:
    """A model whose conditionals are computed for each example alone."""

    def __init__(self, model: Model) -> None:
        self.model, self.space, self.observed = model, model.space, model.observed

    def sequential_conditionals(self, x: Tensor, y: Tensor | None = None) -> Iterator[Tensor]:
        for each in zip(*(self.model.sequential_conditionals(row) for row in x.split(1)), strict=True):
            yield torch.cat(each)


@pytest.mark.parametrize("name", ["pixelcnn", "made", "nade"])
def test_what_a_batch_of_16_encoded_is_decoded_one_by_one(name: str) -> None:
    space = Space.levels((1, 4, 4), 256)
    model, x = model_of(space, name), torch.randint(256, (16, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    with in_float64(model):
        coder = Coder(model, None)
        block = coder.encode(x.to(space.dtype), verify=False)
        coder.codec = SequentialCodec(OneByOne(model))  # type: ignore[arg-type]
        assert torch.equal(coder.decode(block), x.to(space.dtype))


COMPILED = """
import torch
from dgm.compression.archive import Coder, in_float64
from dgm.contracts.laws import perturbed
from dgm.registry import create
from dgm.space import Space

model, x = perturbed(create("made", Space.levels((1, 4, 4), 256), hidden=32)), torch.randint(256, (16, 1, 4, 4))
with in_float64(model):
    coder, plain = Coder(model, None), model.conditionals
    model.conditionals = torch.compile(plain)
    block = coder.encode(x.byte(), verify=False)
    model.conditionals = plain
    assert torch.equal(coder.decode(block), x.byte())
"""


@pytest.mark.slow
def test_what_a_compiled_model_encoded_is_decoded_by_the_model() -> None:
    """In a process whose types are not checked, which no compiler understands."""
    subprocess.run([sys.executable, "-c", COMPILED], check=True)
