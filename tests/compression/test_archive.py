"""Files to a container and back: bytes, tiles, damage, other models, other machines."""

from __future__ import annotations

import functools
import json
import os
import struct
import subprocess
import sys
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

import dgm
from dgm.cli.compress import listed
from dgm.compression.archive import Coder, Rate, compress, decompress
from dgm.compression.container import Reader, Writer
from dgm.contracts.laws import perturbed
from dgm.errors import BadInput, DamagedRun, DgmError, Unsupported
from dgm.protocols import Model
from dgm.registry import create
from dgm.space import Space

ALPHABET = "\n abcdeé"
OF_TEXT: dict[str, Any] = {"options": {}, "alphabet": ALPHABET}
OF_IMAGES: dict[str, Any] = {"options": {}}


def model_of(space: Space, name: str = "made", **config: Any) -> Model:
    torch.manual_seed(0)
    return perturbed(create(name, space, **config))


def of_pictures(channels: int = 1) -> Model:
    return model_of(Space.levels((channels, 4, 4), 256), hidden=16)


def of_text() -> Model:
    return model_of(Space.tokens(6, len(ALPHABET)), hidden=16)


def returned(model: Model, about: dict[str, Any], path: Path, folder: Path) -> tuple[bytes, Rate]:
    rate = compress(model, about, [path], folder / "x.dgm")
    assert decompress(model, about, folder / "x.dgm", folder / "back") == []
    return (folder / "back").read_bytes(), rate


def shades(*shape: int) -> numpy.ndarray:
    return numpy.random.default_rng(0).integers(0, 256, shape, dtype=numpy.uint8)


def idx(path: Path) -> None:
    path.write_bytes(struct.pack(">HBBIII", 0, 8, 3, 10, 4, 4) + shades(10, 4, 4).tobytes())


FILES: dict[str, Callable[[Path], None]] = {
    "a.npy": lambda path: numpy.save(path, shades(10, 1, 4, 4)),
    "wide.npy": lambda path: numpy.save(path, shades(10, 4, 4).astype(">i4")),
    "t10k-images-idx3-ubyte": idx,
    "a.pgm": lambda path: path.write_bytes(b"P5\n# a comment\n9 6\n255\n" + shades(6, 9).tobytes()),
    "a.png": lambda path: Image.fromarray(shades(6, 9)).save(path, optimize=True),
}


def test_words_that_a_block_began_with_and_did_not_use_are_left_out() -> None:
    """Kills: the first word that differs from those it began with, as the first that does not."""
    model = model_of(Space.levels((1, 4, 4), 256), "vae", latent=3).double().eval()
    coder, x = Coder(model, None), torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    block = coder.encode(x)
    assert block.left_out > 0
    assert len(block.words) == 0 or block.words[0] != coder.codec.initial[block.left_out]
    assert torch.equal(coder.decode(block), x)


@pytest.mark.parametrize("name", FILES)
def test_files_of_grey_images_come_back_byte_for_byte(name: str, tmp_path: Path) -> None:
    FILES[name](tmp_path / name)
    back, rate = returned(of_pictures(), OF_IMAGES, tmp_path / name, tmp_path)
    assert back == (tmp_path / name).read_bytes()
    assert rate.bits == pytest.approx(rate.claimed, rel=1e-3, abs=64)
    assert (1 + rate.difference) * rate.claimed == pytest.approx(rate.bits)
    assert rate.kind == "exact"
    assert rate.verified


def test_colour_comes_back(tmp_path: Path) -> None:
    (tmp_path / "a.ppm").write_bytes(b"P6 5 7 255\n" + shades(7, 5, 3).tobytes())
    assert returned(of_pictures(3), OF_IMAGES, tmp_path / "a.ppm", tmp_path)[0] == (tmp_path / "a.ppm").read_bytes()


def test_of_a_jpeg_the_pixels_come_back(tmp_path: Path) -> None:
    Image.fromarray(shades(6, 9)).save(tmp_path / "a.jpg")
    _, rate = returned(of_pictures(), OF_IMAGES, tmp_path / "a.jpg", tmp_path)
    assert rate.pixels_only == 1
    with Image.open(tmp_path / "back") as back, Image.open(tmp_path / "a.jpg") as before:
        assert back.format == "PNG"
        assert numpy.array_equal(numpy.asarray(back), numpy.asarray(before))


