"""Train a model on data, or go on where a training stopped.

dgm train vae --data digits --out runs/vae
dgm train vae --data digits --out runs/vae --model.latent 32 --budget 60s
dgm train vae --print_config > recipe.yaml
dgm train --config recipe.yaml --out runs/recipe
dgm train --config binarized_mnist/made --out runs/made   a recipe that comes with dgm
dgm train --resume runs/vae
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_type_hints

import jsonargparse
import yaml

from dgm import settings
from dgm.cli import own
from dgm.cli.terminal import Progress
from dgm.errors import BadInput, UnknownName

if TYPE_CHECKING:
    from dgm.training import Step

RECIPES = Path(__file__).parents[1] / "recipes"


class Parser(jsonargparse.ArgumentParser):
    """Raises where jsonargparse would print its usage and leave."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        text = " ".join(str(message).split())
        if unknown := re.match(r"unrecognized arguments: (\S+)|Option '(\S+)' is not accepted", text):
            raise UnknownName.of(
                "option of dgm train", (unknown[1] or f"--{unknown[2]}").split("=")[0], options_of(self)
            )
        wrong = text.replace('Parser key "', "--").replace('":', ":").replace("<class '", "").replace("'>", "")
        raise BadInput(wrong, "see `dgm train --help`") from ex


def options_of(parser: argparse.ArgumentParser) -> list[str]:
    return [option for action in parser._actions for option in action.option_strings if option.startswith("--")]


