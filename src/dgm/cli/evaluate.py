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
import itertools
import json
import sys
import textwrap
from operator import itemgetter
from typing import Any

from dgm import torchrun
from dgm.cli import against, condition, evaluate_anomaly, own, scores
from dgm.cli.terminal import Progress
from dgm.cli.values import MOST_STEPS, real, seed, whole
from dgm.errors import BadInput

WIDTH = 80  # characters in a line
LINE = "{:<20}{:>11}   {:<24}{}"
Z = 1.96  # half the width of a 95 % interval, in standard errors
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
    from dgm.report.collect import is_evaluated
    from dgm.runs import Run, load, write_json

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


def show(document: dict[str, Any], *, tokens: bool) -> None:
    """Prints the results in lines of at most `WIDTH` characters; headings are wrapped, numbers are not."""
    print(LINE.format("", "value", "95 % interval", "real data").rstrip())
    for row in document["likelihood"]:
        of = f"{'log p(x|y)' if row['condition'] else 'log p(x)'}, {row['kind'].replace('_', ' ')}"
        heading(f"{of}: {row['split']}, N = {row['n']:,}; {row['method']}")
        for name, unit in (("bits/dim", "bits_per_dim"), ("nats", "nats")):
            half = Z * row[f"{unit}_se"]
            number(name, row[unit], (row[unit] - half, row[unit] + half))
        if tokens:
            number("perplexity per token", row["perplexity"])
    if labelled := document.get("classification"):
        heading(f"the labels by p(y|x): {labelled['split']}, N = {labelled['n']:,}; {labelled['rule']}")
        half, right = Z * labelled["accuracy_se"], labelled["accuracy"]
        print(
            LINE.format("  accuracy", f"{right:.2%}", f"{right - half:.4g} … {min(1, right + half):.4g}", "").rstrip()
        )
        number("log p(y|x), nats", labelled["log_p"])
        number("calibration error", labelled["calibration_error"])
    if held := document.get("calibration"):
        show_calibration(held)
    if held := document.get("posterior"):
        show_posterior(held)
    show_codes(document)
    if held := document.get("observed"):
        show_observed(held)
    if constant := document.get("constant"):
        show_constant(constant)
    if mixed := document.get("mixing"):
        heading(f"{mixed['rule']}: {mixed['chains']} chains of {mixed['states']} states")
        number("R̂, 1 if mixed", mixed["r_hat"])
        number("effective sample size", mixed["effective"])
    if judged := document.get("representation"):
        show_representation(judged)
    for features, rows in itertools.groupby(document["metrics"], key=itemgetter("features")):
        found = list(rows)
        heading(
            f"{features} features: N = {found[0]['n_generated']:,} beside {found[0]['n_real']:,} of {found[0]['split']}"
        )
        for row in found:
            level = row["reference"] and (row["reference"]["low"], row["reference"]["high"])
            number(row["name"].replace("_", " "), row["value"], (row["low"], row["high"]), level)
    if copied := document.get("memorisation"):
        show_copies(copied)
    if table := document.get("table"):
        show_table(table)
    if agreed := document.get("agreement"):
        show_shares(f"the condition is followed: {agreed['rule']}", agreed)
    if trained := document.get("downstream"):
        heading(f"downstream accuracy: {trained['rule']}")
        ends = [(part["low"], part["high"]) for part in (trained, trained["real"])]
        number("accuracy", trained["accuracy"], *ends)
    if copies := document.get("duplicates"):
        show_shares(f"copies among {copies['n']:,} samples: {copies['rule']}", copies)
    if covered := document.get("modes"):
        heading(f"modes among {covered['n']:,} samples: {covered['rule']}")
        print(LINE.format("  covered", f"{covered['found']} of {covered['of']}", "", "").rstrip())
        if covered["kl"] is not None:
            print(LINE.format("  KL(samples || data), nats", f"{covered['kl']:.3f}", "", "").rstrip())
        if covered["outside"]:
            print(LINE.format("  of no mode", f"{covered['outside']:.1%}", "", "").rstrip())
    if book := document.get("codebook"):
        heading(f"codebook: {book['codes']:,} codes of the {book['split']} split")
        print(LINE.format("  entries used", f"{book['used']} of {book['entries']}", "", "").rstrip())
        number("perplexity", book["perplexity"])
    if made := document.get("samples"):
        heading(f"{made['n']:,} samples: {made['threads']} threads, {made['device']}")
        number("samples per second", made["per_second"])
    print()
    if beside := document["reference"]:
        heading(f"real data: held-out examples in the samples' place ({beside['of']}), beside {beside['real']}")
    for left in document["skipped"]:
        heading(f"not measured: {left['what']}: {left['reason']}")


def show_copies(copied: dict[str, Any]) -> None:
    """The share of copies and the authenticity, in pixels and in features."""
    show_shares(f"memorised: {copied['rule']}", copied)
    for features, found in {"pixels": copied, **copied.get("in_features", {})}.items():
        for key in ("share", "authenticity") if features != "pixels" else ("authenticity",):
            if key in found:
                held_out = f"held out: {found[f'held_out_{key}']:.1%}"
                print(LINE.format(f"  {key}", f"{found[key]:.1%}", f"in {features}", held_out))


def show_posterior(held: dict[str, Any]) -> None:
    heading(f"calibration of q(z|x): N = {held['n']:,}; {held['rule']}: coverage of intervals, p of the ranks")
    inside = ", ".join(f"{level}: {share:.0%}" for level, share in held["coverage"].items())
    print(LINE.format(f"  {held['dimensions']} dimensions", "", inside, p_value(held["p"])))


