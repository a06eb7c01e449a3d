"""`dgm evaluate RUN --anomaly DATA`: scores that separate other data from the data of a run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgm import torchrun
from dgm.cli.against import data_set
from dgm.cli.terminal import Progress
from dgm.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

    from dgm.data import Dataset

HELP = "AUROC of anomaly scores between the run's data and this data, a name or a path, or 'permuted' (alone)"
LINE = "{:<18}{:>8}   {:<18}{:>14}{:>16}"
FILE = "anomalies.json"


def run(args: argparse.Namespace) -> int:
    from dgm.documents import read_object
    from dgm.evaluation.anomaly import anomaly
    from dgm.files import write_json
    from dgm.runs import Run, load

    model, trained = load(args.run), Run(args.run)
    dataset = trained.dataset(args.data)
    other = anomalies(args, dataset, trained.config["data"])
    with Progress("evaluating", quiet=args.json or not torchrun.is_first()) as progress:
        document = anomaly(
            model,
            dataset,
            other,
            args.anomaly,
            split=args.split,
            draws=args.draws,
            seed=args.seed,
            progress=progress.update,
        )
    if not torchrun.is_first():
        return 0
    out = trained.path / FILE
    write_json((read_object(out) if out.is_file() else {}) | {args.anomaly: document}, out)
    if args.json:
        print(json.dumps(document, indent=2))
    else:
        show(document)
    return 0


def anomalies(args: argparse.Namespace, dataset: Dataset, about: Mapping[str, Any]) -> Tensor:
    """The examples of the other data: the test split of a named set, all of a file or a folder.

    Args:
        about: The description of the data in the run's config.json.
    """
    import torch

    from dgm import data
    from dgm.data import rows
    from dgm.data.columns import of_run
    from dgm.evaluation.anomaly import PERMUTED, permuted

    if args.anomaly == PERMUTED:
        return permuted(dataset.splits[args.split].x, args.seed)
    path = Path(args.anomaly).expanduser()
    if about.get("columns") and args.anomaly not in data.SETS and path.is_file():
        refuse_own(args.anomaly, str(path.resolve()) == dataset.name)
        x = rows.numbers(rows.read(path), of_run(about, dataset.space), dataset.space, others=rows.beside(about))
        return x.to(dataset.space.dtype)
    other = data_set(args.anomaly)
    refuse_own(args.anomaly, other.name == dataset.name)
    if other.space != dataset.space and "record" in (other.space.kind, dataset.space.kind):
        wrong = f"{args.anomaly} has other columns or categories than {dataset.name}"
        raise BadInput(wrong, "give a file with the same columns, or --anomaly permuted")
    if args.anomaly in data.SETS:
        return other.test.x
    return torch.cat([split.x for split in other.splits.values()])


def refuse_own(name: str, is_own: bool) -> None:
    if is_own:
        raise BadInput(f"{name} is the data of the run itself", "give other data, or --anomaly permuted")


def show(document: dict[str, Any]) -> None:
    of = f"{document['n']:,} of {document['split']} beside {document['n_anomalies']:,} of {document['anomalies']}"
    print(f"anomaly scores, larger for anomalies: {of}")
    if by := document.get("likelihood"):
        print(f"log p(x): {by['kind'].replace('_', ' ')}; {by['method']}")
    print(LINE.format("score", "AUROC", "95 % interval", "median, data", "of anomalies"))
    for name, row in document["scores"].items():
        interval = f"{row['low']:.3f} … {row['high']:.3f}"
        medians = (f"{row[which]:.4g}" for which in ("median", "median_of_anomalies"))
        print(LINE.format(name, f"{row['auroc']:.3f}", interval, *medians))
    for left in document["skipped"]:
        print(f"not measured: {left['what']}: {left['reason']}")
