"""Compress files losslessly by the likelihood of a trained model.

dgm compress runs/pixelcnn t10k-images-idx3-ubyte --out test.dgm
dgm compress runs/pixelcnn pictures/*.png --out pictures.dgm
dgm compress runs/shakespeare play.txt --out play.dgm
dgm compress runs/wavenet speech.wav --out speech.dgm
dgm compress runs/people people.csv --out people.dgm
dgm decompress runs/shakespeare play.dgm --out play.txt

Images of any size are cut into tiles of the model's size. The files are .npy and IDX arrays of integers, images, 16-bit
sounds, tables, and texts for a model of text; they come back byte for byte. Of an image in a compressed format, such as
.jpg, the pixels come back, as a .png file.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from dgm.cli import condition, own
from dgm.cli import out as output
from dgm.cli.terminal import Progress
from dgm.cli.values import whole
from dgm.errors import BadInput


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="a run directory, as `dgm train` writes it")
    parser.add_argument("files", nargs="+", help="the files, or folders of files")
    parser.add_argument("--out", required=True, help="the compressed file")
    parser.add_argument("--block", type=whole(1, 1 << 20), help="examples that are decoded together (as memory allows)")
    parser.add_argument("--no-verify", action="store_true", help="do not decode each block once and compare it")
    parser.add_argument("--json", action="store_true", help="print the rates as JSON")
    condition.add_arguments(parser, "all examples")
    own.add_trust(parser)


def run(args: argparse.Namespace) -> int:
    out = output.new(args.out)
    import dgm
    from dgm.compression.archive import compress
    from dgm.runs import Run

    own.trust(args, args.run)
    model, about = dgm.load(args.run), Run(args.run).config["data"]
    files = listed(args.files)
    y = condition.from_arguments(args, model, most=1)
    with Progress(f"compressing {len(files)} files" if len(files) > 1 else f"compressing {files[0].name}") as progress:
        rate = compress(
            model, about, files, out, y=y, block=args.block, verify=not args.no_verify, progress=progress.update
        )
    if args.json:
        print(json.dumps({**asdict(rate), "difference": rate.difference}))
        return 0
    print(f"{out}: {rate.size:,} bytes for {rate.original:,}, {ratio(rate.original, rate.size)}")
    if rate.pixels_only:
        kept = "come back as .png files with the same pixels, not the same bytes"
        print(f"{rate.pixels_only} of {len(files)} files {kept}")
    stated = f"{rate.kind.replace('_', ' ')} {rate.claimed / rate.dimensions:.4f}, difference {rate.difference:+.3%}"
    print(f"coded {rate.bits / rate.dimensions:.4f} bits/dim, {stated}, {rate.seconds:.1f} s")
    return 0


def ratio(original: int, size: int) -> str:
    """
    >>> ratio(100, 50), ratio(50, 100)
    ('2.00 times smaller', '2.00 times larger')
    """
    return f"{original / size:.2f} times smaller" if size <= original else f"{size / original:.2f} times larger"


def listed(names: list[str]) -> list[Path]:
    """The files, with those of folders in order of their names."""
    found = []
    for name in names:
        path = Path(name)
        if not path.exists():
            raise BadInput(f"there is no file {name}", "check the path")
        found += sorted(path.iterdir()) if path.is_dir() else [path]
    if other := next((path for path in found if not path.is_file()), None):
        raise BadInput(f"{other} is not a file", "name the files")
    if not found:
        raise BadInput(f"{', '.join(names)} holds no file", "name the files")
    return found
