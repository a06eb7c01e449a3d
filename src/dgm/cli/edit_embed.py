"""`dgm edit embed`: a picture of codes in the plane."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from dgm.cli import out, own
from dgm.cli.edit_task import Task
from dgm.cli.values import seed, whole
from dgm.errors import BadInput

EXAMPLES = 1000


def embedding_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="a run directory, as `dgm train` writes it")
    parser.add_argument(
        "--split", choices=("train", "validation", "test"), default="test", help="split of the data (test)"
    )
    parser.add_argument("--examples", type=whole(4, 100_000), default=EXAMPLES, help=f"most examples ({EXAMPLES})")
    parser.add_argument("--seed", type=seed(), default=0, help="random seed of the examples and of t-SNE (0)")
    parser.add_argument("--out", required=True, help="a .png, or an .npz file of the points")
    own.add_data(parser)
    own.add_trust(parser)


def embed(args: argparse.Namespace) -> int:
    path = out.new(args.out)
    if path.suffix not in (".png", ".npz"):
        raise BadInput(f"--out cannot be a '{path.suffix}' file", "end it in .png or .npz")
    import numpy
    import torch

    import dgm
    from dgm.data import order
    from dgm.editing.codes import refuse_without_encoder
    from dgm.editing.embedding import planes
    from dgm.files import replacing
    from dgm.protocols import condition_of
    from dgm.report.embedding import embedding
    from dgm.runs import Run

    own.trust(args, args.run)
    model = dgm.load(args.run)
    refuse_without_encoder(model)
    dataset = Run(args.run).dataset(args.data)
    split = dataset.splits[args.split]
    x, y = split.batch(order(len(split), args.seed, 0)[: args.examples], torch.Generator().manual_seed(args.seed))
    z = dgm.edit.encode(model, x, None if condition_of(model) is None else y, seed=args.seed)
    found = planes(x, z, seed=args.seed)
    points: dict[str, Any] = {name: plane.numpy() for name, plane in found.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        if path.suffix == ".npz":
            with temporary.open("wb") as file:
                numpy.savez_compressed(file, **points)
        else:
            embedding(found, y if dataset.labels else None, dataset.labels).save(temporary, format="PNG")
    print(f"{len(x)} {args.split} examples in {path}: {'; '.join(found)}")
    return 0


TASKS: Mapping[str, Task] = {
    "embed": Task("Show codes in the plane, by PCA and t-SNE, beside the data.", embedding_options, rows=embed),
}
