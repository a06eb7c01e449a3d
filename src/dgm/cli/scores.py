"""`dgm evaluate RUN --score rows.csv`: the log-density of each row and its anomaly rank, as CSV."""

from __future__ import annotations

import argparse
import csv
import io
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dgm.cli import out as output
from dgm.cli import own
from dgm.cli.edit_rows import conditions, refuse_other_data
from dgm.errors import BadInput
from dgm.inputs import how_many

if TYPE_CHECKING:
    from torch import Tensor

    from dgm.evaluation.rows import Scores

HEADER = ("row", "log_density", "kind", "anomaly_rank")
OF_HELD_OUT = "held_out_share"


def run(args: argparse.Namespace) -> int:
    """Writes the scores into ``--out``, or prints them."""
    path = None if args.out is None else output.new(args.out)
    if path is not None and path.suffix != ".csv":
        raise BadInput(f"--out cannot be a '{path.suffix}' file", "end it in .csv")
    from dgm.data import rows
    from dgm.data.columns import of_run
    from dgm.evaluation.rows import DRAWS, held_out_shares, scores
    from dgm.files import replacing
    from dgm.runs import UNSTATED, Run, load

    own.trust(args, args.run)
    model, trained = load(args.run), Run(args.run)
    about = trained.config["data"]
    refuse_other_data(model.space, about)
    table = rows.read(Path(args.score))
    x = rows.numbers(table, of_run(about, model.space), model.space, others=rows.beside(about), outside=math.inf)
    y = conditions(args, model, table, about)
    how = {"draws": args.draws if args.draws > 1 else DRAWS, "seed": args.seed}
    found, shares = scores(model, x, y, **how), None
    if args.data is not None and about["name"] != UNSTATED:
        held = trained.dataset(args.data).splits[args.split]
        of_held = scores(model, held.x, held.y if y is not None else None, **how)
        shares = held_out_shares(found.nats, of_held.nats)
    text = as_csv(found, shares)
    if path is None:
        print(text, end="")
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(f"scores of {how_many(len(x), 'row')} in {path}")
    if outside := int(found.nats.isneginf().sum()):
        what = f"{'has' if outside == 1 else 'have'} a value outside of the training data's range, and probability 0"
        print(f"dgm: {outside:,} of {how_many(len(x), 'row')} {what}", file=sys.stderr)
    print(f"log p(row) in nats: {found.method}", file=sys.stdout if path else sys.stderr)
    return 0


def as_csv(found: Scores, shares: Tensor | None) -> str:
    """One line for each row, numbered from 1."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow([*HEADER, *([] if shares is None else [OF_HELD_OUT])])
    for k, (nats, kind, rank) in enumerate(zip(found.nats.tolist(), found.kinds, found.rank.tolist(), strict=True)):
        more = [] if shares is None else [f"{float(shares[k]):.4g}"]
        writer.writerow([k + 1, f"{nats:.6g}", str(kind).replace("_", " "), rank, *more])
    return lines.getvalue()
