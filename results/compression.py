"""Files by a model's likelihood beside general codecs, on the same test examples: results/compression-DATASET.json.

python results/compression.py mnist                                     general codecs alone
python results/compression.py fashion_mnist --run runs/fashion --examples 1000
python results/compression.py tinyshakespeare --run runs/text
python results/compression.py fsdd --run runs/sound --examples 60
python results/compression.py binarized_mnist --run runs/made
python results/compression.py digits --run runs/vae runs/integer_flow
python results/compression.py debd/nltcs --csv train.csv                     the training rows of a binary density set
python results/compression.py debd/nltcs --run runs/made

Codecs of images and of sound code each example as a file of its own, those of images also one picture of all examples,
whose header counts once as in a container of dgm; the others code all examples together. Binary images have one bit a
pixel. Sounds are the recordings of 16 bits, and the rows of a table are a .csv file. The size of a model is counted
apart. The interval of a rate is of 95 % over examples: of the files of each, or of -log2 p by a model. Some codecs are
measured where their packages are installed: pip install brotli zstandard pillow-jxl-plugin soundfile. Models that the
document has already stay in it, if their rows are of the same examples.
"""

from __future__ import annotations

import argparse
import bz2
import importlib
import importlib.util
import io
import json
import lzma
import math
import platform
import tempfile
import time
import wave
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import torch
from PIL import Image, features

import dgm
from dgm.compression.archive import compress, decompress, described, of_file
from dgm.compression.content import Interface
from dgm.data.sound import recordings
from dgm.data.table import SETS, folder_of
from dgm.data.text import decode
from dgm.files import write_json
from dgm.likelihood import log_likelihood
from dgm.runs import Run

HERE = Path(__file__).parent
NAMES = {"png": "PNG, optimised", "webp": "WebP, lossless", "jxl": "JPEG XL, lossless"}


def image_files(form: str, images: numpy.ndarray, **options: Any) -> list[int]:
    """The size of each image as a file."""
    sizes = []
    for image in images:
        out = io.BytesIO()
        pixels = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
        Image.fromarray(pixels).save(out, form, **options)
        sizes.append(len(out.getvalue()))
    return sizes


