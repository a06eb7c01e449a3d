"""Files by a model's likelihood beside general codecs, on the same test examples: results/compression-DATASET.json.

python results/compression.py mnist                                     general codecs alone
python results/compression.py fashion_mnist --run runs/fashion --examples 1000
python results/compression.py tinyshakespeare --run runs/text
python results/compression.py fsdd --run runs/sound --examples 60
python results/compression.py digits --run runs/vae runs/integer_flow
python results/compression.py debd/nltcs --csv train.csv                     the training rows of a binary density set
python results/compression.py debd/nltcs --run runs/made

Codecs of images and of sound code each example as a file of its own, the others all examples together. Sounds are the
recordings of 16 bits, and the rows of a table are a .csv file. The size of a model is counted apart. Some codecs are
measured where their packages are installed: pip install brotli zstandard pillow-jxl-plugin soundfile.
"""

from __future__ import annotations

import argparse
import bz2
import importlib
import importlib.util
import io
import json
import lzma
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
from dgm.compression.archive import compress, decompress
from dgm.data.sound import recordings
from dgm.data.table import SETS, folder_of
from dgm.data.text import decode
from dgm.runs import Run, write_json

HERE = Path(__file__).parent


def image_file(form: str, **options: Any) -> Callable[[numpy.ndarray], int]:
    def size(images: numpy.ndarray) -> int:
        total = 0
        for image in images:
            out = io.BytesIO()
            pixels = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
            Image.fromarray(pixels).save(out, form, **options)
            total += len(out.getvalue())
        return total

    return size


@dataclass
class Content:
    """Test examples in files.

    Attributes:
        files: The names and the bytes of the files that a model codes.
        raw: The bytes that general codecs code.
        values: The number of dimensions: pixels, characters or samples of sound.
        what: The examples, in words.
        apart: The size of all examples by each codec of this kind of example.
    """

    files: dict[str, bytes]
    raw: bytes
    values: int
    what: str
    apart: dict[str, Callable[[], int]]


def of_images(dataset: str, examples: int | None) -> Content:
    x = dgm.data.load(dataset).test.x[:examples].numpy()
    array = io.BytesIO()
    numpy.save(array, x)
    codecs = {"PNG, optimised": image_file("png", optimize=True)}
    if features.check("webp"):
        codecs["WebP, lossless"] = image_file("webp", lossless=True, quality=100, method=6)
    if importlib.util.find_spec("pillow_jxl"):
        importlib.import_module("pillow_jxl")
        codecs["JPEG XL, lossless"] = image_file("jxl", lossless=True, effort=9)
    apart = {name: partial(size, x) for name, size in codecs.items()}
    return Content({"x.npy": array.getvalue()}, x.tobytes(), x.size, f"{len(x):,} test images", apart)


def of_text(dataset: str, _: int | None) -> Content:
    loaded = dgm.data.load(dataset)
    text = decode(loaded.test.x.flatten(), loaded.describe())
    raw = text.encode()
    return Content({"x.txt": raw}, raw, len(text), f"{len(text):,} characters of the test split", {})


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
    return Content(files, raw, len(raw) // 2, f"{len(files)} recordings of the test split, 16 bits", apart)


def of_rows(dataset: str, examples: int | None) -> Content:
    rows = rows_of(dataset, "test")[: None if examples is None else 1 + examples]
    raw, columns = "".join(rows).encode(), rows[0].count(",") + 1
    what = f"{len(rows) - 1:,} rows of {columns} columns of the test split, a .csv file"
    return Content({"rows.csv": raw}, raw, columns * (len(rows) - 1), what, {})


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


def flac(samples: list[numpy.ndarray]) -> int:
    soundfile, total = importlib.import_module("soundfile"), 0
    for one in samples:
        out = io.BytesIO()
        soundfile.write(out, one, 8000, format="FLAC", subtype="PCM_16", compression_level=1.0)
        total += len(out.getvalue())
    return total


def general_codecs(raw: bytes) -> dict[str, Callable[[], int]]:
    """The size in bytes under each general codec that is installed."""
    codecs: dict[str, Callable[[], int]] = {
        "xz -9": lambda: len(lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME)),
        "bzip2 -9": lambda: len(bz2.compress(raw, 9)),
    }
    if importlib.util.find_spec("zstandard"):
        zstandard = importlib.import_module("zstandard")
        codecs["zstd -19"] = lambda: len(zstandard.ZstdCompressor(level=19).compress(raw))
    if importlib.util.find_spec("brotli"):
        brotli = importlib.import_module("brotli")
        codecs["brotli -11"] = lambda: len(brotli.compress(raw, quality=11))
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
    row = {"codec": f"dgm {called}", "bytes": rate.size, "bits_per_dim": 8 * rate.size / content.values}
    about_model = {"weights_bytes": (run / "weights.safetensors").stat().st_size, "decode_seconds": seconds}
    return row | asdict(rate) | about_model | {"difference": rate.difference, "training": Run(run).config["training"]}


def measured(name: str, size: Callable[[], int], values: int) -> dict[str, Any]:
    started = time.perf_counter()
    total = size()
    seconds = time.perf_counter() - started
    return {"codec": name, "bytes": total, "bits_per_dim": 8 * total / values, "seconds": seconds}


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
    document = {
        "dataset": args.dataset,
        "what": content.what,
        "rows": sorted(rows, key=lambda row: row["bytes"]),
        "command": f"{args.trained}; {command}" if args.trained else command,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }
    write_json(document, HERE / f"compression-{Path(args.dataset).name}.json")


if __name__ == "__main__":
    main()
