"""Cautions about an evaluation: feature spaces that disagree, and runs that are hardly trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# relative to held-out data: a feature space that finds half of its value and another that finds a tenth contradict each
# other, while a factor of two between feature spaces is usual
HIGH, LOW = 0.5, 0.1
MODES, SHOWN = 0.9, 10  # share of the modes, and missed ones that are named
COPIES = 0.05  # share of the samples
PASSES = 3  # over the training data: a run with fewer is hardly trained
# a loss that falls as t^(-1/2) has 3 % of its fall since the first twentieth in the last fifth, one that falls linearly
# has 21 %: the threshold lies between the two
FIRST, LAST, FALLING = 0.05, 0.8, 0.1
APART = 1.0  # nats between two estimates of log Z
MIXED = 1.01  # R-hat of chains, at most
ALIVE, ENOUGH = 0.9, 10  # share of a codebook's entries that are in use; codes for each entry that can show it


def cautions(document: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> list[str]:
    """Cautions about one run, from its evaluation, the rows of its metrics.jsonl and its config."""
    sentences = [disagreement(document), missed_modes(document), copies(document)]
    sentences += [memorised(document), collapse(document), dead_codes(document)]
    sentences += [unknown_constant(document), unmixed(document)]
    sentences += [few_passes(metrics, config), still_falling(metrics), alarm(metrics)]
    return [sentence for sentence in sentences if sentence]


def dead_codes(document: Mapping[str, Any]) -> str:
    """A caution where many entries of a codebook are never used, although there are enough codes to use them."""
    book = document.get("codebook")
    if book is None or book["used"] > ALIVE * book["entries"] or book["codes"] < ENOUGH * book["entries"]:
        return ""
    dead, all_codes = book["entries"] - book["used"], f"{book['codes']:,} codes of the {book['split']} split"
    return f"Dead codes: {dead} of {book['entries']} entries of the codebook are none of the {all_codes}."


def unknown_constant(document: Mapping[str, Any]) -> str:
    """A caution where annealing forward and backward disagrees about log Z, so that log p(x) means nothing."""
    constant = document.get("constant")
    if constant is None or abs(constant["gap"]) <= APART:
        return ""
    return (
        f"log Z is not known: annealing forward and backward gives {constant['forward']['log_z']:.1f} and "
        f"{constant['backward']['log_z']:.1f} nats, and log p(x) may be overstated by more than that. Take more "
        "temperatures (--annealed), or train with a smaller learning rate."
    )


def unmixed(document: Mapping[str, Any]) -> str:
    """A caution where the chains of the samples depend on their start."""
    mixed = document.get("mixing")
    if mixed is None or not mixed["r_hat"] > MIXED:
        return ""
    return (
        f"The chains have not mixed: R-hat of their energies is {mixed['r_hat']:.3g}, of mixed chains at most {MIXED}. "
        "Samples depend on where their chains start; draw them by dgm sample with more --sampling-steps."
    )


def disagreement(document: Mapping[str, Any]) -> str:
    """A caution where coverage or precision is high in one feature space and near 0 in another."""
    for name in ("coverage", "precision"):
        of_name = [entry for entry in document["metrics"] if entry["name"] == name and entry["reference"]]
        entries = [entry for entry in of_name if entry["reference"]["value"] > 0]
        if not entries:
            continue
        high, low = max(entries, key=relative), min(entries, key=relative)
        if relative(high) >= HIGH and relative(low) <= LOW:
            levels = f"{high['reference']['value']:.2f} and {low['reference']['value']:.2f}"
            return (
                f"Feature spaces disagree: {name} is {high['value']:.2f} in {high['features']} features and "
                f"{low['value']:.2f} in {low['features']} features, where real data has {levels}. Trust neither alone; "
                "look at the samples."
            )
    return ""


def collapse(document: Mapping[str, Any]) -> str:
    """A caution about dimensions of the code whose posterior mean is the same for all examples."""
    codes = document.get("codes")
    if not codes or codes["active_units"] == codes["of"]:
        return ""
    unused = codes["of"] - codes["active_units"]
    information = codes["mutual_information"]
    held = "" if information is None else f" The code has {information:.3g} nats of mutual information with x."
    return f"Posterior collapse: {unused} of the {codes['of']} dimensions of the code do not depend on x.{held}"


def relative(entry: Mapping[str, Any]) -> float:
    """A metric relative to its value for held-out real data."""
    return float(entry["value"] / entry["reference"]["value"])


def missed_modes(document: Mapping[str, Any]) -> str:
    """A caution where samples miss a tenth of the modes, or lie in few of them."""
    modes = document.get("modes")
    if not modes or "missed" not in modes or modes["found"] >= MODES * modes["of"]:
        return ""
    missed = ", ".join(map(str, modes["missed"][:SHOWN]))
    return (
        f"Mode collapse: {modes['n']:,} samples cover {modes['found']} of {modes['of']} modes, and miss {missed}"
        f"{' …' if len(modes['missed']) > SHOWN else ''}. Train longer, or a GAN with the relativistic objective, r1 "
        "and r2."
    )


def copies(document: Mapping[str, Any]) -> str:
    """A caution where many samples are copies of others."""
    found = document.get("duplicates")
    if not found or found["share"] <= found["held_out_share"] + COPIES:
        return ""
    return (
        f"{found['share']:.0%} of {found['n']:,} samples are copies of other samples, of held-out examples "
        f"{found['held_out_share']:.0%}: the model has collapsed onto few outputs."
    )


def memorised(document: Mapping[str, Any]) -> str:
    """A caution where many samples are copies of training examples, in the space with the most of them."""
    found = document.get("memorisation")
    if not found:
        return ""
    spaces = {"pixels": found, **found.get("in_features", {})}
    name, most = max(spaces.items(), key=lambda space: space[1]["share"] - space[1]["held_out_share"])
    if most["share"] <= most["held_out_share"] + COPIES:
        return ""
    return (
        f"Memorised: {most['share']:.0%} of the samples are copies of training examples in {name}, of held-out "
        f"examples {most['held_out_share']:.0%}. Quality and coverage do not count for such samples."
    )


def alarm(metrics: Sequence[Mapping[str, Any]]) -> str:
    """The last alarm of the training, and when it was given, since a training may recover."""
    notes = [(line.get("step"), *str(line.get("note", "")).partition("alarm: ")) for line in metrics]
    alarms = [(step, sign + text) for step, _, sign, text in notes if sign]
    return f"In training, at step {alarms[-1][0]}, {alarms[-1][1]}." if alarms else ""


def few_passes(metrics: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> str:
    """A caution about few passes over the data. None for text, whose examples overlap."""
    passes = epochs(metrics[-1], config) if metrics else None
    if passes is None or passes >= PASSES:
        return ""
    return f"Hardly trained: {passes:.2g} passes over the training data. The results say little about the model."


def epochs(line: Mapping[str, Any], config: Mapping[str, Any]) -> float | None:
    """Epochs of training at a line of metrics.jsonl; None for text and for models that are fitted by passes."""
    data = config["data"]
    size = data.get("sizes", {}).get("train")
    is_text = data.get("alphabet") or data.get("options", {}).get("bytes")
    return None if is_text or not size or "examples" not in line else line["examples"] / size


def still_falling(metrics: Sequence[Mapping[str, Any]]) -> str:
    """A caution where a large part of the fall of the validation loss was in the last fifth of the training."""
    points = [(line["progress"], line["validation"]) for line in metrics if {"progress", "validation"} <= line.keys()]
    if not points or points[0][0] > LAST or points[-1][0] <= LAST:
        return ""
    first, late, last = loss_at(points, FIRST), loss_at(points, LAST), points[-1][1]
    part = (late - last) / (first - last) if first > last else 0.0
    if part < FALLING:
        return ""
    return f"The validation loss still falls fast: {part:.0%} of its fall was in the last fifth. Train longer."


def loss_at(points: Sequence[tuple[float, float]], progress: float) -> float:
    """The loss at a fraction of the training, linearly interpolated between validations."""
    (p, before), (q, after) = points[0], points[0]
    for q, after in points:
        if q >= progress:
            break
        p, before = q, after
    share = (progress - p) / (q - p) if q > p else 0.0
    return before + min(max(share, 0.0), 1.0) * (after - before)


def selected_line(metrics: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The line of metrics.jsonl of the selected weights: the lowest validation loss, or the last line."""
    validated = [line for line in metrics if {"progress", "validation"} <= line.keys()]
    if config["training"].get("select") != "best" or not validated:
        return metrics[-1] if metrics else None
    least: Mapping[str, Any] = min(validated, key=lambda line: line["validation"])
    return least