def one_picture(images: numpy.ndarray) -> numpy.ndarray:
    """(1, C, height, width): all images in rows of about as many as there are columns, zeros after the last."""
    n, channels, height, width = images.shape
    columns = math.isqrt(n - 1) + 1
    rows = -(-n // columns)
    grid = numpy.zeros((rows * columns, channels, height, width), images.dtype)
    grid[:n] = images
    picture = grid.reshape(rows, columns, channels, height, width).transpose(2, 0, 3, 1, 4)
    return picture.reshape(1, channels, rows * height, columns * width)


@dataclass
class Content:
    """Test examples in files.

    Attributes:
        files: The names and the bytes of the files that a model codes.
        raw: The bytes that general codecs code.
        values: The number of dimensions of each example: pixels, characters or samples of sound.
        what: The examples, in words.
        apart: The size of each example, or of all as one, by each codec of this kind of example.
    """

    files: dict[str, bytes]
    raw: bytes
    values: numpy.ndarray
    what: str
    apart: dict[str, Callable[[], list[int]]]


def of_images(dataset: str, examples: int | None) -> Content:
    data = dgm.data.load(dataset)
    x, array = data.test.x[:examples].numpy(), io.BytesIO()
    numpy.save(array, x)
    pixels, grey, raw = x, x, x
    if data.space.kind == "binary":
        pixels, grey, raw = x.astype(bool), 255 * x, numpy.packbits(x)  # PNG alone has a mode of one bit
    options: dict[str, dict[str, Any]] = {"png": {"optimize": True}}
    if features.check("webp"):
        options["webp"] = {"lossless": True, "quality": 100, "method": 6}
    if importlib.util.find_spec("pillow_jxl"):
        importlib.import_module("pillow_jxl")
        options["jxl"] = {"lossless": True, "effort": 9}
    apart = {}
    for form, given in options.items():
        of = pixels if form == "png" else grey
        apart[NAMES[form]] = partial(image_files, form, of, **given)
        apart[f"{NAMES[form]}, one picture of all"] = partial(image_files, form, one_picture(of), **given)
    values = numpy.full(len(x), x[0].size)
    return Content({"x.npy": array.getvalue()}, raw.tobytes(), values, f"{len(x):,} test images", apart)


def of_text(dataset: str, _: int | None) -> Content:
    loaded = dgm.data.load(dataset)
    text = decode(loaded.test.x.flatten(), loaded.describe())
    raw = text.encode()
    values = numpy.full(len(loaded.test.x), loaded.space.dim)
    return Content({"x.txt": raw}, raw, values, f"{len(text):,} characters of the test split", {})


def of_sound(dataset: str, examples: int | None) -> Content:
    """The recordings of the test split, takes 0 to 4 of each speaker and digit."""
    folder = folder_of(SETS[dataset])
    if folder is None:
        raise SystemExit(f"{dataset} is not here: see dgm data {dataset}")
    paths = [path for path in recordings(folder) if int(path.stem.split("_")[2]) < 5]
    files = {path.name: path.read_bytes() for path in paths[:: -(-len(paths) // (examples or len(paths)))]}
    samples = [read_samples(content) for content in files.values()]
    apart = {"FLAC, level 8": partial(flac, samples)} if importlib.util.find_spec("soundfile") else {}
    raw = b"".join(one.tobytes() for one in samples)
    values = numpy.array([len(one) for one in samples])
    return Content(files, raw, values, f"{len(files)} recordings of the test split, 16 bits", apart)


def of_rows(dataset: str, examples: int | None) -> Content:
    rows = rows_of(dataset, "test")[: None if examples is None else 1 + examples]
    raw, columns = "".join(rows).encode(), rows[0].count(",") + 1
    what = f"{len(rows) - 1:,} rows of {columns} columns of the test split, a .csv file"
    return Content({"rows.csv": raw}, raw, numpy.full(len(rows) - 1, columns), what, {})


def rows_of(dataset: str, part: str) -> list[str]:
    """The lines of a .csv file: a header, and one line for each row of a binary density set."""
    folder = folder_of(SETS[dataset])
    if folder is None:
        raise SystemExit(f"{dataset} is not here: see dgm data {dataset}")
    lines = (folder / f"{Path(dataset).name}.{part}.data").read_text(encoding="utf-8").split()
    header = ",".join(f"q{k}" for k in range(1, lines[0].count(",") + 2))
    return [f"{line}\n" for line in (header, *lines)]


def read_samples(content: bytes) -> numpy.ndarray:
    with wave.open(io.BytesIO(content)) as file:
        return numpy.frombuffer(file.readframes(file.getnframes()), "<i2")


def flac(samples: list[numpy.ndarray]) -> list[int]:
    soundfile, sizes = importlib.import_module("soundfile"), []
    for one in samples:
        out = io.BytesIO()
        soundfile.write(out, one, 8000, format="FLAC", subtype="PCM_16", compression_level=1.0)
        sizes.append(len(out.getvalue()))
    return sizes


def general_codecs(raw: bytes) -> dict[str, Callable[[], list[int]]]:
    """The size in bytes under each general codec that is installed."""
    codecs: dict[str, Callable[[], list[int]]] = {
        "xz -9": lambda: [len(lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME))],
        "bzip2 -9": lambda: [len(bz2.compress(raw, 9))],
    }
    if importlib.util.find_spec("zstandard"):
        zstandard = importlib.import_module("zstandard")
        codecs["zstd -19"] = lambda: [len(zstandard.ZstdCompressor(level=19).compress(raw))]
    if importlib.util.find_spec("brotli"):
        brotli = importlib.import_module("brotli")
        codecs["brotli -11"] = lambda: [len(brotli.compress(raw, quality=11))]
    return codecs


def by_a_model(run: Path, content: Content) -> dict[str, Any]:
    """The rate of a run, with the time of decoding; the files come back byte for byte, or this fails."""
    model, about = dgm.load(run), Run(run).config["data"]
    with tempfile.TemporaryDirectory() as name:
        folder, paths = Path(name), []
        for file, raw in content.files.items():
            paths.append(folder / file)
            paths[-1].write_bytes(raw)
        rate = compress(model, about, paths, folder / "x.dgm", verify=False)
        started = time.perf_counter()
        decompress(model, about, folder / "x.dgm", folder / "back")
        seconds = time.perf_counter() - started
        back = [folder / "back" / path.name for path in paths] if len(paths) > 1 else [folder / "back"]
        if any(one.read_bytes() != path.read_bytes() for one, path in zip(back, paths, strict=True)):
            raise SystemExit(f"{run} does not restore the files")
    called = Run(run).config["model"]["name"]
    row = {"codec": f"dgm {called}", "bytes": rate.size, "bits_per_dim": 8 * rate.size / content.values.sum()}
    row["plus_minus"] = of_claims(model, about, content)
    about_model = {"weights_bytes": (run / "weights.safetensors").stat().st_size, "decode_seconds": seconds}
    return row | asdict(rate) | about_model | {"difference": rate.difference, "training": Run(run).config["training"]}


def of_claims(model: Any, about: dict[str, Any], content: Content) -> float | None:
    """Half of the interval of a model's rate; none for sounds, whose recordings are cut into pieces."""
    (name, raw), *others = content.files.items()
    if others or name.endswith(".wav"):
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(raw)
        interface = Interface(model.space, about)
        x = torch.cat([*of_file(path, described([path], interface)[0], interface)])
    with torch.inference_mode():
        nats = torch.cat([log_likelihood(model, part).nats for part in x.split(100)])
    return half_interval(nats.double().numpy() / -math.log(2), numpy.full(len(x), model.space.dim))


def half_interval(bits: numpy.ndarray, values: numpy.ndarray) -> float:
    """Of the bits of all examples over their dimensions, 1.96 standard errors."""
    residuals = bits - bits.sum() / values.sum() * values
    return float(1.96 * math.sqrt(len(bits)) * residuals.std(ddof=1) / values.sum())


def measured(name: str, size: Callable[[], list[int]], values: numpy.ndarray) -> dict[str, Any]:
    started = time.perf_counter()
    sizes = size()
    seconds = time.perf_counter() - started
    bits, total = 8 * numpy.array(sizes), sum(sizes)
    about = {"plus_minus": half_interval(bits, values) if len(bits) > 1 else None, "seconds": seconds}
    return {"codec": name, "bytes": total, "bits_per_dim": 8 * total / values.sum(), **about}


def models_of(document: dict[str, Any], besides: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of models that were not measured anew."""
    named = {row["codec"] for row in besides}
    return [row for row in document["rows"] if "claimed" in row and row["codec"] not in named]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--run", type=Path, nargs="*", default=[])
    parser.add_argument("--examples", type=int, help="so many test images or recordings (all)")
    parser.add_argument("--csv", type=Path, help="write the training rows of a table, and do nothing else")
    parser.add_argument("--trained", default="", help="the command that trained the run, for the document")
    args = parser.parse_args()
    if args.csv:
        args.csv.write_text("".join(rows_of(args.dataset, "train")), encoding="utf-8")
        return
    kind = {"tinyshakespeare": of_text, "fsdd": of_sound, "debd/nltcs": of_rows}.get(args.dataset, of_images)
    content, rows = kind(args.dataset, args.examples), []
    for name, size in {**content.apart, **general_codecs(content.raw)}.items():
        rows.append(measured(name, size, content.values))
        print(json.dumps(rows[-1]), flush=True)
    for run in args.run:
        rows.append(by_a_model(run, content))
        print(json.dumps(rows[-1]), flush=True)
    options = (" --run RUN" + " …" * (len(args.run) > 1) if args.run else "") + (
        f" --examples {args.examples}" if args.examples else ""
    )
    command = f"python results/compression.py {args.dataset}{options}"
    out = HERE / f"compression-{Path(args.dataset).name}.json"
    before = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {"what": "", "rows": []}
    kept = models_of(before, besides=rows) if before["what"] == content.what else []
    if args.trained or not kept:  # the rows that are kept keep their command
        measured_by = [before["command"]] if kept else []
        measured_by.append("; ".join(filter(None, [args.trained, command])))
        before["command"] = "; ".join(dict.fromkeys(measured_by))
    document = {
        "dataset": args.dataset,
        "what": content.what,
        "rows": sorted(rows + kept, key=lambda row: row["bytes"]),
        "command": before["command"],
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }
    write_json(document, out)


if __name__ == "__main__":
    main()
