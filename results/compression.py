"""Files by a model's likelihood beside general codecs, on the same test images: results/compression-DATASET.json.

python results/compression.py mnist                                     general codecs alone
python results/compression.py fashion_mnist --run runs/fashion --examples 1000

Image codecs code each image as a file of its own, the others the whole array. The size of a model is counted apart.
brotli, zstandard and JPEG XL are measured where their packages are installed: pip install brotli zstandard
pillow-jxl-plugin.
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
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy
import torch
from PIL import Image, features

import dgm
from dgm.compression.archive import compress, decompress
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


def general_codecs() -> dict[str, Callable[[numpy.ndarray], int]]:
    """The size in bytes of an array of images under each codec that is installed."""
    codecs: dict[str, Callable[[numpy.ndarray], int]] = {
        "PNG, optimised": image_file("png", optimize=True),
        "xz -9": lambda x: len(lzma.compress(x.tobytes(), preset=9 | lzma.PRESET_EXTREME)),
        "bzip2 -9": lambda x: len(bz2.compress(x.tobytes(), 9)),
    }
    if features.check("webp"):
        codecs["WebP, lossless"] = image_file("webp", lossless=True, quality=100, method=6)
    if importlib.util.find_spec("pillow_jxl"):
        importlib.import_module("pillow_jxl")
        codecs["JPEG XL, lossless"] = image_file("jxl", lossless=True, effort=9)
    if importlib.util.find_spec("zstandard"):
        zstandard = importlib.import_module("zstandard")
        codecs["zstd -19"] = lambda x: len(zstandard.ZstdCompressor(level=19).compress(x.tobytes()))
    if importlib.util.find_spec("brotli"):
        brotli = importlib.import_module("brotli")
        codecs["brotli -11"] = lambda x: len(brotli.compress(x.tobytes(), quality=11))
    return codecs


def by_a_model(run: Path, x: numpy.ndarray) -> dict[str, Any]:
    """The rate of a run on the images, with the time of decoding; they come back byte for byte, or this fails."""
    model, about = dgm.load(run), Run(run).config["data"]
    with tempfile.TemporaryDirectory() as folder:
        source, coded, back = (Path(folder) / name for name in ("x.npy", "x.dgm", "back.npy"))
        numpy.save(source, x)
        rate = compress(model, about, [source], coded, verify=False)
        started = time.perf_counter()
        decompress(model, about, coded, back)
        seconds = time.perf_counter() - started
        if source.read_bytes() != back.read_bytes():
            raise SystemExit(f"{run} does not restore the images")
    name = Run(run).config["model"]["name"]
    row = {"codec": f"dgm {name}", "bytes": rate.size, "bits_per_dim": 8 * rate.size / x.size, "lossless": True}
    about_model = {"weights_bytes": (run / "weights.safetensors").stat().st_size, "decode_seconds": seconds}
    return row | asdict(rate) | about_model | {"difference": rate.difference, "training": Run(run).config["training"]}


def measured(name: str, size: Callable[[numpy.ndarray], int], x: numpy.ndarray) -> dict[str, Any]:
    started = time.perf_counter()
    total = size(x)
    seconds = time.perf_counter() - started
    return {"codec": name, "bytes": total, "bits_per_dim": 8 * total / x.size, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--run", type=Path, nargs="*", default=[])
    parser.add_argument("--examples", type=int, help="the first test images (all)")
    args = parser.parse_args()
    x = dgm.data.load(args.dataset).test.x[: args.examples].numpy()
    rows = []
    for name, size in general_codecs().items():
        rows.append(measured(name, size, x))
        print(json.dumps(rows[-1]), flush=True)
    for run in args.run:
        rows.append(by_a_model(run, x))
        print(json.dumps(rows[-1]), flush=True)
    document = {
        "dataset": args.dataset,
        "examples": len(x),
        "rows": sorted(rows, key=lambda row: row["bytes"]),
        "command": f"python results/compression.py {args.dataset} --run RUN --examples {len(x)}",
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }
    write_json(document, HERE / f"compression-{args.dataset}.json")


if __name__ == "__main__":
    main()