def show_calibration(held: dict[str, Any]) -> None:
    heading(f"calibration: {held['split']}, N = {held['n']:,}; {held['rule']}: coverage of intervals, p of the ranks")
    for column in held["columns"]:
        inside = ", ".join(f"{level}: {share:.0%}" for level, share in column["coverage"].items())
        print(LINE.format(f"  {column['name'][:17]}", "", inside, p_value(column["p"])))


def p_value(p: float) -> str:
    """
    >>> p_value(0.0123), p_value(1e-9)
    ('p = 0.012', 'p < 0.001')
    """
    return f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"


TABLE = {
    "total_variation": "total variation",
    "kolmogorov_smirnov": "Kolmogorov-Smirnov",
    "correlation": "correlation, off",
    "cramers_v": "Cramér's V, off",
    "utility": "trained on samples",
    "closest": "median distance",
    "closest_5th": "5th percentile",
}


def show_table(table: dict[str, Any]) -> None:
    """Prints the measures of a table's columns and their pairs, of its use and of privacy, beside held-out rows."""
    heading(f"columns and pairs of columns: N = {table['n']:,} beside {table['n_real']:,} rows; {table['rule']}")
    for name, found in table["measures"].items():
        if name == "utility":
            target = table["target"]
            heading(f"trained on samples, tested on real rows: {target['score']} of '{target['column']}'")
        if name == "closest":
            heading("distance to the closest training row, of samples and of held-out rows")
        level = found["reference"]
        ends = level and (level["low"], level["high"])
        if level and name.startswith("closest"):
            print(LINE.format(f"  {TABLE[name]}", f"{found['value']:.4g}", "", f"held out: {level['value']:.4g}"))
        else:
            number(TABLE[name], found["value"], None, ends)


def show_shares(title: str, found: dict[str, Any]) -> None:
    """A share of the samples beside that of held-out examples."""
    heading(title)
    print(LINE.format("  share", f"{found['share']:.1%}", "", f"held out: {found['held_out_share']:.1%}"))


def show_codes(document: dict[str, Any]) -> None:
    """Prints the use of the code, and the bracket of simulated data."""
    if codes := document.get("codes"):
        heading(f"the code: N = {codes['n']:,}; {codes['rule']}")
        print(LINE.format("  active dimensions", f"{codes['active_units']} of {codes['of']}", "", "").rstrip())
        of_each = (min(codes["kl"]), max(codes["kl"])) if len(codes["kl"]) > 1 else None
        number("KL(q(z|x) || p(z))", sum(codes["kl"]))
        if of_each:
            print(LINE.format("  of each dimension", "", f"{of_each[0]:.3g} … {of_each[1]:.3g}", "").rstrip())
        if codes["mutual_information"] is not None:
            number("I(x; z), nats", codes["mutual_information"])
    if held := document.get("bracket"):
        show_bracket(held)


def show_bracket(held: dict[str, Any]) -> None:
    heading(f"{held['rule']}, N = {held['n']:,}")
    number("lower bound, nats", held["lower"])
    number("upper bound, nats", held["upper"])
    number("gap, nats", held["gap"], (held["gap"] - Z * held["gap_se"], held["gap"] + Z * held["gap_se"]))


def show_observed(held: dict[str, Any]) -> None:
    """Prints lower bounds of the density of a generator's noisy samples, which is no likelihood of the generator."""
    heading(f"no p(x) of its own; lower bounds of the log-density of its {held['rule']}")
    for row in held["likelihood"]:
        heading(f"{row['method']}: {row['split']}, N = {row['n']:,}")
        for name in ("bits_per_dim", "nats"):
            half = Z * row[f"{name}_se"]
            number(name.replace("bits_per_dim", "bits/dim"), row[name], (row[name] - half, row[name] + half))
    if "bracket" in held:  # else it failed, and is listed as not measured
        show_bracket(held["bracket"])


def show_constant(constant: dict[str, Any]) -> None:
    """Prints both estimates of log Z: backward annealing starts from the ends of the model's own chains."""
    heading(constant["rule"] + (f", mean of {constant['n']} conditions" if constant["n"] > 1 else ""))
    for way in ("forward", "backward"):
        found = constant[way]
        print(
            LINE.format(f"  {way}", f"{found['log_z']:.2f}", f"{found['low']:.2f} … {found['high']:.2f}", "").rstrip()
        )
    number("gap, nats", constant["gap"])  # by which log p(x) is lower with the backward one


def show_representation(judged: dict[str, Any]) -> None:
    """Prints the measures of the codes beside labels or factors."""
    from dgm.report.table import MEASURES

    heading(f"the code beside the condition: N = {judged['n']:,}, {judged['rule']}")
    for name, accuracy in judged["probe"].items():
        chance = f"most frequent: {judged['most_frequent'][name]:.1%}"
        print(LINE.format(f"  probe, {name}", f"{accuracy:.1%}", chance, "").rstrip())
    for key, name in MEASURES.items():
        if key in judged:
            number(name, judged[key])


def heading(text: str) -> None:
    print(textwrap.fill(text, WIDTH, subsequent_indent="  "))


def number(
    name: str, value: float, interval: tuple[float, float] | None = None, level: tuple[float, float] | None = None
) -> None:
    spread, real = (f"{ends[0]:.4g} … {ends[1]:.4g}" if ends else "" for ends in (interval, level))
    print(LINE.format(f"  {name}", f"{value:.5g}", spread, real).rstrip())
