"""Prints the results of an evaluation."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

WIDTH = 80  # characters in a line
LINE = "{:<20}{:>11}   {:<24}{}"
Z = 1.96  # half the width of a 95 % interval, in standard errors


def show(document: dict[str, Any], *, tokens: bool) -> None:
    """Prints the results in lines of at most `WIDTH` characters; headings are wrapped, numbers are not.

    Args:
        tokens: Whether x is a sequence of tokens, so that the perplexity is shown.
    """
    print(LINE.format("", "value", "95 % interval", "real data").rstrip())
    for row in document["likelihood"]:
        show_likelihood(row, tokens=tokens)
    for name, show_part in PARTS.items():
        if part := document.get(name):
            show_part(part)
    print()
    if beside := document["reference"]:
        heading(f"real data: held-out examples in the samples' place ({beside['of']}), beside {beside['real']}")
    for left in document["skipped"]:
        heading(f"not measured: {left['what']}: {left['reason']}")


def show_likelihood(row: dict[str, Any], *, tokens: bool) -> None:
    of = f"{'log p(x|y)' if row['condition'] else 'log p(x)'}, {row['kind'].replace('_', ' ')}"
    heading(f"{of}: {row['split']}, N = {row['n']:,}; {row['method']}")
    show_nats(row)
    if tokens:
        number("perplexity per token", row["perplexity"])


def show_nats(row: dict[str, Any]) -> None:
    for name, unit in (("bits/dim", "bits_per_dim"), ("nats", "nats")):
        half = Z * row[f"{unit}_se"]
        number(name, row[unit], (row[unit] - half, row[unit] + half))


def show_classification(labelled: dict[str, Any]) -> None:
    heading(f"the labels by p(y|x): {labelled['split']}, N = {labelled['n']:,}; {labelled['rule']}")
    half, right = Z * labelled["accuracy_se"], labelled["accuracy"]
    entry("accuracy", f"{right:.2%}", f"{right - half:.4g} … {min(1, right + half):.4g}")
    number("log p(y|x), nats", labelled["log_p"])
    number("calibration error", labelled["calibration_error"])


def show_mixing(mixed: dict[str, Any]) -> None:
    heading(f"{mixed['rule']}: {mixed['chains']} chains of {mixed['states']} states")
    number("R̂, 1 if mixed", mixed["r_hat"])
    number("effective sample size", mixed["effective"])


def show_metrics(metrics: list[dict[str, Any]]) -> None:
    for features, rows in itertools.groupby(metrics, key=itemgetter("features")):
        found = list(rows)
        sizes = f"N = {found[0]['n_generated']:,} beside {found[0]['n_real']:,} of {found[0]['split']}"
        heading(f"{features} features: {sizes}")
        for row in found:
            level = row["reference"] and (row["reference"]["low"], row["reference"]["high"])
            number(row["name"].replace("_", " "), row["value"], (row["low"], row["high"]), level)


def show_agreement(agreed: dict[str, Any]) -> None:
    show_shares(f"the condition is followed: {agreed['rule']}", agreed)


def show_downstream(trained: dict[str, Any]) -> None:
    heading(f"downstream accuracy: {trained['rule']}")
    ends = [(part["low"], part["high"]) for part in (trained, trained["real"])]
    number("accuracy", trained["accuracy"], *ends)


def show_duplicates(copies: dict[str, Any]) -> None:
    show_shares(f"copies among {copies['n']:,} samples: {copies['rule']}", copies)


def show_modes(covered: dict[str, Any]) -> None:
    heading(f"modes among {covered['n']:,} samples: {covered['rule']}")
    entry("covered", f"{covered['found']} of {covered['of']}")
    if covered["kl"] is not None:
        entry("KL(samples || data), nats", f"{covered['kl']:.3f}")
    if covered["outside"]:
        entry("of no mode", f"{covered['outside']:.1%}")


def show_codebook(book: dict[str, Any]) -> None:
    heading(f"codebook: {book['codes']:,} codes of the {book['split']} split")
    entry("entries used", f"{book['used']} of {book['entries']}")
    number("perplexity", book["perplexity"])


def show_samples(made: dict[str, Any]) -> None:
    heading(f"{made['n']:,} samples: {made['threads']} threads, {made['device']}")
    number("samples per second", made["per_second"])


def show_copies(copied: dict[str, Any]) -> None:
    """The share of copies and the authenticity, in pixels and in features."""
    show_shares(f"memorised: {copied['rule']}", copied)
    for features, found in {"pixels": copied, **copied.get("in_features", {})}.items():
        for key in ("share", "authenticity") if features != "pixels" else ("authenticity",):
            if key in found:
                held_out = f"held out: {found[f'held_out_{key}']:.1%}"
                entry(key, f"{found[key]:.1%}", f"in {features}", held_out)


def show_posterior(held: dict[str, Any]) -> None:
    heading(f"calibration of q(z|x): N = {held['n']:,}; {held['rule']}: coverage of intervals, p of the ranks")
    inside = ", ".join(f"{level}: {share:.0%}" for level, share in held["coverage"].items())
    entry(f"{held['dimensions']} dimensions", "", inside, p_value(held["p"]))


def show_calibration(held: dict[str, Any]) -> None:
    heading(f"calibration: {held['split']}, N = {held['n']:,}; {held['rule']}: coverage of intervals, p of the ranks")
    for column in held["columns"]:
        inside = ", ".join(f"{level}: {share:.0%}" for level, share in column["coverage"].items())
        entry(column["name"][:17], "", inside, p_value(column["p"]))


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
            entry(TABLE[name], f"{found['value']:.4g}", "", f"held out: {level['value']:.4g}")
        elif level and level["low"] == level["high"]:  # one value, and no interval
            entry(TABLE[name], f"{found['value']:.5g}", "", f"{level['value']:.4g}")
        else:
            number(TABLE[name], found["value"], None, ends)


def show_shares(title: str, found: dict[str, Any]) -> None:
    """A share of the samples beside that of held-out examples."""
    heading(title)
    entry("share", f"{found['share']:.1%}", "", f"held out: {found['held_out_share']:.1%}")


def show_codes(codes: dict[str, Any]) -> None:
    heading(f"the code: N = {codes['n']:,}; {codes['rule']}")
    entry("active dimensions", f"{codes['active_units']} of {codes['of']}")
    number("KL(q(z|x) || p(z))", sum(codes["kl"]))
    if len(codes["kl"]) > 1:
        entry("of each dimension", "", f"{min(codes['kl']):.3g} … {max(codes['kl']):.3g}")
    if codes["mutual_information"] is not None:
        number("I(x; z), nats", codes["mutual_information"])


def show_bracket(held: dict[str, Any]) -> None:
    heading(f"{held['rule']}, N = {held['n']:,}")
    number("lower bound, nats", held["lower"])
    number("upper bound, nats", held["upper"])
    number("gap, nats", held["gap"], (held["gap"] - Z * held["gap_se"], held["gap"] + Z * held["gap_se"]))


def show_observed(held: dict[str, Any]) -> None:
    """Prints lower bounds of the density of a generator's noisy samples, which is no likelihood of the generator."""
    heading(f"no p(x) of its own; lower bounds of the log-density of its {held['rule']}")
    for row in held["likelihood"]:
        of = "of x given y" if row["condition"] else "of x"
        heading(f"{of}, {row['method']}: {row['split']}, N = {row['n']:,}")
        show_nats(row)
    if "bracket" in held:  # else it failed, and is listed as not measured
        show_bracket(held["bracket"])


