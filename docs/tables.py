"""Makes docs/results.md from the JSON in results/, so that no figure is typed by hand: `make docs`."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adversaries import anomalies, compositions, distances, energies, games, is_measured
from layout import table

from dgm.report.table import number

HERE = Path(__file__).parent
KINDS = {"exact": "exact", "lower_bound": "lower bound", "tighter_bound": "bound, K = 16", "estimate": "estimate"}
COLUMNS = {
    **KINDS,
    **{f"{key}_given_label": f"{heading}, label given" for key, heading in KINDS.items()},
    "kernel": "kernel ↓",
    "frechet_infinity": "Fréchet, N → ∞ ↓",
    "frechet": "Fréchet ↓",
    "precision": "precision ↑",
    "recall": "recall ↑",
    "coverage": "coverage ↑",
    "total_variation": "total variation ↓",
    "kolmogorov_smirnov": "Kolmogorov-Smirnov ↓",
    "correlation": "correlation, off ↓",
    "cramers_v": "Cramér's V, off ↓",
    "utility": "trained on samples ↑",
    "closest_5th": "closest row, 5th percentile",
    "memorised": "memorised",
    "per_second": "samples/s ↑",
    "steps": "steps",
}
DISTANCES = ("kernel", "frechet_infinity", "frechet", "precision", "recall", "coverage")

START = (
    "# Results\n\n"
    "All figures were measured with the command beside them, and are stored in `results/`; `make docs` makes this "
    "page. Most trainings were short, on one or two cores, and networks are smaller than those of papers.\n"
    "↓ means that lower is better, ↑ that higher is better, and a dash that it was not measured. [The terms]"
    "(README.md#terms) and [Measures](measuring.md) explain units and measures.\n\n"
)

MISSES = (
    "MADE with one mask reaches the figure of its paper, and NADE is close to its published figure, which took "
    "hundreds of epochs. FVSBN overfits early and does not improve with more training. The loss of PixelRNN was still "
    "decreasing at the end. The loss of PixelCNN had nearly converged: with 32 features, the network is too narrow. On "
    "CIFAR-10 the networks are much smaller than those of the papers and were trained for a few epochs on two cores, "
    "so these figures do not show the limits of the models."
)


def section(document: dict[str, Any]) -> str:
    data, run = document["data"], document["runs"][0]["evaluation"]
    features, found = next(iter(document["tables"].items()))
    columns = {
        key: heading for key, heading in COLUMNS.items() if any(row.get(key) is not None for row in found["rows"])
    }
    real = "held-out real data" if run["format"] > 1 else "training data"
    rows = [
        [name, *(number(row[key]) if row.get(key) is not None else "–" for key in columns)]
        for name, row in [(row["model"], row) for row in found["rows"]] + [(f"*{real}*", found["reference"])]
    ]
    lines = [
        f"## Comparison of families on {data['name']}",
        "",
        f"`{document['command']}` on {run['provenance']['machine']}, torch {run['provenance']['torch']}. "
        f"Split: {data['split']}. {run['samples']['n']} samples; distances in {features} features. "
        "Likelihoods are in bits per dimension on the test split, lower is better. Each kind has its own column, and "
        "values of different columns must not be ranked against one another.",
        "",
        table(["model", *columns.values()], rows),
    ]
    return "\n".join(lines) + "\n"


def published(documents: list[dict[str, Any]]) -> str:
    """The figures of the recipes beside the published ones."""
    heads = [
        "recipe",
        "published ↓",
        "measured ↓",
        "kind",
        "bits/dim ↓",
        "split",
        "training",
        "steps",
        "epochs",
        "last tenth",
    ]
    lines = [
        "## Published figures",
        "",
        "The command of each row is `python results/reproduce.py RECIPE`. Negative log-likelihoods, on the split of "
        "the published figure, with one standard error; *kind* says whether a figure is exact or by a lower bound of K "
        "importance weights. A cell with *label given* has log p(x|y), which may be higher than log p(x). *Last "
        "tenth* is the decrease of the validation loss, in nats per example, since its last value before the last "
        "tenth of the training; a dash means that it was not measured.",
        "",
        table(heads, map(published_row, documents)),
    ]
    notes = [f"- {d['recipe']}: {d['published']['source']}." for d in documents if d["published"]]
    return "\n".join([*lines, "", "Sources of the published figures:", "", *notes, "", MISSES]) + "\n"


def published_row(d: dict[str, Any]) -> list[str]:
    training, theirs = d["training"], d["published"]
    split = "validation" if theirs and "validation" in theirs["source"] else "test"
    found = d["likelihood"][split]
    per = d["dim"] if theirs and theirs["unit"].endswith("a character") else 1
    return [
        d["recipe"],
        f"{theirs['value']:.2f} {theirs['unit']}" if theirs else "–",
        f"{-found['nats'] / per:.2f} ± {found['nats_se'] / per:.2f} nats",
        found["kind"].replace("_", " ") + (f", K = {found['draws']:,}" if found["draws"] > 1 else ""),
        f"{found['bits_per_dim']:.4f} ± {found['bits_per_dim_se']:.4f}{given(found, d)}",
        split,
        f"{training['seconds'] / 60:.0f} min, {d['machine'].split(', ')[1]}",
        number(training["steps"]),
        f"{training['epochs']:.1f}",
        "–" if training["gained_in_the_last_tenth"] is None else f"{training['gained_in_the_last_tenth']:.2f}",
    ]


def given(entry: dict[str, Any], document: dict[str, Any]) -> str:
    """Marks log p(x|y). Early evaluations do not state the condition: they used the labels if the model had classes."""
    conditional = entry.get("condition") if "condition" in entry else document["settings"]["model"].get("classes")
    return ", *label given*" if conditional else ""


def compression(documents: list[dict[str, Any]]) -> str:
    """Sizes of coded test examples, the smallest first."""
    heads = ["codec", "bytes", "bits/dim", "claimed", "difference", "weights, bytes", "seconds"]
    about = (
        "The tables below have all codecs, the smallest files first. Codecs of images and of sound code each example "
        "as a file, those of images also all examples as one picture. The interval is of 95 % over examples. "
        "*Claimed* is -log2 p(x) by the likelihood. *Difference* is that of the coded bits, without the header of the "
        "file, from the claimed ones. The weights of a model are not part of its bytes."
    )
    lines = ["## Compression", "", *smallest(documents), "", about, ""]
    for d in documents:
        lines += [
            f"{d['what']} of {d['dataset']}: `{d['command']}` on {d['machine']}.",
            "",
            table(heads, map(coded_row, d["rows"])),
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


def coded_row(row: dict[str, Any]) -> list[str]:
    audit = ["–"] * 3
    if "claimed" in row:
        values = 8 * row["bytes"] / row["bits_per_dim"]  # without the padding of files
        audit = [f"{row['claimed'] / values:.4f} {row['kind'].replace('_', ' ')}"]
        audit += [f"{row['difference']:+.3%}", f"{row['weights_bytes']:,}"]
    spread = f" ± {row['plus_minus']:.4f}" if row.get("plus_minus") else ""
    return [row["codec"], f"{row['bytes']:,}", f"{row['bits_per_dim']:.4f}{spread}", *audit, f"{row['seconds']:.1f}"]


def smallest(documents: list[dict[str, Any]]) -> list[str]:
    """The lowest rate of a model of each data set beside that of image codecs and of the best of all codecs."""
    heads = ["data", "model", "bits/dim", "PNG", "WebP", "JPEG XL", "best without a model"]
    return [
        "Bits/dim of test examples, lower is better: of the model with the smallest files, of image codecs (each "
        "example as a file / all examples as one picture), and of the best codec without a model:",
        "",
        table(heads, map(smallest_row, documents)),
    ]


def smallest_row(d: dict[str, Any]) -> list[str]:
    rates = {row["codec"]: row["bits_per_dim"] for row in d["rows"]}
    model = min((name for name in rates if name.startswith("dgm ")), key=lambda name: rates[name])
    other = min((name for name in rates if not name.startswith("dgm ")), key=lambda name: rates[name])
    images = ("PNG, optimised", "WebP, lossless", "JPEG XL, lossless")
    pairs = [[rates.get(name + more) for more in ("", ", one picture of all")] for name in images]
    cells = [" / ".join(f"{rate:.2f}" for rate in pair if rate) or "–" for pair in pairs]
    return [d["dataset"], model[4:], f"{rates[model]:.2f}", *cells, f"{rates[other]:.2f} ({other})"]


def density_sets(documents: list[dict[str, Any]]) -> str:
    """Negative log-likelihoods of the binary density sets, one column for each model, with published figures."""
    commands = " ".join(f"`{d['command']}`" for d in documents)
    about = {"variables": lambda row: row["variables"]}
    lines = [
        "## Binary density sets",
        "",
        "Exact negative log-likelihoods of the test splits in nats: lower is better. Each model has the same settings "
        f"on all sets and the weights with the best validation loss; training used one thread. Commands: {commands}. "
        f"In brackets, the published figures: {documents[0]['source']}. For dna, only the test split is the same.",
        "",
        by_model(documents, "sets", "set", about, cell),
    ]
    return "\n".join(lines) + "\n"


def by_model(
    documents: list[dict[str, Any]],
    key: str,
    name: str,
    about: dict[str, Callable[[dict[str, Any]], int]],
    cell_of: Callable[[dict[str, Any] | None], str],
) -> str:
    """A table with one row for each data set and one column for each document, in the order of the last of ``about``.

    Args:
        key: The entry of a document that has its rows by the name of the data set.
        about: The columns that describe a data set: title to number.
    """
    titles = [name, *about, *(d["model"] for d in documents)]
    found = {of: [of_row(row) for of_row in about.values()] for d in documents for of, row in d[key].items()}
    rows = [
        [of, *(f"{value:,}" for value in described), *(cell_of(d[key].get(of)) for d in documents)]
        for of, described in sorted(found.items(), key=lambda item: item[1][-1])
    ]
    return table(titles, rows)


def densities(documents: list[dict[str, Any]]) -> str:
    """Log-densities of the UCI tables, one column for each model."""
    commands = ", ".join(f"`{d['command']}`" for d in documents)
    about = {"columns": lambda row: row["variables"], "rows": lambda row: sum(row["rows"].values())}
    lines = [
        "## Densities of the UCI tables",
        "",
        "Mean log p(x) of the test split in nats, exact, with one standard error over its rows: more is better. A mean "
        "of several trainings has their number and their standard deviation in brackets; ≈ is an estimate, with a "
        "stochastic trace. All columns of the file in its own units, one split of 80, 10 and 10 % of the rows (seed "
        "0); the settings are those with the best validation likelihood. A dash is not measured. Columns with repeated "
        "values have no density, so such figures (elevators, parkinsons) depend on the ridge; gas has outliers in its "
        "test split. A column of elevators has a constant value in all but a few rows, one of them in the validation "
        "split: an affine flow (`maf`, `realnvp`) fits the constant, so that row chooses weights from the first "
        "hundred steps. `ffjord` is trained for 1,000 steps, the other flows for 2,000 or 3,000, and is below "
        "`gaussian` on seven tables: too few steps, we think, since on concrete its validation loss falls to the end. "
        f"`gaussian` is one normal with a full covariance. Commands: {commands}, with `--seeds 5` for the tables of "
        "fewer than 2,000 rows.",
        "",
        by_model(documents, "densities", "table", about, density_cell),
    ]
    return "\n".join(lines) + "\n"


def density_cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "–"
    test, each = row["likelihood"]["test"], row.get("test_of_seeds", {"each": []})["each"]
    mark = "" if test["kind"] == "exact" else "≈ "
    if len(each) < 2:
        return f"{mark}{test['nats']:.2f} ± {test['nats_se']:.2f}"
    return f"{mark}{statistics.mean(each):.2f} ± {test['nats_se']:.2f} ({len(each)}: {statistics.stdev(each):.2f})"


def cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "–"
    test, published = row["likelihood"]["test"], row["published"]
    measured = f"{-test['nats']:.2f} ± {test['nats_se']:.2f}"
    return f"{measured} ({published:.2f})" if published else measured


def evaluated(documents: list[dict[str, Any]]) -> str:
    """Likelihoods and distances of the recipes without an exact likelihood, in one table for each data set."""
    sets = sorted({document["recipe"].split("/")[0] for document in documents})
    return "\n".join(evaluated_on(data, [d for d in documents if d["recipe"].startswith(f"{data}/")]) for data in sets)


def evaluated_on(data: str, documents: list[dict[str, Any]]) -> str:
    # distances of the first format have other features and another number of neighbours, so they are not comparable
    classified = {
        d["recipe"]: {row["name"]: row for row in d["evaluation"]["metrics"] if row["features"] == "classifier"}
        for d in documents
        if d["evaluation"]["format"] > 1
    }
    measured = {name for found in classified.values() for name in found}
    distances = [name for name in COLUMNS if name in measured and name in DISTANCES]
    heads = ["recipe", "lower bound", "estimate", *map(COLUMNS.__getitem__, distances), "N", "steps", "epochs"]
    levels = next(iter(classified.values()), {})
    real = [number(levels[name]["reference"]["value"]) for name in distances]
    rows = [evaluated_row(d, distances, classified.get(d["recipe"], {})) for d in documents]
    earlier = " Rows with dashes were measured with an earlier format." if len(classified) < len(documents) else ""
    lines = [
        f"## Flows, score, diffusion and flow matching on {data}",
        "",
        "The command of each row is `python results/reproduce.py RECIPE`, on one thread. Likelihoods are in bits per "
        "dimension of test images, including dequantisation; in brackets are published figures, of larger networks and "
        "longer training. A cell with *label given* has log p(x|y), which may be higher than log p(x); such cells must "
        "be ranked only against each other. Distances are in the features of a classifier, with N samples; in the last "
        f"row, held-out real examples replace the samples.{earlier} `ddpm` has T = 100 here: the noise of its "
        "first diffusion step is larger than the distance of two grey levels, which increases its bound by more than "
        "one bit per dimension.",
        "",
        table([*heads, "minutes"], [*rows, ["*held-out real data*", "–", "–", *real, *[""] * 4]]),
        "",
    ]
    for document in documents:
        each = (
            f"{r['kind'].replace('_', ' ')}: {r['n']:,} images, {r['method']}"
            for r in document["evaluation"]["likelihood"]
        )
        source = [f"published: {document['published']['source']}"] if document["published"] else []
        lines.append(f"- {document['recipe']}: {'; '.join([*each, *source])}.")
    return "\n".join(lines) + "\n"


def evaluated_row(document: dict[str, Any], distances: list[str], found: dict[str, dict[str, Any]]) -> list[str]:
    """A recipe's likelihoods and, of those ``distances`` that were measured, the values that ``found`` has."""
    of, training, theirs = document["evaluation"], document["training"], document["published"]
    bits = {
        row["kind"]: f"{row['bits_per_dim']:.3f} ± {row['bits_per_dim_se']:.3f}{given(row, document)}"
        for row in reversed(of["likelihood"])  # the first of a kind is of one draw
    }
    if theirs:
        bits["lower_bound"] += f" ({theirs['value']:.2f})"
    cells = [document["recipe"], *(bits.get(kind, "–") for kind in ("lower_bound", "estimate"))]
    cells += [number(found[name]["value"]) if name in found else "–" for name in distances]
    cells += [str(of["samples"]["n"]), f"{training['steps']:,}", f"{training['epochs']:.1f}"]
    return [*cells, f"{training['seconds'] / 60:.0f}"]


