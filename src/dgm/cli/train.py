"""Train a model on data, or resume a training. `dgm train MODEL --help` also lists the settings of that model.

dgm train vae --data digits --out runs/vae
dgm train vae --data digits --out runs/vae --model.latent 32 --budget 60s
dgm train vae --print-config > recipe.yaml
dgm train --config recipe.yaml --out runs/recipe
dgm train --config binarized_mnist/made --out runs/made   a recipe of dgm
dgm train --resume runs/vae
dgm train ddpm --on runs/vae --out runs/latent        a prior on the codes of a trained model
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, cast, get_type_hints

import jsonargparse
import yaml

from dgm import registry, settings, torchrun
from dgm.cli import own
from dgm.cli.data import CONDITION_COLUMNS, TYPES
from dgm.cli.parser import Parser as PlainParser
from dgm.cli.parser import in_plain_words, option_of, options_of, refuse_unknown
from dgm.cli.terminal import Progress
from dgm.errors import BadInput, UnknownName, in_one_line

if TYPE_CHECKING:
    from dgm.data import Dataset
    from dgm.protocols import Model
    from dgm.runs import Run
    from dgm.training import Step

SEE_HELP = "see `dgm train --help`"
# settings that may change when a run resumes: its length, its devices and its checkpoints, which have no other effect
RESUMABLE = {
    *("name", "resume", "trust", "data", "steps", "budget", "patience"),
    *("accelerator", "devices", "strategy", "checkpoint_every", "keep", "tensorboard"),
}
RECIPES = Path(__file__).parents[1] / "recipes"


class Parser(jsonargparse.ArgumentParser):
    """A parser that raises an error where jsonargparse would print its usage and exit."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        text = in_one_line(message)
        if unknown := re.match(r"unrecognized arguments: (\S+)|Option '(\S+)' is not accepted", text):
            option = unknown[1] or f"--{unknown[2]}"
            if option.startswith("--model.") and not any("--model." in known for known in options_of(self)):
                wrong = f"{option.split('=')[0]} is a model's, and no model is named"
                raise BadInput(wrong, "write `dgm train MODEL`; a resumed run keeps its own") from ex
            refuse_unknown(option, self)
        if key := re.match(r'Parser key "([^"]+)"', text):
            kind = next(getattr(action, "_typehint", action.type) for action in self._actions if action.dest == key[1])
            value = re.sub(r".*(Got|Given) value: ?", "", text)
            raise BadInput(f"{option_of(key[1])} must be {settings.in_words(kind)}, got '{value}'", SEE_HELP) from ex
        raise BadInput(in_plain_words(text), SEE_HELP) from ex


def main(arguments: list[str]) -> int:
    parser = Parser(
        prog="dgm train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        print_config="--print-config",
    )
    arguments = with_bundled_recipe(arguments)
    name = name_of_model(arguments)
    add_arguments(parser, name, typed=arguments[:1] == [name] or "--trust" in arguments)
    chosen = parser.parse_args(arguments)
    chosen.name = name  # an absent positional argument would replace the recipe's name
    given = set(parser.parse_args(arguments, defaults=False).keys())
    replace_length_of_recipe(chosen, arguments)
    return train(chosen, given) if chosen.resume is None else resume(chosen, given)


def replace_length_of_recipe(chosen: jsonargparse.Namespace, arguments: list[str]) -> None:
    """``--steps`` on the command line replaces a recipe's budget, and ``--budget`` its steps."""
    typed = {argument.partition("=")[0] for argument in arguments}
    for new, other in (("steps", "budget"), ("budget", "steps")):
        if f"--{new}" in typed and f"--{other}" not in typed and chosen[other] is not None:
            say(f"--{new} {chosen[new]} replaces --{other} {chosen[other]} of the recipe")
            chosen[other] = None


def with_bundled_recipe(arguments: list[str]) -> list[str]:
    """The arguments, in which ``--config DATASET/MODEL`` becomes the path of that recipe if there is no such file.

    Raises:
        UnknownName: If there is neither a file nor a recipe. The message has the nearest recipe.
    """
    place = next((k for k, word in enumerate(arguments[:-1]) if word == "--config"), None)
    if place is None or Path(arguments[place + 1]).exists():
        return arguments
    wanted = arguments[place + 1]
    bundled = {str(path.relative_to(RECIPES).with_suffix("")): path for path in RECIPES.glob("*/*.yaml")}
    if wanted not in bundled:
        raise UnknownName.of("recipe or file", wanted, bundled)
    return [*arguments[: place + 1], str(bundled[wanted]), *arguments[place + 2 :]]