def show_constant(constant: dict[str, Any]) -> None:
    """Prints both estimates of log Z: backward annealing starts from the ends of the model's own chains."""
    heading(constant["rule"] + (f", mean of {constant['n']} conditions" if constant["n"] > 1 else ""))
    for way in ("forward", "backward"):
        found = constant[way]
        entry(way, f"{found['log_z']:.2f}", f"{found['low']:.2f} … {found['high']:.2f}")
    number("gap, nats", constant["gap"])  # by which log p(x) is lower with the backward one


def show_representation(judged: dict[str, Any]) -> None:
    """Prints the measures of the codes beside labels or factors."""
    from dgm.report.table import MEASURES

    heading(f"the code beside the condition: N = {judged['n']:,}, {judged['rule']}")
    for name, accuracy in judged["probe"].items():
        chance = f"most frequent: {judged['most_frequent'][name]:.1%}"
        entry(f"probe, {name}", f"{accuracy:.1%}", chance)
    for key, name in MEASURES.items():
        if key in judged:
            number(name, judged[key])


def heading(text: str) -> None:
    print(textwrap.fill(text, WIDTH, subsequent_indent="  "))


def entry(name: str, value: str, middle: str = "", right: str = "") -> None:
    print(LINE.format(f"  {name}", value, middle, right).rstrip())


def number(
    name: str, value: float, interval: tuple[float, float] | None = None, level: tuple[float, float] | None = None
) -> None:
    spread, real = (f"{ends[0]:.4g} … {ends[1]:.4g}" if ends else "" for ends in (interval, level))
    entry(name, f"{value:.5g}", spread, real)


# the parts of an evaluation in the order in which they are printed
PARTS: Mapping[str, Callable[[Any], None]] = {
    "classification": show_classification,
    "calibration": show_calibration,
    "posterior": show_posterior,
    "codes": show_codes,
    "bracket": show_bracket,
    "observed": show_observed,
    "constant": show_constant,
    "mixing": show_mixing,
    "representation": show_representation,
    "metrics": show_metrics,
    "memorisation": show_copies,
    "table": show_table,
    "agreement": show_agreement,
    "downstream": show_downstream,
    "duplicates": show_duplicates,
    "modes": show_modes,
    "codebook": show_codebook,
    "samples": show_samples,
}