def solvers(document: dict[str, Any]) -> str:
    """Fréchet distance of every solver at each number of network evaluations."""
    counts = sorted({row["evaluations"] for row in document["solvers"]})
    found: dict[str, dict[int, float]] = {}
    for row in document["solvers"]:
        found.setdefault(row["label"], {})[row["evaluations"]] = row["frechet"]
    training = document["training"]
    lines = [
        f"## Solvers, {document['model']} on {document['data']}",
        "",
        f"`{document['command']}`: the Fréchet distance (lower is better) in {document['features']} features for each "
        f"number of network evaluations (columns), with N = {document['samples']:,} samples of one model, trained for "
        f"{training['budget']:,.0f} s on one thread. The distance of real examples ({document['of']}) is "
        f"{document['reference']:.1f}.",
        "",
        table(
            ["solver", *map(str, counts)],
            [[label, *(number(row[n]) if n in row else "–" for n in counts)] for label, row in found.items()],
        ),
        "",
    ]
    return (
        "\n".join(
            [*lines, f"![Fréchet distance against the number of network evaluations](solvers-{document['data']}.png)"]
        )
        + "\n"
    )


def precisions(document: dict[str, Any]) -> str:
    """One model in each precision: the mean over seeds and, in brackets, the value of each seed."""
    rows = []
    for precision in dict.fromkeys(row["precision"] for row in document["precision"]):
        rows.append([precision])
        for key, digits in (("lower_bound", 3), ("estimate", 3), ("frechet", 1)):
            each = [row[key] for row in document["precision"] if row["precision"] == precision]
            rows[-1].append(f"{sum(each) / len(each):.{digits}f} ({', '.join(f'{v:.{digits}f}' for v in each)})")
    lines = [
        "## float32 and bf16",
        "",
        f"`{document['command']}`: {document['model']} on digits, trained for {document['steps']:,} steps with the "
        f"seeds 0 to {max(row['seed'] for row in document['precision'])}, on {document['machine']}. Each cell has the "
        "mean and, in brackets, the value of each seed. Likelihoods are in bits per dimension on the test split; the "
        f"Fréchet distance is in classifier features, with N = {document['samples']}.",
        "",
        table(["precision", "lower bound", "estimate", "Fréchet ↓"], rows),
    ]
    return "\n".join(lines) + "\n"