@pytest.mark.parametrize("text", ["abc", "a b\nc" * 30, "é\r\n" * 7])
def test_text_comes_back(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(text.encode())
    about = OF_TEXT | {"alphabet": ALPHABET + "\r"}
    model = model_of(Space.tokens(6, len(ALPHABET) + 1), hidden=16)
    assert returned(model, about, tmp_path / "a.txt", tmp_path)[0] == text.encode()


def test_bytes_come_back(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(range(256)) * 2)
    model = model_of(Space.tokens(8, 256), hidden=16)
    assert returned(model, {"options": {"bytes": True}}, tmp_path / "a.bin", tmp_path)[0] == bytes(range(256)) * 2


def test_a_folder_comes_back(tmp_path: Path) -> None:
    model, files = of_pictures(), [tmp_path / name for name in FILES]
    for path in files:
        FILES[path.name](path)
    compress(model, OF_IMAGES, files, tmp_path / "all.dgm", block=7)  # blocks that cross the bounds of files
    decompress(model, OF_IMAGES, tmp_path / "all.dgm", tmp_path / "back")
    assert all((tmp_path / "back" / path.name).read_bytes() == path.read_bytes() for path in files)


def of_small() -> Model:
    return model_of(Space.levels((1, 2, 2), 256), hidden=16)


@pytest.fixture
def container(tmp_path: Path) -> Path:
    numpy.save(tmp_path / "a.npy", shades(12, 1, 2, 2))
    compress(of_small(), OF_IMAGES, [tmp_path / "a.npy"], tmp_path / "a.dgm", block=3)
    return tmp_path / "a.dgm"


def test_a_flipped_bit_is_refused_or_loses_its_block_alone(container: Path) -> None:
    model, whole, random = of_small(), container.read_bytes(), numpy.random.default_rng(1)
    expected = shades(12, 1, 2, 2)
    blocks = {block.number for block in Reader(container).blocks()}
    assert blocks == {0, 1, 2, 3}
    damaged, back = container.with_name("damaged.dgm"), container.with_name("back.npy")
    salvaged = 0
    for bit in random.choice(8 * len(whole), 500, replace=False).tolist():
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        damaged.write_bytes(data)
        back.unlink(missing_ok=True)
        try:
            lost = decompress(model, OF_IMAGES, damaged, back, salvage=True)
        except DgmError:
            assert not back.exists()
            continue
        found = numpy.load(back)
        kept = [k for k in range(12) if k // 3 not in lost]
        assert len(lost) <= 1
        assert numpy.array_equal(found[kept], expected[kept])
        salvaged += bool(lost)
    assert salvaged > 100  # of the blocks' bits; the header has many


def test_a_damaged_file_writes_nothing_unless_it_is_salvaged(container: Path) -> None:
    data = bytearray(container.read_bytes())
    data[-20] ^= 4
    container.write_bytes(data)
    with pytest.raises(DamagedRun, match=r"block 3 .*--salvage"):
        decompress(of_small(), OF_IMAGES, container, container.with_name("back"))
    assert not container.with_name("back").exists()
    assert not list(container.parent.glob(".*"))


def with_header(container: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """The container with another header, whose CRC is right, and without its end."""
    reader = Reader(container)
    change(reader.header)
    blocks = reader.data[reader.first : -12]
    with container.open("wb") as file:
        Writer(file, reader.header)
        file.write(blocks)


CLAIMS: dict[str, Callable[[dict[str, Any]], object]] = {
    "examples": lambda header: header["files"][0].update(examples=10**15),
    "the largest": lambda header: header["files"][0].update(examples=2**63 - 1),
    "blocks of one": lambda header: (header["files"][0].update(examples=10**12), header.update(block=1)),
    "one block": lambda header: (header["files"][0].update(examples=10**13), header.update(block=10**13)),
    "files": lambda header: header.update(files=[header["files"][0] | {"examples": 10**9}] * 5),
}


@pytest.mark.parametrize("salvage", [False, True])
@pytest.mark.parametrize("claim", CLAIMS)
def test_a_header_that_claims_more_than_there_is_fills_no_memory_and_no_disk(
    container: Path, claim: str, salvage: bool
) -> None:
    """Kills: zeros for whatever a header claims; a block as large as it claims."""
    with_header(container, CLAIMS[claim])
    with pytest.raises(
        DgmError, match=r"of the [\d,]+ blocks that its header claims|examples in .* takes .* of memory"
    ):
        decompress(of_small(), OF_IMAGES, container, container.with_name("back"), salvage=salvage)
    assert not container.with_name("back").exists()


def test_examples_that_are_not_there_are_zeros(container: Path) -> None:
    """A container that was cut off. Kills: the zeros of one block for several, a limit below what may be lost."""
    with_header(container, lambda header: header["files"][0].update(examples=3000))
    back = container.with_name("back.npy")
    assert decompress(of_small(), OF_IMAGES, container, back, salvage=True) == list(range(4, 1000))
    values = numpy.frombuffer(back.read_bytes()[128:], numpy.uint8)
    assert numpy.array_equal(values[:48], shades(12, 1, 2, 2).ravel())
    assert values.shape == (12_000,)
    assert not values[48:].any()


@pytest.mark.parametrize("kept", [0, 3, 30, 200, -1])
def test_a_truncated_file_is_refused(container: Path, kept: int) -> None:
    container.write_bytes(container.read_bytes()[:kept])
    with pytest.raises(DamagedRun):
        decompress(of_small(), OF_IMAGES, container, container.with_name("back"))
    assert not container.with_name("back").exists()


def test_another_version_is_refused(container: Path) -> None:
    data = bytearray(container.read_bytes())
    data[4] += 1
    container.write_bytes(data)
    with pytest.raises(DamagedRun, match=r"has the version \d+, this dgm reads \d+; use the dgm that wrote it"):
        decompress(of_small(), OF_IMAGES, container, container.with_name("back"))
    assert not container.with_name("back").exists()


def test_another_model_is_refused(container: Path) -> None:
    model = of_small()
    with torch.no_grad():
        next(model.parameters()).add_(1e-6)
    with pytest.raises(BadInput, match="another model"):
        decompress(model, OF_IMAGES, container, container.with_name("back"))


def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, container: Path) -> None:
    header = Reader(container).header
    header["files"][0]["name"] = "../evil"
    with (tmp_path / "evil.dgm").open("wb") as file:
        writer = Writer(file, header)
        for block in Reader(container).blocks():
            writer.write(block)
        writer.end()
    with pytest.raises(DamagedRun, match="outside"):
        decompress(of_small(), OF_IMAGES, tmp_path / "evil.dgm", tmp_path / "folder" / "back")


def of_table(folder: Path) -> tuple[Model, dict[str, Any], Path]:
    columns = [{"name": "pay", "type": "real"}, {"name": "job", "type": "category", "values": ["a", "b"]}]
    path = folder / "rows.csv"
    path.write_text("pay,job\n1.50,a\n-3.25,b\n02.00,a\n", encoding="utf-8")
    space = Space.record(pay=Space.continuous((), scale=(2.0,)), job=Space.categories(2))
    return model_of(space, hidden=8), {"options": {}, "columns": columns}, path


def of_sound(folder: Path) -> tuple[Model, dict[str, Any], Path]:
    path = folder / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(numpy.arange(50, dtype="<i2").tobytes())
    return model_of(Space.levels((1, 40), 256), hidden=4), {"options": {}, "rate": 8000}, path


def of_others(name: str, folder: Path) -> tuple[Model, dict[str, Any], Path]:
    path = folder / name
    if name == "a.txt":
        path.write_text("a bad cede", encoding="utf-8")
        return of_text(), OF_TEXT, path
    FILES[name](path)
    return of_pictures(), OF_IMAGES, path


WRONG: list[Any] = [
    None,
    -1,
    0,
    3,
    10**6,
    10**15,
    10**30,
    0.5,
    float("nan"),
    "",
    "x",
    "zz",
    "O",
    [],
    {},
    [2],
    [[1]],
    True,
]


def changed_headers(header: Any) -> Iterator[Any]:
    """The header with each value, at any depth, gone or another, and with each list and text twice as long."""

    def places(value: Any, way: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield (*way, key)
            if isinstance(part, (dict, list)):
                yield from places(part, (*way, key))

    for way in places(header, ()):
        for new in ["gone", "twice", *WRONG]:
            changed = json.loads(json.dumps(header))
            holder = functools.reduce(lambda value, key: value[key], way[:-1], changed)
            if new == "gone":
                del holder[way[-1]]
            elif new == "twice":
                holder[way[-1]] = holder[way[-1]] * 2 if isinstance(holder[way[-1]], (list, str)) else [0, 0]
            else:
                holder[way[-1]] = new
            yield changed


def error_of(model: Model, about: dict[str, Any], container: Path, out: Path) -> str:
    """The message of the error of `decompress`, or an empty text. Any other exception is raised."""
    try:
        decompress(model, about, container, out)
    except DgmError as error:
        return str(error)
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.npy", "a.pgm", "a.png", "a.txt", "a.wav", "rows.csv"])
def test_a_header_written_by_hand_is_used_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    """With a right CRC. Kills: a form's ``about`` without its schema; a header that is not compared with its blocks."""
    model, about, path = {"a.wav": of_sound, "rows.csv": of_table}.get(name, lambda f: of_others(name, f))(tmp_path)
    container, crafted, back = tmp_path / "x.dgm", tmp_path / "crafted.dgm", tmp_path / "back"
    compress(model, about, [path], container)
    reader = Reader(container)
    reader.header["condition"] = None
    refused = 0
    for header in changed_headers(reader.header):
        with crafted.open("wb") as file:
            writer = Writer(file, header)
            for block in reader.blocks():
                writer.write(block)
            writer.end()
        said = error_of(model, about, crafted, back)
        assert len(said.splitlines()) <= 1
        assert not (said and back.exists())
        refused += bool(said)
        back.unlink(missing_ok=True)
    assert refused > 50


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.npy", shades(3, 5, 5), "expected"),
        ("big.npy", shades(2, 1, 4, 4).astype(numpy.int64) + 200, "values from"),
        ("real.npy", numpy.zeros((2, 1, 4, 4)), "integers"),
        ("columns.npy", numpy.asfortranarray(shades(2, 1, 4, 4)), "in C order"),
        ("a.txt", b"text", "not an example"),
        ("a.png", b"none", "cannot be read"),
    ],
)
def test_other_content_is_refused_and_nothing_is_left(name: str, content: Any, expected: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content) if isinstance(content, bytes) else numpy.save(path, content)
    with pytest.raises((BadInput, Unsupported), match=expected):
        compress(of_pictures(), OF_IMAGES, [path], tmp_path / "x.dgm")
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("mode", "options", "expected"),
    [
        ("LA", {}, "but LA"),
        ("RGBA", {}, "but RGBA"),
        ("P", {}, "but P"),
        ("1", {}, "but 1"),
        ("I;16", {}, "but I;16"),
        ("L", {"transparency": 3}, "but L with transparency"),
        ("L", {"save_all": True, "append_images": [Image.new("L", (4, 4), 9)]}, "several frames"),
    ],
)
def test_what_a_grey_or_rgb_image_cannot_hold_is_refused(
    mode: str, options: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    """Else it would be missing when the file comes back."""
    Image.new(mode, (4, 4)).save(tmp_path / "a.png", **options)
    with pytest.raises(BadInput, match=expected):
        compress(of_pictures(), OF_IMAGES, [tmp_path / "a.png"], tmp_path / "x.dgm")


CODECS: dict[str, dict[str, Any]] = {
    "made": {"hidden": 16},
    "nade": {"hidden": 16},
    "image_gpt": {"width": 16, "layers": 1},
    "pixelrnn": {"width": 4, "layers": 1},
    "pixelcnn": {},
    "pixelcnn_pp": {"width": 8, "layers": 1},
    "gated_pixelcnn": {"width": 4, "layers": 2},
    "vae": {"hidden": 16},
    "hierarchical_vae": {"hidden": 16, "latents": (3, 2)},
    "ladder_vae": {"hidden": 16, "latents": (3, 2)},
    "progressive_vae": {"hidden": 16},
    "factor_vae": {"hidden": 16},
    "discrete_vae": {"hidden": 16},
    "orderless_made": {"hidden": 16, "orders": 3},
    "integer_flow": {},
    "vq_vae": {"codes": 6, "hidden": 16, "width": 4, "blocks": 1},
    "masked_diffusion": {"width": 8, "layers": 1},
}
OF_SEQUENCES = ("char_gpt", "wavenet")
ELSEWHERE = """
import sys
from pathlib import Path
import dgm
from dgm.compression.archive import decompress
for run in sys.argv[2:]:
    decompress(dgm.load(run), {"options": {}, "alphabet": sys.argv[1]}, Path(run, "a.dgm"), Path(run, "back"))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "elsewhere", [{"OMP_NUM_THREADS": "2"}, {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"}], ids=str
)
def test_it_is_decoded_with_other_threads_and_another_instruction_set(
    elsewhere: dict[str, str], tmp_path: Path
) -> None:
    numpy.save(tmp_path / "a.npy", shades(20, 1, 4, 4))
    for name, config in CODECS.items():
        model = model_of(Space.levels((1, 4, 4), 256), name, **config)
        dgm.save(model, tmp_path / name)
        compress(model, OF_IMAGES, [tmp_path / "a.npy"], tmp_path / name / "a.dgm", block=16)
    (tmp_path / "a.txt").write_bytes(b"a b\nc" * 30)
    for name in OF_SEQUENCES:
        model = model_of(Space.tokens(8, len(ALPHABET)), name, width=16)
        dgm.save(model, tmp_path / name)
        compress(model, OF_TEXT, [tmp_path / "a.txt"], tmp_path / name / "a.dgm", block=16)
    runs = [tmp_path / name for name in (*CODECS, *OF_SEQUENCES)]
    command = [sys.executable, "-c", ELSEWHERE, ALPHABET, *runs]
    subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"} | elsewhere, check=True)
    for run in runs:
        expected = tmp_path / ("a.txt" if run.name in OF_SEQUENCES else "a.npy")
        assert (run / "back").read_bytes() == expected.read_bytes()


def test_a_folder_with_more_than_files_is_refused(tmp_path: Path) -> None:
    """Else what is not in the container would be lost with the folder."""
    (tmp_path / "pictures" / "more").mkdir(parents=True)
    (tmp_path / "pictures" / "a.pgm").write_bytes(b"P5 2 2 255\n" + bytes(4))
    with pytest.raises(BadInput, match="more is not a file"):
        listed([str(tmp_path / "pictures")])


def test_the_commands_code_and_restore(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dgm.cli.main import main

    run, data = tmp_path / "run", dgm.data.load("digits")
    dgm.save(create("made", data.space, hidden=16), run)
    numpy.save(tmp_path / "test.npy", data.test.x[:50].numpy())
    assert main(["compress", str(run), str(tmp_path / "test.npy"), "--out", str(tmp_path / "x.dgm")]) == 0
    assert "bits/dim" in capsys.readouterr().out
    assert main(["decompress", str(run), str(tmp_path / "x.dgm"), "--out", str(tmp_path / "back.npy")]) == 0
    assert (tmp_path / "back.npy").read_bytes() == (tmp_path / "test.npy").read_bytes()


def test_any_file_is_coded_by_a_run_of_bytes(tmp_path: Path) -> None:
    """Kills: a schema of the options of data without those that are true, which refuses the run."""
    from dgm.cli.main import main

    run, file, back = str(tmp_path / "run"), tmp_path / "a.png", tmp_path / "back.png"  # no image
    (tmp_path / "a.txt").write_text("to be or not to be\n" * 40, encoding="utf-8")
    file.write_bytes(bytes(range(256)))
    data = ["--data", str(tmp_path / "a.txt"), "--bytes", "--context", "8"]
    assert main(["train", "made", *data, "--model.hidden", "8", "--steps", "1", "--out", run]) == 0
    assert main(["compress", run, str(file), "--out", str(tmp_path / "x.dgm")]) == 0
    assert main(["decompress", run, str(tmp_path / "x.dgm"), "--out", str(back)]) == 0
    assert back.read_bytes() == file.read_bytes()
