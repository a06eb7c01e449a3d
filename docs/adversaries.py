"""The tables of docs/results.md about GANs and energies, from the JSON of results/modes.py, gans.py and their like."""

from __future__ import annotations

from typing import Any


def games(documents: list[dict[str, Any]]) -> str:
    """Modes that games cover, of each data set and seed, with the share of samples outside of all modes or the KL."""
    blocks = ["## Modes covered by GANs", ""]
    for document in documents:
        runs = {title: of_data(game) for title, game in document["games"].items()}
        columns = list(next(iter(runs.values())))
        blocks += [
            f"`{document['command']}`: {document['protocol']}. Each cell has the modes covered with each seed and, in "
            "brackets, the mean share of samples outside of all modes, or the mean KL.",
            "",
            f"| game | {' | '.join(columns)} |",
            "|---" * (1 + len(columns)) + "|",
            *(
                f"| {title} | {' | '.join(covered(found[column]) for column in columns)} |"
                for title, found in runs.items()
            ),
            "",
        ]
    return "\n".join(blocks)


def of_data(game: Any) -> dict[str, list[dict[str, Any]]]:
    """The runs of a game by data set; those of one data set are a list in the file."""
    if isinstance(game, list):
        return {"stacked": game}
    return {key: runs for key, runs in game.items() if isinstance(runs, list)}


def covered(runs: list[dict[str, Any]]) -> str:
    found = ", ".join(f"{run['found']:,}" if "found" in run else "stopped" for run in runs)
    values = [run.get("outside", run["kl"]) for run in runs if "found" in run]
    if not values:
        return found
    mean = sum(values) / len(values)
    return f"{found} of {runs[0]['of']:,} ({mean:.0%} outside)" if "outside" in runs[0] else f"{found} (KL {mean:.2f})"


def is_measured(document: dict[str, Any]) -> bool:
    """Whether it has distances of the samples of games, and not modes that they cover."""
    games = document.get("games", {}).values()
    return any("metrics" in found for game in games if isinstance(game, dict) for found in game.values())


def distances(document: dict[str, Any]) -> str:
    """The distances of each game's samples to held-out examples, and the same of held-out examples to others."""
    lines = [
        "## GANs of images",
        "",
        f"`{document['command']}`: {document['protocol']}. Intervals are of 95 %. The row *held-out real data* has "
        "real examples in place of the samples.",
        "",
        "| data | game | Fréchet, N → ∞ ↓ | Fréchet ↓ | precision ↑ | recall ↑ | steps | CPU minutes |",
        "|---" * 8 + "|",
    ]
    for data in dict.fromkeys(data for game in document["games"].values() for data in game):
        found = {title: game[data] for title, game in document["games"].items() if data in game}
        for title, game in found.items():
            lines.append(f"| {data} | {title} | {distance_cells(game)} |")
        real = next(game["metrics"] for game in found.values() if "metrics" in game)
        cells = " | ".join(level_cell(real.get(key, {}).get("reference")) for key in OF_IMAGES)
        lines.append(f"| {data} | *held-out real data* | {cells} | | |")
    return "\n".join(lines) + "\n"


OF_IMAGES = ("frechet_infinity", "frechet", "precision", "recall")


def distance_cells(game: dict[str, Any]) -> str:
    if "metrics" not in game:
        return "stopped | – | – | – | – | –"
    cells = [level_cell(game["metrics"].get(key)) for key in OF_IMAGES]
    return " | ".join([*cells, f"{game['steps']:,}", f"{game['seconds'] / 60:.1f}"])


def level_cell(level: dict[str, Any] | None) -> str:
    if level is None:
        return "–"
    return f"{level['value']:.3g} ({level['low']:.3g} … {level['high']:.3g})"


def compositions(document: dict[str, Any]) -> str:
    """The labels of composed digits, and the share of composed sprites that have both factors."""
    lines = ["## Compositions", "", f"`{document['command']}`, on {document['machine']}, seed {document['seed']}.", ""]
    if "digits" in document:
        digits = document["digits"]
        lines += [
            f"Labels that the classifier of the evaluation gives {digits['n']} samples of each composition of one "
            f"diffusion model of digits, trained for {digits['steps']:,} steps:",
            "",
            f"| composition | {' | '.join(map(str, range(10)))} |",
            "|---" * 11 + "|",
            *(f"| {name} | {' | '.join(map(str, counts))} |" for name, counts in digits["labels"].items()),
            "",
        ]
    if "sprites" in document:
        sprites = document["sprites"]
        lines += [
            f"Of the products of an energy of a sprite's shape and one of its column, each trained for "
            f"{sprites['steps']:,} steps, {sprites['both']:.1%} of the samples have the shape and, within one place, "
            f"the column; by chance it would be {sprites['chance']:.1%}:",
            "",
            "| composition | shape | column | both |",
            "|---|---|---|---|",
            *(
                f"| {name} | {pair['shape']:.0%} | {pair['x_within_one']:.0%} | {pair['both']:.0%} |"
                for name, pair in sprites["pairs"].items()
            ),
            "",
        ]
    return "\n".join(lines)


def energies(document: dict[str, Any]) -> str:
    """The divergences of each trainer's density: the mean over seeds and, in brackets, the value of each seed."""
    lines = [
        "## One energy, seven trainers",
        "",
        f"`{document['command']}`: {document['protocol']}; seeds 0 to {max(document['seeds'])}, on "
        f"{document['machine']}. p is the true density, q = exp(-E) / Z; in nats. log Z is 0 of a "
        "normalised energy.",
        "",
        "| trainer | KL(p \\|\\| q) ↓ | KL(q \\|\\| p) ↓ | total variation ↓ | log Z | CPU seconds |",
        "|---" * 6 + "|",
    ]
    for name, found in document["trainers"].items():
        runs = found["runs"]
        each = ", ".join(f"{run['kl_true_to_model']:.3f}" for run in runs)
        keys = ("kl_true_to_model", "kl_model_to_true", "total_variation", "log_z", "seconds")
        first, reverse, variation, log_z, seconds = (sum(run[key] for run in runs) / len(runs) for key in keys)
        cells = f"{first:.3f} ({each}) | {reverse:.3f} | {variation:.3f} | {log_z:.2f} | {seconds:.0f}"
        lines.append(f"| `{name}` | {cells} |")
    return "\n".join(lines) + "\n"


def anomalies(document: dict[str, Any]) -> str:
    """The AUROC of each score, of each model and pair of data sets."""
    rows = [
        (data, other, model, of["scores"])
        for data, models in document["data"].items()
        for model, found in models.items()
        for other, of in found["others"].items()
    ]
    scores = list(dict.fromkeys(score for *_, found in rows for score in found))
    lines = [
        "## Anomaly scores side by side",
        "",
        f"`{document['command']}`: AUROC; {document['protocol']}, on {document['machine']}.",
        "",
        f"| trained on | anomalies | model | {' | '.join(scores)} |",
        "|---" * (3 + len(scores)) + "|",
    ]
    for data, other, model, found in sorted(rows, key=lambda row: row[:2]):
        cells = " | ".join(f"{found[score]['auroc']:.3f}" if score in found else "–" for score in scores)
        lines.append(f"| {data} | {other} | `{model}` | {cells} |")
    accuracies = [
        f"{found['accuracy']:.1%} of {data}'s labels by `{model}`"
        for data, models in document["data"].items()
        for model, found in models.items()
        if "accuracy" in found
    ]
    return "\n".join([*lines, *(["", f"Accuracy of p(y\\|x): {', '.join(accuracies)}."] if accuracies else [])]) + "\n"