def plane(documents: dict[str, dict[str, Any]]) -> str:
    """The density by the ODE beside the true density, and the distance of samples with few sampling steps."""
    steps = next(
        row["wasserstein"] for document in documents.values() for row in document.values() if isinstance(row, dict)
    )
    heads = ["data", "model", "mean log p", "true", "mean difference", "integral", "S", *(f"W2, {k}" for k in steps)]
    rows = []
    for data, document in documents.items():
        rows += [[data, name, *plane_cells(row)] for name, row in document.items() if isinstance(row, dict)]
        real = [number(document["of_training_data"]), *[""] * (len(steps) - 1)]
        rows.append([data, "*training data*", *["–"] * 5, *real])
    lines = [
        "## Densities and straight paths in the plane",
        "",
        "`python results/toy.py moons`, `python results/toy.py checkerboard`: the mean log-density of 2,000 test "
        "points by the probability-flow ODE and the true one, in nats; the mean absolute difference of the two; the "
        "integral of the density over the square with the points; the straightness S of the paths, which is 0 for "
        "straight lines at constant speed; and the Wasserstein-2 distance (W2) between 2,000 samples and the test "
        "points for each number of sampling steps (lower is better), by Euler's method or, for `mean_flow`, by its own "
        "sampler.",
        "",
        table(heads, rows),
    ]
    return "\n".join(lines) + "\n"


