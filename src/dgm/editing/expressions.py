"""Expressions of labels and attributes, such as ``7 - 1 + 4``, and the examples that have one."""

from __future__ import annotations

import re
from typing import NamedTuple

from torch import Tensor

from dgm.condition import Names, encode, number_of, value_of
from dgm.data import Dataset
from dgm.errors import BadInput, UnknownName, Unsupported
from dgm.space import Space


class Term(NamedTuple):
    """A name, and 1 or -1, with which it is added."""

    sign: int
    name: str


def terms_of(expression: str) -> list[Term]:
    """The terms of a sum. Where a + or - has spaces around it, only such ones are signs: names may have hyphens.

    Example:
        >>> terms_of("7 - 1 + 4") == terms_of("7-1+4")
        True
        >>> terms_of("- T-shirt + x")
        [Term(sign=-1, name='T-shirt'), Term(sign=1, name='x')]

    Raises:
        BadInput: If a term is empty.
    """
    text = expression.strip()
    signs = r"(?:^|\s)([+-])(?=\s)" if re.search(r"(^|\s)[+-]\s", text) else r"([+-])"
    first, *others = (part.strip() for part in re.split(signs, text))
    pairs = [("+", first)] * bool(first or not others) + list(zip(others[::2], others[1::2], strict=True))
    if not all(name for _, name in pairs):
        raise BadInput(f"a term of '{expression}' is empty", 'write it as "7 - 1 + 4" or "x - 4 + 7"')
    return [Term(1 if sign == "+" else -1, name) for sign, name in pairs]


def rows_of(term: str, dataset: Dataset) -> Tensor:
    """The training examples with a label, an attribute (``glasses``, or ``glasses=0``) or a part of the condition
    (``shape=heart``), (K,) int64.

    Raises:
        Unsupported: If the data has no condition of named values.
        UnknownName: If it does not have the label or the attribute.
        BadInput: If no example has it.
    """
    y, condition = dataset.train.y, dataset.condition
    if y is None or condition is None or (not dataset.labels and len(condition.shape) != 1):
        wrong = f"the examples of {dataset.name} have no labels or attributes"
        raise Unsupported(wrong, "take labelled data, or an expression of x alone")
    if dataset.labels:
        found = y == number_of(term, dataset.labels)
    else:
        values, wanted = column(term, condition, dataset.names, y)
        found = values == wanted
    if not found.any():
        raise BadInput(f"no training example has '{term}'", "take another term")
    return found.nonzero()[:, 0]


def column(term: str, condition: Space, names: Names, y: Tensor) -> tuple[Tensor, float]:
    """The values (N,) of a part of the condition, and the value that the term names; 1 where it names none."""
    name, _, value = (part.strip() for part in term.partition("="))
    if condition.kind == "record":
        parts = {key: part for key, part in condition.parts if part.dim == 1}
        if name not in parts:
            raise UnknownName.of("part of the condition", name, parts)
        wanted = encode(value or "1", parts[name], names.parts.get(name, Names()))
        return condition.split(y)[name].flatten().double(), float(wanted)
    columns = list(names.columns or map(str, range(condition.dim)))
    if name not in columns:
        raise UnknownName.of("attribute", name, columns)
    return y[:, columns.index(name)].double(), float(value_of(value or "1", condition, names))
