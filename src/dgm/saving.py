"""A run directory of a model that was trained in one's own loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dgm import __version__, registry, runs
from dgm.condition import Names
from dgm.data import Dataset
from dgm.errors import BadInput
from dgm.files import replacing
from dgm.inputs import model_given, of_type, place
from dgm.networks.conditions import fit_marginals
from dgm.protocols import Model, condition_of
from dgm.space import listed


def save(
    model: Model,
    path: str | Path,
    data: Dataset | None = None,
    *,
    names: Names | Sequence[str] | None = None,
    training: dict[str, Any] | None = None,
) -> Path:
    """Writes a run directory, which `load`, `dgm sample`, `dgm evaluate` and `dgm check` read. It is there whole or not
    at all.

    Args:
        path: Where; nothing may be there.
        data: What the model was trained on. Its description is kept, so that `dgm evaluate` finds it again, and samples
            are written as its text, sound, colours or columns; a conditional model draws its conditions as often as the
            training split has them. Without it `dgm evaluate` asks for --data.
        names: Of the condition's values, such as those of the labels; by default the data's, or the model's own.
        training: Plain values about how it was trained, for whoever reads config.json.

    Returns:
        The path.

    Raises:
        BadInput: For data of another space, names that do not fit, weights that are not finite, or a path that exists
            or cannot be written.

    Example:
        >>> import dgm, tempfile
        >>> made = dgm.create("made", dgm.Space.binary((4,)))
        >>> where = dgm.save(made, tempfile.mkdtemp() + "/made")
        >>> dgm.load(where).space == made.space
        True
    """
    model_given(model)
    out = place("the path", path)
    if out.exists():
        raise BadInput(f"{out} exists", "choose another path, or remove it first")
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise BadInput(f"the weights '{name}' are not finite", "train again with a lower rate")
    about = _described(model, data, names)
    config = {"format": runs.FORMAT, "dgm": __version__, "model": registry.describe(model)}
    config |= {"data": about, "training": training or {}}
    with replacing(out) as folder:
        folder.mkdir(parents=True)
        runs.write_json(config, folder / "config.json")
        runs.write_weights(model.state_dict(), folder / "weights.safetensors")
        runs.write_manifest(folder, runs.WEIGHTS)
        runs.Run(folder)  # whatever does not fit is said before anything is there
    return out


def _described(model: Model, data: Dataset | None, names: Names | Sequence[str] | None) -> dict[str, Any]:
    """What config.json says of the data."""
    given = names if isinstance(names, Names | None) else Names(labels=tuple(map(str, listed("names", names))))
    about: dict[str, Any] = {"name": runs.UNSTATED, "options": {}}
    if data is not None:
        of_type("the data", data, Dataset, "load it by dgm.data.load, which takes arrays and tables too")
        if data.space != model.space:
            raise BadInput(f"the model is of {model.space}, the data of {data.space}", "give the data of the model")
        if condition_of(model) is not None:
            fit_marginals(model, data.train.y)
        about = data.describe()
    condition = condition_of(model)
    if condition is None:
        if given is not None:
            raise BadInput("names are of a condition's values, and this model has no condition", "leave them out")
        return about
    known = given or (data.names if data is not None else getattr(model, "names", None)) or Names()
    if not known.fit(condition):
        raise BadInput(f"the names are not those of a condition of {condition}", "give one a value or dimension")
    described = about.get("condition", {"space": condition.to_json()})
    return about | {"condition": described | {"names": known.to_json()}}