def name_of_model(arguments: list[str]) -> str | None:
    """The name of the model, which is parsed first since the options depend on it."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0]
    early = PlainParser(prog="dgm train", add_help=False, allow_abbrev=False)
    early.add_argument("--config")
    found, _ = early.parse_known_args(arguments)
    if found.config is None:
        return None
    try:
        document = yaml.safe_load(Path(found.config).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{found.config} is not valid YAML: {in_one_line(error)}", "correct that line") from error
    if not isinstance(document, dict):
        raise BadInput(f"{found.config} holds no settings", "write lines such as 'name: vae'")
    name = document.get("name")
    if not isinstance(name, str | None):
        raise BadInput(f"{found.config} names the model {name!r}, expected a text", "write a line such as 'name: vae'")
    return name


def add_arguments(parser: jsonargparse.ArgumentParser, name: str | None, *, typed: bool) -> None:
    """Adds the options of training and of the model, whose name comes from the command line or from a file."""
    parser.add_argument("name", nargs="?", help="a model of `dgm models`, or package.module:Class")
    parser.add_argument("--config", action="config", help="a recipe: a YAML file of these options")
    parser.add_argument("--data", default="digits", help="a set of `dgm data`, a folder of images or of sound, a file")
    parser.add_argument("--size", type=int | None, default=None, help="a folder of images: side in pixels")
    parser.add_argument("--grey", action="store_true", help="a folder of images: convert to grey")
    parser.add_argument(
        "--palette",
        type=int | None,
        default=None,
        help="colour images: number of colours, with one token for each pixel",
    )
    parser.add_argument("--context", type=int | None, default=None, help="text: context length in characters (64)")
    parser.add_argument("--bytes", action="store_true", help="text: read bytes in place of characters")
    parser.add_argument(
        "--seconds", type=float | None, default=None, help="sound: length of an example in seconds (0.5)"
    )
    parser.add_argument("--rate", type=int | None, default=None, help="a folder of sound: sampling rate in Hz (8000)")
    parser.add_argument("--types", type=str | None, default=None, help=TYPES)
    parser.add_argument("--condition-columns", type=str | None, default=None, help=CONDITION_COLUMNS)
    parser.add_argument(
        "--conditional", action="store_true", help="train on the data's condition: labels, attributes, texts, images"
    )
    parser.add_argument(
        "--dequantisation",
        type=Literal["uniform", "variational"],
        default="uniform",
        help="a flow on integers, such as grey levels: the noise that makes them real numbers, learnt if variational",
    )
    parser.add_argument(
        "--on",
        type=str | None,
        default=None,
        help="a run whose codes the model is trained on: an autoencoder, a vae or a flow",
    )
    parser.add_argument("--out", type=str | None, default=None, help="the run directory to write; must not exist")
    parser.add_argument("--resume", type=str | None, default=None, help="a run directory to resume")
    own.add_trust(parser)
    from dgm.training.settings import PlayerSettings, Settings

    overrides: dict[str, Any] = {}
    if name is not None:
        from dgm.registry import class_in_file

        cls: type[Any] = own.model_class(name) if typed else class_in_file(name)
        overrides = getattr(cls, "defaults", {})
        add_settings(parser, cls.Config, "model.", {})
        for player in getattr(cls, "players", ()):
            own_ones = overrides.get("players", {}).get(player, {})
            add_settings(parser, PlayerSettings, f"players.{player}.", own_ones)
    add_settings(parser, Settings, "", overrides)


def add_settings(parser: jsonargparse.ArgumentParser, cls: type, prefix: str, overrides: dict[str, Any]) -> None:
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        default, text = overrides.get(field.name, field.default), field.metadata.get("help", "")
        if hints[field.name] is bool:  # --x, --x true or --x false
            parser.add_argument(
                option_of(prefix + field.name), type=bool, default=default, nargs="?", const=True, help=text
            )
        elif field.name == "players":  # each player has its own options
            continue
        elif field.name == "budget":
            parser.add_argument("--budget", type=str | None, default=default, help=f"{text}, such as 60s, 5m or 2h")
        else:
            parser.add_argument(option_of(prefix + field.name), type=hints[field.name], default=default, help=text)


def train(chosen: jsonargparse.Namespace, given: set[str]) -> int:
    """
    Args:
        given: The names of the options that were given.
    """
    if chosen.name is None:
        raise BadInput("no model is named", "write `dgm train vae`; `dgm models` lists them")
    if not chosen.out:
        raise BadInput("no run directory is named", f"add --out runs/{chosen.name}")
    import torch

    from dgm.data.columns import summary
    from dgm.protocols import loss_unit
    from dgm.training import fit
    from dgm.training.devices import is_first_process
    from dgm.training.guard import refuse_taken

    if is_first_process():  # before the data is read
        refuse_taken(Path(chosen.out))
    how = training_settings(chosen)
    dataset = chosen_data(chosen, given)
    config = vars(chosen.get("model", jsonargparse.Namespace())).copy()
    if chosen.conditional and dataset.condition is None:
        remedy = "leave --conditional out, or give one: see docs/conditions.md"
        raise BadInput("this data has no condition: no labels, attributes, texts or images beside its examples", remedy)
    torch.manual_seed(chosen.seed)
    model = untrained(chosen, dataset, config)
    if dataset.space.kind == "record":
        gaps = sum(part.optional for _, part in dataset.space.parts)
        say(f"{Path(chosen.data).name} has {summary(dataset.columns, gaps)}; `dgm data {chosen.data}` shows them")
    if chosen.condition_columns and not chosen.conditional:
        say(f"left out: {chosen.condition_columns}; with --conditional the other columns are generated given these")
    steps = fit(model, dataset, out=Path(chosen.out), **how)
    follow(steps, f"{registry.title(registry.describe(model))} on {dataset.name}", loss_unit(model))
    say(f"trained; look at it with: {how_to_look(chosen.out, dataset)}")
    return 0


def chosen_data(chosen: jsonargparse.Namespace, given: set[str]) -> Dataset:
    """The data set that the user names, or the data of the first stage."""
    from dgm import data

    if chosen.on is None:
        return data.load(chosen.data, **data_options(chosen))
    from dgm.runs import Run

    run, options = Run(Path(chosen.on)), data_options(chosen)
    if "data" not in given:
        if options:
            wrong = f"{option_of(next(iter(options)))} is an option of --data, and the data is that of {run.path}"
            raise BadInput(wrong, "leave it out, or name the data by --data too")
        return run.dataset()
    about = run.config["data"]
    same = about["name"] in (chosen.data, str(Path(chosen.data).expanduser().resolve()))
    return data.load(chosen.data, **((about["options"] if same else {}) | options))


def untrained(chosen: jsonargparse.Namespace, dataset: Dataset, config: dict[str, Any]) -> Model:
    """The untrained model of the data; with a first stage, the first stage and an untrained prior of its codes."""
    condition = dataset.condition if chosen.conditional else None
    if chosen.on is None:
        return registry.create(chosen.name, dataset.space, condition, dequantisation=chosen.dequantisation, **config)
    if chosen.dequantisation != "uniform":
        raise BadInput("--dequantisation is of a model of the data itself, and --on is given", "leave one of them out")
    import dgm

    own.trust(chosen, chosen.on)
    return cast("Model", dgm.two_stage(chosen.name, dgm.load(chosen.on), dataset, condition, **config))


def how_to_look(out: str | Path, dataset: Dataset) -> str:
    """The command that shows samples of a run in a format for this data."""
    if dataset.space.kind == "tokens" and not dataset.palette:
        form = "-n 1 --out -"
    elif dataset.rate:
        form = "-n 9 --out sounds.wav"
    elif len(dataset.space.shape) == 3:
        form = "-n 64 --out grid.png"
    else:
        points = dataset.space.dim == 2 and dataset.space.kind != "record"
        form = "-n 1000 --out points.png" if points else "-n 1000 --out samples.csv"
    return f"dgm sample {out} {form}"


def data_options(chosen: jsonargparse.Namespace) -> dict[str, Any]:
    """The options of the data that the user sets. A number of 0 is included, so that the loader rejects it."""
    names = ("size", "grey", "palette", "context", "bytes", "seconds", "rate", "types", "condition_columns")
    return {name: chosen[name] for name in names if chosen[name] is not None and chosen[name] is not False}


def training_settings(chosen: jsonargparse.Namespace) -> dict[str, Any]:
    from dgm.training.settings import Settings

    values = {field.name: chosen.get(field.name) for field in dataclasses.fields(Settings)}
    values["players"] = players(chosen)
    if values["budget"] is not None:
        values["budget"] = settings.seconds(str(values["budget"]))
    # raises BadInput for a setting out of range, before the data is read; the model's own defaults are not known here
    settings.build(Settings, values, what="training", defaults=dict.fromkeys(values))
    return values


def players(chosen: jsonargparse.Namespace) -> dict[str, dict[str, Any]] | None:
    """The chosen settings of each player of a game; None if no player has its own settings."""
    own_ones = chosen.get("players") or jsonargparse.Namespace()
    chosen_settings = {
        name: {k: v for k, v in vars(one).items() if v is not None} for name, one in vars(own_ones).items()
    }
    return {name: one for name, one in chosen_settings.items() if one} or None


def resume(chosen: jsonargparse.Namespace, given: set[str]) -> int:
    """Resumes a run, optionally for longer or on another device; other settings cannot change.

    Args:
        given: The names of the options that the user sets.
    """
    from dgm.protocols import loss_unit
    from dgm.runs import Run
    from dgm.training import fit

    own.trust(chosen, chosen.resume)
    run = Run(Path(chosen.resume))
    refuse_fixed_options(run, chosen, given)
    model, dataset = run.untrained(), run.dataset(chosen.data if "data" in given else None)
    done = max((int(folder.name.removeprefix("step-")) for folder in run.checkpoints()), default=0)
    changed = {name: value for name, value in training_settings(chosen).items() if name in given}
    if run.finished and not changed.keys() & {"steps", "budget"}:
        say(f"{run.path} has ended at step {done}; train it longer with: dgm train --resume {run.path} --steps STEPS")
        return 0
    refuse_shorter_training(run, done, changed)
    refuse_stopped_run(run, changed)
    previous = run.config["training"] | (
        {"steps": None, "budget": None} if changed.keys() & {"steps", "budget"} else {}
    )
    steps = fit(model, dataset, out=run.path, resume=True, **(previous | changed))
    follow(steps, f"{registry.title(run.config['model'])}, from step {done}", loss_unit(model))
    say(f"trained; look at it with: {how_to_look(run.path, dataset)}")
    return 0


def refuse_fixed_options(run: Run, chosen: jsonargparse.Namespace, given: set[str]) -> None:
    if chosen.name not in (None, name := registry.trained(run.config["model"])["name"]):
        wrong = f"{run.path} is a run of {name}, and {chosen.name} was asked for"
        raise BadInput(wrong, "leave the model's name out")
    for name in sorted(given - RESUMABLE):
        wrong = f"{option_of(name)} cannot be changed when a run is resumed, {run.path} keeps its own"
        raise BadInput(wrong, "leave it out, or start a new training with another --out and without --resume")


def refuse_shorter_training(run: Run, done: int, changed: dict[str, Any]) -> None:
    """Rejects a number of steps, or a time, that is not longer than the completed training."""
    if changed.get("steps") is not None and changed["steps"] <= done:
        raise BadInput(
            f"{run.path} is at step {done} already, got --steps {changed['steps']}", f"give more than {done}"
        )
    seconds = max((line.get("seconds", 0.0) for line in run.metrics()), default=0.0)
    if changed.get("budget") is not None and changed["budget"] <= seconds:
        wrong = f"{run.path} was trained for {seconds:.0f} s already, got --budget {changed['budget']:g}s"
        raise BadInput(wrong, "give more, the time so far counts")


def refuse_stopped_run(run: Run, changed: dict[str, Any]) -> None:
    """Rejects a run that has stopped early, since it would stop again before its next step."""
    selection = run.selection()
    if selection is not None and selection.stopped and "patience" not in changed:
        raise BadInput(f"{run.path} {selection.stopped}", "add --patience 0 to train it longer all the same")


def follow(steps: Iterable[Step], title: str, unit: str) -> None:
    """Runs the training, with a progress bar in the first process only.

    Args:
        unit: The unit of the losses, if the model states it.
    """
    with Progress(title, quiet=not torchrun.is_first()) as progress:
        for step in steps:
            if step.note and torchrun.is_first():
                print(step.note, file=sys.stderr)
            if progress.due():
                names = {"model": "loss"}  # a model without players has one loss
                losses = " ".join(f"{names.get(player, player)} {value:.4g}" for player, value in step.losses.items())
                rate = f"{step.step / max(step.seconds, 1e-9):.3g} steps/s"
                said = f"{losses} {unit}".rstrip()
                progress.update(step.progress, f"step {step.step}  {said}  {rate}")


def say(line: str) -> None:
    if torchrun.is_first():
        print(line)
