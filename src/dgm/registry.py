"""Models by name: their classes, which are imported when they are used, their creation and their descriptions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from dgm import settings
from dgm.errors import BadInput, UnknownName
from dgm.inputs import of_type
from dgm.models.composites import COMPOSITES
from dgm.models.spec import class_at
from dgm.models.table import MODELS, entry_point_models
from dgm.space import Space

if TYPE_CHECKING:
    from dgm.protocols import Model


# the default models of `dgm compare`
ONE_OF_EACH_FAMILY = (
    "gmm",
    "made",
    "autoencoder",
    "vae",
    "realnvp",
    "gan",
    "ebm",
    "ncsn",
    "ddpm",
    "flow_matching",
    "masked_diffusion",
)


KNOTS = 21  # of the normal scores of a table's numbers, for models of real numbers

# every package.module:Class that the user has named in this process; files may name these classes too
_named: set[str] = set()


def model_class(name: str) -> type[Model]:
    """The class of a model that the user names: a name of `dgm models`, of an entry point, or ``package.module:Class``.

    A ``package.module:Class`` is imported, so ``name`` must not come from a file; use `class_in_file` for files.

    Raises:
        UnknownName: If there is no such model. The message has the nearest name.
        BadInput: If the class cannot be imported. The message has the reason.
    """
    if name in MODELS:
        return MODELS[name].load()
    if name in entry_point_models():
        return class_at(entry_point_models()[name])
    if ":" in name:
        cls = class_at(name)
        _named.add(name)
        return cls
    raise UnknownName.of("model", name, [*MODELS, *entry_point_models()])


def class_in_file(name: str, own: Sequence[type[Model]] = ()) -> type[Model]:
    """The class of a model that a file names: a name of `dgm models`, or a class that the user has named before.

    Args:
        own: Classes of the user. Each is found by its own name; a single class is used for any ``package.module:Class``
            that the file names.

    Raises:
        UnknownName: If there is no such model. The message has the nearest name.
        BadInput: For any other ``package.module:Class``, since a file must not choose code.
    """
    given = [cls for cls in own if model_name(cls) == name] or (list(own) if is_own(name) and len(own) == 1 else [])
    if given:
        return given[0]
    if name in COMPOSITES:
        return class_at(COMPOSITES[name].target)
    if is_own(name) and name not in _named:
        wrong = f"the file names the model '{name}', which is code that dgm does not come with"
        raise BadInput(
            wrong, "if you trust that code: --trust on the command line, dgm.load(path, model=Class) in Python"
        )
    return model_class(name)


def is_own(name: str) -> bool:
    """Whether the name is a ``package.module:Class`` and not a name of `dgm models`."""
    return ":" in name and name not in MODELS and name not in entry_point_models()


def model_name(cls: type[Model]) -> str:
    """The name by which `class_in_file` finds ``cls``."""
    target = f"{cls.__module__}:{cls.__qualname__}"
    targets = {name: spec.target for name, spec in MODELS.items()} | dict(entry_point_models())
    targets |= {name: composite.target for name, composite in COMPOSITES.items()}
    return next((name for name, known in targets.items() if known == target), target)


def create(
    name: str, space: Space, condition: Space | None = None, *, dequantisation: str = "uniform", **config: Any
) -> Model:
    """Creates an untrained model of ``space``: p(x), or p(x|y) for every y of the space ``condition``.

    A model of continuous x is dequantised if the space has ordered discrete values or is a record: it is trained on x
    with noise inside the cell of x, see `dgm.distributions.cells`, and its likelihood becomes a lower bound on
    log P(x).

    Args:
        name: The name of the model, as in `model_class`.
        condition: The space of y, such as ``Space.categories(10)`` for one of ten labels; None for an unconditional
            model.
        dequantisation: The noise of integers, ``uniform`` or, for a flow, ``variational``: drawn from a second flow
            that is trained with the model, see `dgm.distributions.variational_dequantisation`.
        config: The model's own settings; other settings keep their defaults.

    Raises:
        UnknownName: If a model or a setting does not exist.
        BadInput: If a setting is out of range, the model does not take the space or the condition, or the weights need
            more memory than there is.

    Example:
        >>> create("realnvp", Space.continuous((2,)), layers=2).config.layers
        2
    """
    of_type("a model's name", name, str, "give it first, then the space; `dgm models` lists the names")
    of_type("the space", space, Space, "give dgm.Space.levels((1, 8, 8), 17) or the like, or a data set's own .space")
    if condition is not None:
        of_type("the condition", condition, Space, "give the space of y, such as dgm.Space.categories(10)")
    return _made(model_class(name), name, space, condition, config, dequantisation)


def _made(
    cls: type[Any],
    name: str,
    space: Space,
    condition: Space | None,
    config: Mapping[str, Any],
    noise: str = "uniform",
) -> Model:
    refuse_condition(cls, name, condition)
    built = settings.build(cls.Config, config, what=name)
    kinds = getattr(cls, "spaces", {space.kind} - {"record"})
    from dgm.memory import bounded

    def made(of: Space) -> Any:
        model: Any = bounded(lambda: cls(of, built) if condition is None else cls(of, built, condition), name)
        model.condition = condition
        return model

    if space.optional:
        raise BadInput(f"an example cannot be missing as a whole, got {space}", "make it a part of a Space.record")
    if not space.shape:
        raise BadInput(f"{name} takes examples of at least one dimension, got a {space}", "give it the shape (1,)")
    if space.kind in kinds and noise == "uniform":
        return made(space)
    if space.kind in ("binary", "levels", "record") and "continuous" in kinds:
        from dgm.distributions.dequantisation import Dequantised, box

        knots = KNOTS if space.kind == "record" else 0
        how = settings.build(Dequantised.Config, {"noise": noise, "knots": knots}, what="dequantisation")
        return cast("Model", Dequantised(space, how, condition, model=made(box(space))))
    if noise != "uniform":
        raise BadInput(f"{name} does not dequantise a {space.kind} space", "leave --dequantisation out")
    taken = " or ".join(sorted(kinds))
    raise BadInput(f"{name} takes {taken} data, got a {space.kind} space", "choose another; `dgm models` lists them")


def refuse_condition(cls: type[Model], name: str, condition: Space | None) -> None:
    """Refuses a condition of a kind that the model does not take."""
    kinds = getattr(cls, "conditions", ())
    if condition is not None and not kinds:
        raise BadInput(f"{name} takes no condition, got {condition}", "leave it out; `dgm models` lists the others")
    if condition is not None and condition.kind not in kinds:
        taken = " or ".join(sorted(kinds))
        raise BadInput(
            f"{name} takes {taken} as its condition, got a {condition.kind} space",
            "choose another; `dgm models` lists them",
        )


def describe(model: Model) -> dict[str, Any]:
    """The description of the model, plain values for JSON, from which `from_description` creates it untrained."""
    from dgm.protocols import parts_of

    config = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in dataclasses.asdict(model.config).items()
    }
    described = {"name": model_name(type(model)), "config": config, "space": model.space.to_json()}
    condition: Space | None = getattr(model, "condition", None)
    if condition is not None:
        described["condition"] = condition.to_json()
    if parts := parts_of(model):
        described["parts"] = {name: describe(part) for name, part in parts.items()}
    return described


def from_description(description: Mapping[str, Any], *own: type[Model]) -> Model:
    """Creates the untrained model of a description by `describe`.

    Args:
        own: Classes that the description may name besides those of `dgm models`; see `class_in_file`.
    """
    name, space = description["name"], Space.from_json(description["space"])
    cls: type[Any] = class_in_file(name, own)
    config = description["config"]
    condition = Space.from_json(description["condition"]) if "condition" in description else None
    if "parts" not in description:
        return _made(cls, name, space, condition, config)
    parts = {part: from_description(described, *own) for part, described in description["parts"].items()}
    return cls(space, settings.build(cls.Config, config, what=name), condition, **parts)


def names_in(description: Mapping[str, Any]) -> Iterator[str]:
    """The names of the described model and of all its parts."""
    yield description["name"]
    for part in description.get("parts", {}).values():
        yield from names_in(part)


def title(description: Mapping[str, Any]) -> str:
    """The name of the described model in a table; the title of a composite has the names of its parts."""
    if (name := description["name"]) not in COMPOSITES:
        return str(name)
    return COMPOSITES[name].title.format_map({part: title(d) for part, d in description.get("parts", {}).items()})


def family(description: Mapping[str, Any]) -> str:
    """The name of the described model's family in a table."""
    if (name := description["name"]) in COMPOSITES:
        return COMPOSITES[name].family or family(trained(description))
    return MODELS[name].family.replace("_", " ") if name in MODELS else "own model"


def trained(description: Mapping[str, Any]) -> Mapping[str, Any]:
    """The description of the trained part of a composite; the description itself for any other model."""
    if (name := description["name"]) not in COMPOSITES:
        return description
    return trained(description["parts"][COMPOSITES[name].trained])
