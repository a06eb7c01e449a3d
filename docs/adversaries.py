"""The tables of docs/results.md about GANs and energies, from the JSON of results/modes.py, gans.py and their like."""

from __future__ import annotations

from typing import Any

from layout import table


def games(documents: list[dict[str, Any]]) -> str:
    """Modes that games cover, of each data set and seed, with the share of samples outside of all modes or the KL."""
    blocks = ["## Modes covered by GANs", ""]
    for document in documents:
        runs = {title: of_data(game) for title, game in document["games"].items()}
        columns = list(next(iter(runs.values())))
        blocks += [
            f"`{document['command']}`: {document['protocol']}. Each cell has the modes covered with each seed and, in "
            "brackets, the mean share of samples outside of all modes, or the mean KL. More modes and a smaller share "
            "or KL are better. *Stopped*: the training diverged.",
            "",
            table(
                ["game", *columns],
                [[title, *(covered(found[key]) for key in columns)] for title, found in runs.items()],
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


OF_IMAGES = {
    "frechet_infinity": "Fréchet, N → ∞ ↓",
    "frechet": "Fréchet ↓",
    "precision": "precision ↑",
    "recall": "recall ↑",
}


def distances(document: dict[str, Any]) -> str:
    """The distances of each game's samples to held-out examples, and the same of held-out examples to others."""
    rows = []
    for data in dict.fromkeys(data for game in document["games"].values() for data in game):
        found = {title: game[data] for title, game in document["games"].items() if data in game}
        rows += [[data, title, *distance_cells(game)] for title, game in found.items()]
        real: dict[str, Any] = next((game["metrics"] for game in found.values() if "metrics" in game), {})
        level = [level_cell(real.get(key, {}).get("reference")) for key in OF_IMAGES]
        rows.append([data, "*held-out real data*", *level, "", ""])
    lines = [
        "## GANs of images",
        "",
        f"`{document['command']}`: {document['protocol']}. Intervals are of 95 %. The row *held-out real data* has "
        "real examples in place of the samples.",
        "",
        table(["data", "game", *OF_IMAGES.values(), "steps", "CPU minutes"], rows),
    ]
    return "\n".join(lines) + "\n"


def distance_cells(game: dict[str, Any]) -> list[str]:
    if "metrics" not in game:
        return ["stopped", *["–"] * (len(OF_IMAGES) + 1)]
    cells = [level_cell(game["metrics"].get(key)) for key in OF_IMAGES]
    return [*cells, f"{game['steps']:,}", f"{game['seconds'] / 60:.1f}"]


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
            table(
                ["composition", *map(str, range(10))],
                [[name, *map(str, counts)] for name, counts in digits["labels"].items()],
            ),
            "",
        ]
    if "sprites" in document:
        sprites = document["sprites"]
        lines += [
            f"Of {sprites['n']} products of a diffusion model of a sprite's shape and one of its column, each trained "
            f"for {sprites['training']['steps']:,} steps, {sprites['both']:.0%} have the shape and, within one place, "
            f"the column of the nearest sprite; by chance it would be {sprites['chance']:.0%}. The last column has the "
            "median number of the 1,024 pixels that differ from that sprite:",
            "",
            table(
                ["composition", "shape", "column", "both", "pixels off"],
                [
                    [
                        name,
                        *(f"{pair[key]:.0%}" for key in ("shape", "x_within_one", "both")),
                        f"{pair['pixels_off']:.0f}",
                    ]
                    for name, pair in sprites["pairs"].items()
                ],
            ),
            "",
        ]
    return "\n".join(lines)


def energies(document: dict[str, Any]) -> str:
    """The divergences of each trainer's density: the mean over seeds and, in brackets, the value of each seed."""
    heads = ["trainer", "KL(p \\|\\| q) ↓", "KL(q \\|\\| p) ↓", "total variation ↓", "log Z", "CPU seconds"]
    lines = [
        "## One energy, seven trainers",
        "",
        f"`{document['command']}`: {document['protocol']}; seeds 0 to {max(document['seeds'])}, on "
        f"{document['machine']}. p is the true density, q = exp(-E) / Z; in nats. log Z is 0 of a "
        "normalised energy.",
        "",
        table(heads, [[f"`{name}`", *cells_of(found["runs"])] for name, found in document["trainers"].items()]),
    ]
    return "\n".join(lines) + "\n"


def cells_of(runs: list[dict[str, Any]]) -> list[str]:
    each = ", ".join(f"{run['kl_true_to_model']:.3f}" for run in runs)
    keys = ("kl_true_to_model", "kl_model_to_true", "total_variation", "log_z", "seconds")
    first, reverse, variation, log_z, seconds = (sum(run[key] for run in runs) / len(runs) for key in keys)
    return [f"{first:.3f} ({each})", f"{reverse:.3f}", f"{variation:.3f}", f"{log_z:.2f}", f"{seconds:.0f}"]


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
        f"`{document['command']}`: AUROC (1 is perfect, 0.5 is chance); {document['protocol']}, on "
        f"{document['machine']}.",
        "",
        table(
            ["trained on", "anomalies", "model", *scores],
            [
                [data, other, f"`{model}`", *(f"{found[of]['auroc']:.3f}" if of in found else "–" for of in scores)]
                for data, other, model, found in sorted(rows, key=lambda row: row[:2])
            ],
        ),
    ]
    accuracies = [
        f"{found['accuracy']:.1%} of {data}'s labels by `{model}`"
        for data, models in document["data"].items()
        for model, found in models.items()
        if "accuracy" in found
    ]
    return "\n".join([*lines, *(["", f"Accuracy of p(y\\|x): {', '.join(accuracies)}."] if accuracies else [])]) + "\n"
