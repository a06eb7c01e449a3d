"""A run directory of a model that was trained in one's own loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dgm import __version__, files, registry, runs, tensor_files
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
    """Writes a run directory for `load`, `dgm sample`, `dgm evaluate` and `dgm check`. Either all files are written or
    none.

    Args:
        path: The path of the run directory, which must not exist.
        data: The training data. Its description is stored, so that `dgm evaluate` finds the data, samples are written
            in its format (text, sound, colours or columns), and a conditional model draws conditions with their
            frequencies in the training split. Without it, `dgm evaluate` needs --data.
        names: Names of the condition's values, such as the labels; by default those of the data or of the model.
        training: Simple values that describe the training, for readers of config.json.

    Returns:
        The path.

    Raises:
        BadInput: If the data has another space, the names do not fit, a weight is not finite, or the path exists or
            cannot be written.

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
        files.write_json(config, folder / "config.json")
        tensor_files.write_weights(model.state_dict(), folder / "weights.safetensors")
        tensor_files.write_manifest(folder, tensor_files.WEIGHTS)
        runs.Run(folder)  # raises the errors of the description before the run is complete
    return out


def _described(model: Model, data: Dataset | None, names: Names | Sequence[str] | None) -> dict[str, Any]:
    """The description of the data in config.json."""
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