def plane_cells(row: dict[str, Any]) -> list[str]:
    return [
        f"{row['log_p']:.3f}",
        f"{row['true_log_p']:.3f}",
        f"{row['mean_absolute_difference']:.3f} ± {row['mean_absolute_difference_se']:.3f}",
        f"{row['integral']:.4f}",
        f"{row['straightness']:.4f}" if row["straightness"] is not None else "–",
        *(f"{value:.3f}" for value in row["wasserstein"].values()),
    ]


def main() -> None:
    results = HERE.parent / "results"
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))]
    compared, recipes, sets = ([d for d in documents if key in d] for key in ("tables", "recipe", "sets"))
    exact, alone = ([d for d in recipes if key in d] for key in ("likelihood", "evaluation"))
    toys = {
        path.stem.removeprefix("toy-"): json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(results.glob("toy-*.json"))
    }
    curves = [d for d in documents if "solvers" in d]
    coded = [d for d in documents if "rows" in d and "dataset" in d]
    body = "\n".join(
        [
            *map(section, sorted(compared, key=lambda document: document["data"]["name"] != "digits")),
            published(exact),
            density_sets(sets),
            densities([d for d in documents if "densities" in d]),
            evaluated(alone),
            *map(solvers, curves),
            *map(precisions, [d for d in documents if "precision" in d]),
            compression(coded),
            plane(toys),
            games([d for d in documents if "games" in d and not is_measured(d)]),
            *map(distances, filter(is_measured, documents)),
            *map(energies, [d for d in documents if "trainers" in d]),
            *map(compositions, [d for d in documents if "compose" in d.get("command", "")]),
            *map(anomalies, [d for d in documents if "anomaly" in d.get("command", "")]),
        ]
    )
    (HERE / "results.md").write_text(START + contents(body) + body, encoding="utf-8")


def contents(body: str) -> str:
    """Links to the headings, with the anchors that GitHub makes of them."""
    titles = re.findall(r"^## (.*)$", body, re.MULTILINE)
    anchors = (re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles)
    return "\n".join(f"- [{title}](#{anchor})" for title, anchor in zip(titles, anchors, strict=True)) + "\n\n"


if __name__ == "__main__":
    main()