def main(arguments: list[str]) -> int:
    parser = Parser(prog="dgm train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments = with_bundled_recipe(arguments)
    name = name_of_model(arguments)
    add_arguments(parser, name, typed=arguments[:1] == [name] or "--trust" in arguments)
    chosen = parser.parse_args(arguments)
    chosen.name = name  # an absent positional would hide the recipe's
    return resume(chosen) if chosen.resume else train(chosen)


def with_bundled_recipe(arguments: list[str]) -> list[str]:
    """The arguments, with ``--config DATASET/MODEL`` as the path of that recipe where there is no such file.

    Raises:
        UnknownName: For neither a file nor a recipe, with the nearest recipe.
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
    """The model's name decides which options there are, so it is looked for first."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0]
    early = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    early.add_argument("--config")
    found, _ = early.parse_known_args(arguments)
    if found.config is None:
        return None
    try:
        document = yaml.safe_load(Path(found.config).read_text())
    except yaml.YAMLError as error:
        raise BadInput(f"{found.config} is no YAML: {' '.join(str(error).split())}", "mend that line") from error
    if not isinstance(document, dict):
        raise BadInput(f"{found.config} holds no settings", "write lines such as 'name: vae'")
    name = document.get("name")
    if not isinstance(name, str | None):
        raise BadInput(f"{found.config} names the model {name!r}, expected a text", "write a line such as 'name: vae'")
    return name


def add_arguments(parser: jsonargparse.ArgumentParser, name: str | None, *, typed: bool) -> None:
    """The options of training and those of the model, whose name was typed or stands in a file."""
    parser.add_argument("name", nargs="?", help="a model of `dgm models`, or package.module:Class")
    parser.add_argument("--config", action="config", help="a recipe: a YAML file of these options")
    parser.add_argument("--data", default="digits", help="a set of `dgm data`, a folder of images or of sound, a file")
    parser.add_argument("--size", type=int | None, default=None, help="a folder of images: side in pixels")
    parser.add_argument("--grey", action="store_true", help="a folder of images: drop the colours")
    parser.add_argument(
        "--palette", type=int | None, default=None, help="colour images: a token a pixel, of so many colours"
    )
    parser.add_argument("--context", type=int | None, default=None, help="text: characters of a window (64)")
    parser.add_argument("--bytes", action="store_true", help="text: read bytes in place of characters")
    parser.add_argument("--seconds", type=float | None, default=None, help="sound: length of a piece (0.5)")
    parser.add_argument("--rate", type=int | None, default=None, help="a folder of sound: samples a second (8000)")
    parser.add_argument("--conditional", action="store_true", help="train on the labels, to sample by label")
    parser.add_argument("--out", type=str | None, default=None, help="the run directory to write; must not exist")
    parser.add_argument("--resume", type=str | None, default=None, help="a run directory to go on with")
    own.add_trust(parser)
    from dgm.training.settings import Settings

    overrides: dict[str, Any] = {}
    if name is not None:
        from dgm.registry import class_in_file

        cls = own.model_class(name) if typed else class_in_file(name)
        overrides = getattr(cls, "defaults", {})
        add_settings(parser, cls.Config, "model.", {})
    add_settings(parser, Settings, "", overrides)


def add_settings(parser: jsonargparse.ArgumentParser, cls: type, prefix: str, overrides: dict[str, Any]) -> None:
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        default, text = overrides.get(field.name, field.default), field.metadata.get("help", "")
        if hints[field.name] is bool and default is False:
            parser.add_argument(f"--{prefix}{field.name}", action="store_true", help=text)
        elif field.name == "budget":
            parser.add_argument("--budget", type=str | None, default=default, help=f"{text}, such as 60s, 5m or 2h")
        else:
            parser.add_argument(f"--{prefix}{field.name}", type=hints[field.name], default=default, help=text)


def train(chosen: jsonargparse.Namespace) -> int:
    if chosen.name is None:
        raise BadInput("no model is named", "write `dgm train vae`; `dgm models` lists them")
    if chosen.out is None:
        raise BadInput("no run directory is named", f"add --out runs/{chosen.name}")
    import torch

    from dgm import data
    from dgm.registry import create
    from dgm.training import fit

    dataset = data.load(chosen.data, **data_options(chosen))
    config = vars(chosen.get("model", jsonargparse.Namespace())).copy()
    if chosen.conditional:
        config["classes"] = classes(chosen.name, config, dataset.labels)
    torch.manual_seed(chosen.seed)
    model = create(chosen.name, dataset.space, **config)
    steps = fit(model, dataset, out=Path(chosen.out), **training_settings(chosen))
    follow(steps, f"{chosen.name} on {dataset.name}")
    say(f"trained; look at it with: dgm sample {chosen.out} -n 64 --out grid.png")
    return 0


def classes(name: str, config: dict[str, Any], labels: tuple[str, ...]) -> int:
    if "classes" not in config:
        raise BadInput(f"{name} cannot be trained on labels", "leave --conditional out")
    if not labels:
        raise BadInput("this data has no labels", "leave --conditional out, or put the images in a folder per label")
    return len(labels)


def data_options(chosen: jsonargparse.Namespace) -> dict[str, Any]:
    return {
        name: value
        for name in ("size", "grey", "palette", "context", "bytes", "seconds", "rate")
        if (value := chosen.get(name))
    }


def training_settings(chosen: jsonargparse.Namespace) -> dict[str, Any]:
    from dgm.training.settings import Settings

    values = {field.name: chosen[field.name] for field in dataclasses.fields(Settings)}
    if values["budget"] is not None:
        values["budget"] = settings.seconds(str(values["budget"]))
    return values


def resume(chosen: jsonargparse.Namespace) -> int:
    from dgm.registry import from_description
    from dgm.runs import Run
    from dgm.training import fit

    own.trust(chosen, chosen.resume)
    run = Run(Path(chosen.resume))
    kept = run.config["training"]
    if chosen.steps is not None or chosen.budget is not None:
        kept = kept | {name: training_settings(chosen)[name] for name in ("steps", "budget")}
    model = from_description(run.config["model"])
    follow(fit(model, run.dataset(), out=run.path, resume=True, **kept), f"{run.config['model']['name']}, resumed")
    return 0


def follow(steps: Iterable[Step], title: str) -> None:
    """Runs the training, with a progress bar in the first process and silence in the others."""
    with Progress(title, quiet=not first_process()) as progress:
        for step in steps:
            if progress.due():
                losses = " ".join(f"{player} {value:.4g}" for player, value in step.losses.items())
                rate = f"{step.step / max(step.seconds, 1e-9):.3g} steps/s"
                progress.update(step.progress, f"step {step.step}  {losses}  {rate}")


def first_process() -> bool:
    return int(os.environ.get("LOCAL_RANK", os.environ.get("RANK", "0"))) == 0


def say(line: str) -> None:
    if first_process():
        print(line)
