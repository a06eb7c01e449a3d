"""Data that is in memory already: an array, a tensor or nested lists, or a table of pandas, polars or pyarrow."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy

from dgm.data import arrays
from dgm.data.columns import requested_types
from dgm.data.dataset import Dataset
from dgm.errors import BadInput
from dgm.inputs import brief, tensor

ARRAY, TABLE = "array in memory", "table in memory"  # the names of such data; no run can load it again


def load(data: Any, *, y: Any = None, seed: int = 0, types: str = "", condition_columns: str = "") -> Dataset:
    """Loads data from memory as `dgm.data.arrays` and `dgm.data.tables` load it from a file.

    Args:
        y: The conditions of an array's examples, (N, ...): (N,) labels, integers or texts; or numbers of any shape.
        types: The types of a table's columns, as `dgm.data.columns.requested_types` reads them.
        condition_columns: The columns of a table that are the condition of the other columns, separated by commas.
    """
    if hasattr(data, "column_names") or hasattr(data, "columns"):
        if y is not None:
            raise BadInput("y of a table is not read", "name its columns by condition_columns")
        from dgm.data import tables  # it imports pyarrow

        condition_names = tables.names_in(condition_columns)
        dataset = tables.arranged(Path(TABLE), tables.in_memory(data), seed, requested_types(types), condition_names)
        options = {"types": types, "condition_columns": condition_columns}
        settings = {name: text for name, text in options.items() if text}
        return replace(dataset, name=TABLE, options={"seed": seed, **settings})
    if types or condition_columns:
        raise BadInput("types and condition_columns are of a table, and the data is an array", "leave them out")
    held = {"x": tensor("the data", data).numpy(force=True)}
    if y is not None:
        held["condition"] = conditions(y)
    stamp = hashlib.sha256(numpy.ascontiguousarray(held["x"]).data).hexdigest()[:16]
    dataset = arrays.arranged(Path(ARRAY), held, seed, f"memory-{stamp}-{seed}")
    return replace(dataset, name=ARRAY, options={"seed": seed})


def conditions(y: Any) -> numpy.ndarray:
    try:
        found = numpy.asarray(y if not hasattr(y, "cpu") else y.numpy(force=True))
        are_texts = found.dtype.kind == "O" and all(isinstance(one, str) for one in found.flat)
        return found.astype(str) if are_texts else found
    except (ValueError, TypeError) as error:
        raise BadInput(
            f"y must be a list or an array of numbers or of texts, got {brief(y)}", "convert them"
        ) from error
