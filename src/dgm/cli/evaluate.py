"""Measure a trained model: likelihood, sample quality, coverage, memorisation. Writes evaluation.json into the run.

dgm evaluate runs/vae
dgm evaluate runs/vae --samples 5000 --draws 16 --json
dgm evaluate runs/ddpm --label dog     with one label or --condition, without changing evaluation.json
dgm evaluate runs/a --against runs/b   two runs, two data sets, or one of each, beside each other
dgm evaluate runs/vae --anomaly fashion_mnist    how well its scores separate other data from its own
dgm evaluate runs/table --score rows.csv --out scores.csv    the log-density and the anomaly rank of each row
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from dgm import torchrun
from dgm.cli import against, condition, evaluate_anomaly, own, scores
from dgm.cli.evaluate_results import heading, show
from dgm.cli.terminal import Progress
from dgm.cli.values import MOST_STEPS, real, seed, whole
from dgm.errors import BadInput

# the options that each of these reads, besides --data and --trust; alone, a run is evaluated by itself
READS = {
    "against": {"samples", "split", "features", "seed", "json"},
    "score": {"out", "draws", "seed", "split", "label", "condition"},
    "anomaly": {"split", "draws", "seed", "json"},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="a run directory, as `dgm train` writes it; with --against also a data set")
    parser.add_argument("--against", metavar="B", help="another run or a data set, that this one is compared with")
    parser.add_argument("--samples", type=whole(20, 100_000), default=1000, help="number of samples (1000)")
    parser.add_argument("--split", choices=("validation", "test"), default="test", help="split of the data (test)")
    parser.add_argument(
        "--features",
        nargs="+",
        choices=("pixels", "pca", "classifier", "inception", "dinov2", "clip"),
        help="feature spaces (pixels, pca and classifier, where the data allows them)",
    )
    parser.add_argument(
        "--draws",
        type=whole(1, 1_000_000),
        default=1,
        help="random draws for each example, for bounds and estimates (1)",
    )
    parser.add_argument(
        "--annealed",
        type=whole(1, MOST_STEPS),
        default=0,
        help="temperatures of annealed importance sampling: of 100 examples, fewer of an expensive decoder, and of as "
        "many simulated ones from both sides; of log Z (1000); of a GAN, with Gaussian noise on its samples",
    )
    parser.add_argument(
        "--downstream",
        action="store_true",
        help="train a classifier on the labelled samples, and test it on real examples",
    )
    parser.add_argument("--seed", type=seed(), default=0, help="random seed of samples and draws (0)")
    parser.add_argument("--anomaly", metavar="DATA", help=evaluate_anomaly.HELP)
    condition.add_arguments(parser, "all samples, and of the real examples that they are compared with")
    own.add_data(parser)
    own.add_trust(parser)
    parser.add_argument(
        "--marginal", action="store_true", help="log p(x) of a conditional model, summed over its labels"
    )
    group = parser.add_argument_group("estimates by an ODE, of diffusion, score and flow models")
    group.add_argument(
        "--solver", choices=("dopri5", "euler", "heun", "rk4"), help="solver of the ODE (dopri5, with adaptive steps)"
    )
    group.add_argument("--tolerance", type=real(1e-12, 1), help="tolerance of dopri5 at each step (1e-4)")
    group.add_argument("--solver-steps", type=whole(1, MOST_STEPS), help="steps of the other solvers (100)")
    group.add_argument(
        "--trace", choices=("exact", "hutchinson"), help="trace of the Jacobian (exact in up to 16 dimensions)"
    )
    parser.add_argument("--target", help="of a table: the column to predict after training on samples (the last one)")
    parser.add_argument("--json", action="store_true", help="print the complete document")
    parser.add_argument(
        "--score",
        metavar="FILE",
        help="of a table: print the log-density and the anomaly rank of each row of this file",
    )
    parser.add_argument("--out", help="with --score: the .csv file to write")


def refuse_unread(args: argparse.Namespace) -> None:
    """Refuses the options that --against, --score or --anomaly does not read."""
    way = next((way for way in READS if getattr(args, way) is not None), None)
    if way is None:
        return
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    for action in parser._actions:
        read = action.dest in {way, "data", "trust", *READS[way]} or not action.option_strings
        if not read and getattr(args, action.dest, action.default) != action.default:
            wrong = f"{action.option_strings[0]} has no effect with --{way}"
            raise BadInput(wrong, "leave one of the two out")


def run(args: argparse.Namespace) -> int:
    refuse_unread(args)
    if args.against is not None:
        return against.run(args)
    if args.score is not None:
        return scores.run(args)
    if args.out is not None:
        raise BadInput("--out without --score", "leave it out: the results are in RUN/evaluation.json")
    from dgm.evaluation import evaluate
    from dgm.evaluation.cautions import cautions
    from dgm.files import write_json
    from dgm.report.collect import is_evaluated
    from dgm.runs import Run, load

    own.trust(args, args.run)
    if args.anomaly is not None:
        return evaluate_anomaly.run(args)
    model, trained = load(args.run), Run(args.run)
    out = trained.path / "evaluation.json"
    y = condition.from_arguments(args, model, most=1)

    def write_part(document: dict[str, Any]) -> None:
        if y is None and not is_evaluated(trained):  # a partial evaluation must not replace a complete one
            write_json(document, out)
            print(f"dgm: the measures so far are in {out}", file=sys.stderr)

    with Progress("evaluating", quiet=args.json or not torchrun.is_first()) as progress:
        document = evaluate(
            model,
            trained.dataset(args.data),
            samples=args.samples,
            split=args.split,
            spaces=args.features,
            draws=args.draws,
            seed=args.seed,
            marginal=args.marginal,
            condition=None if y is None else y[0],
            solver=args.solver,
            tolerance=args.tolerance,
            solver_steps=args.solver_steps,
            trace=args.trace,
            annealed=args.annealed,
            target=args.target,
            downstream=args.downstream,
            progress=progress.update,
            on_interrupt=write_part,
        )
    if not torchrun.is_first():
        return 0
    if y is None:
        write_json(document, out)
    sentences = cautions(document, trained.metrics(), trained.config)
    if args.json:
        print(json.dumps(document, indent=2))
    else:
        show(document, tokens=model.space.kind == "tokens")
        for sentence in sentences:
            heading(sentence)
    return 0
