"""The schemas of the JSON files of a run, and an error of one line for a file that does not fit its schema.

A file may have more entries than its schema. All entries of the schema are checked before the file is used.
"""

import json
import math
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NotRequired, TypedDict, Union, get_args, get_origin, get_type_hints, is_typeddict

from dgm.errors import DamagedRun

LARGEST = 1 << 28  # bytes of a file; a million numbers need a tenth of this
DEEPEST, LONGEST = 50, 100
REMEDY = "take the file from a copy, or train again"


class Real(float):
    """A number in a schema that may be NaN or infinite, which a file has if a value could not be measured."""


KINDS = {
    int: "a whole number below 2^63",
    float: "a finite number",
    Real: "a number",
    bool: "true or false",
    str: "a text",
}


class SpacePart(TypedDict):
    shape: list[int]
    kind: str
    values: NotRequired[int]
    low: NotRequired[float]
    high: NotRequired[float]
    loc: NotRequired[list[float]]
    scale: NotRequired[list[float]]
    optional: NotRequired[bool]
    parts: NotRequired[dict[str, Any]]


class ModelPart(TypedDict):
    name: str
    config: dict[str, Any]
    space: SpacePart
    condition: NotRequired[SpacePart]
    parts: NotRequired[dict[str, "ModelPart"]]


class ConditionPart(TypedDict):
    space: SpacePart
    names: dict[str, Any]
    sha256: NotRequired[str]


class ColumnPart(TypedDict):
    name: str
    type: Literal["real", "integer", "category", "boolean", "date", "time"]
    offset: NotRequired[int]
    values: NotRequired[list[str]]
    unit: NotRequired[int]


class DataPart(TypedDict):
    name: str
    options: dict[str, bool | int | float | str | None]
    sizes: NotRequired[dict[str, int]]
    split: NotRequired[str]
    condition: NotRequired[ConditionPart]
    columns: NotRequired[list[ColumnPart]]
    alphabet: NotRequired[str]
    rate: NotRequired[int]
    palette: NotRequired[str]
    sha256: NotRequired[str]


class Config(TypedDict):
    """config.json"""

    format: int
    model: ModelPart
    data: DataPart
    training: dict[str, Any]


class Line(TypedDict):
    """One line of metrics.jsonl."""

    step: int
    progress: NotRequired[float]
    seconds: NotRequired[float]
    examples: NotRequired[int]
    losses: NotRequired[dict[str, float]]
    lr: NotRequired[float]
    validation: NotRequired[float]
    unit: NotRequired[str]
    note: NotRequired[str]


class OwedPart(TypedDict):
    losses: dict[str, Real]
    lr: Real


class State(TypedDict):
    """state.json of a checkpoint."""

    step: int
    seconds: float
    players: list[str]
    numpy: NotRequired[list[Any]]
    python: NotRequired[list[Any]]
    processes: NotRequired[int]
    frozen: NotRequired[str]
    validated: NotRequired[int]
    best_loss: NotRequired[float | None]
    symptoms: NotRequired[dict[str, float | None]]
    slower: NotRequired[float]
    note: NotRequired[str]
    owed: NotRequired[OwedPart]


class LikelihoodPart(TypedDict):
    kind: str
    method: str
    split: str
    n: int
    nats: Real
    nats_se: Real
    bits_per_dim: Real
    bits_per_dim_se: Real


class IntervalPart(TypedDict):
    value: Real
    low: Real
    high: Real


class MetricPart(TypedDict):
    name: str
    features: str
    split: str
    interval: str
    n_real: int
    n_generated: int
    value: Real
    low: Real
    high: Real
    reference: IntervalPart | None


class SamplesPart(TypedDict):
    n: int
    seed: int
    per_second: Real
    threads: int
    device: str
    condition: NotRequired[Any]


class CopiesPart(TypedDict):
    share: Real
    held_out_share: Real
    authenticity: NotRequired[Real]
    held_out_authenticity: NotRequired[Real]


class MemorisationPart(CopiesPart):
    in_features: NotRequired[dict[str, CopiesPart]]
    rule: str
    nearest: NotRequired[list[int]]


class ModesPart(TypedDict):
    found: int
    of: int
    rule: str
    n: NotRequired[int]
    missed: NotRequired[list[Any]]


class DuplicatesPart(TypedDict):
    n: int
    share: Real
    held_out_share: Real


class AgreementPart(TypedDict):
    share: Real
    held_out_share: Real
    rule: str


class MeasuredColumnPart(TypedDict):
    column: str
    measure: str
    value: Real
    reference: dict[str, Real] | None


class TargetPart(TypedDict):
    column: str
    score: str
    n: int


class TablePart(TypedDict):
    n: int
    n_real: int
    measures: dict[str, dict[str, Any]]
    columns: list[MeasuredColumnPart]
    target: TargetPart
    rule: str


class CodebookPart(TypedDict):
    entries: int
    used: int
    perplexity: Real
    codes: int
    split: str


class CodesPart(TypedDict):
    kl: list[Real]
    active_units: int
    of: int
    mutual_information: Real | None
    n: int
    rule: str


class RepresentationPart(TypedDict):
    probe: dict[str, Real]
    most_frequent: dict[str, Real]
    n: int
    rule: str
    ari: NotRequired[Real]
    nmi: NotRequired[Real]
    mig: NotRequired[Real]
    sap: NotRequired[Real]
    disentanglement: NotRequired[Real]
    completeness: NotRequired[Real]
    informativeness: NotRequired[Real]
    factor_vae: NotRequired[Real]


class BracketPart(TypedDict):
    n: int
    lower: Real
    upper: Real
    gap: Real
    gap_se: Real
    rule: str


class SkippedPart(TypedDict):
    what: str
    reason: str


class ProvenancePart(TypedDict):
    machine: str
    torch: str
    time: str


class Evaluation(TypedDict):
    """evaluation.json"""

    format: int
    likelihood: list[LikelihoodPart]
    metrics: list[MetricPart]
    reference: NotRequired[dict[str, Any] | None]
    skipped: NotRequired[list[SkippedPart]]
    samples: NotRequired[SamplesPart]
    memorisation: NotRequired[MemorisationPart | None]
    modes: NotRequired[ModesPart | None]
    duplicates: NotRequired[DuplicatesPart | None]
    agreement: NotRequired[AgreementPart | None]
    codebook: NotRequired[CodebookPart]
    table: NotRequired[TablePart]
    codes: NotRequired[CodesPart]
    representation: NotRequired[RepresentationPart]
    bracket: NotRequired[BracketPart]
    features: NotRequired[dict[str, dict[str, Any]]]
    interrupted: NotRequired[bool]
    provenance: ProvenancePart


class Comparison(TypedDict):
    """comparison.json"""

    data: DataPart
    budget: float
    samples: int
    target: NotRequired[str]
    conditional: NotRequired[bool]
    condition: NotRequired[Any]


def read(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DamagedRun: If the file is missing, is not JSON, or is far larger than any file that dgm writes.
    """
    try:
        if (held := path.stat().st_size) > LARGEST:
            raise DamagedRun(f"{path} has {held:,} bytes, expected at most {LARGEST:,}", REMEDY)
        text = path.read_text(encoding="utf-8")
        document = json.loads(text)
        if r"\ud" in text.lower():  # half of a surrogate pair is no character
            json.dumps(document, ensure_ascii=False).encode("utf-8")
        if is_deeper(document, DEEPEST):
            raise DamagedRun(f"{path} has more than {DEEPEST} objects and lists inside one another", REMEDY)
        return document
    except FileNotFoundError as error:
        raise DamagedRun(f"{path} is missing", "name a run directory as `dgm train` writes it") from error
    except OSError as error:
        raise DamagedRun(f"{path} cannot be read: {error.strerror}", "correct its permissions") from error
    except (ValueError, RecursionError) as error:
        raise DamagedRun(f"{path} is not valid JSON: {error}", REMEDY) from error


def is_deeper(value: Any, than: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return than == 0 or any(is_deeper(part, than - 1) for part in inner if isinstance(part, (dict, list)))


def read_object(path: Path) -> dict[str, Any]:
    """The content of a JSON file, which must be an object."""
    document: dict[str, Any] = checked(read(path), dict[str, Any], path)
    return document


def checked(document: Any, schema: Any, where: Path | str) -> Any:
    """Checks that ``document`` fits the schema and returns it.

    Raises:
        DamagedRun: For the first entry that does not fit, with the expected type and the value.
    """
    if not isinstance(document, dict):
        raise DamagedRun(f"{where} holds no JSON object", REMEDY)
    wrong = misfit(document, schema, "")
    if wrong:
        raise DamagedRun(f"{where}: {wrong}", REMEDY)
    return document


def misfit(value: Any, schema: Any, place: str) -> str:
    """A description of the first error in a value and its place; empty if the value fits the schema.

    Example:
        >>> misfit({"a": [1, "x"]}, dict[str, list[int]], "")
        'a.1 must be a whole number below 2^63, got "x"'
    """
    origin, arguments = get_origin(schema), get_args(schema)
    if is_typeddict(schema):
        return misfit_object(value, schema, place)
    if origin is list and isinstance(value, list):
        parts = ((f"{k}", part, arguments[0]) for k, part in enumerate(value))
    elif origin is dict and isinstance(value, dict):
        if long := next((name for name in value if len(name) > LONGEST), None):
            return f"{place or 'it'} has a name of {len(long)} characters, expected at most {LONGEST}"
        parts = ((name, part, arguments[1]) for name, part in value.items())
    elif fits(value, schema):
        return ""
    else:
        return f"{place or 'it'} must be {in_words(schema)}, got {short(value)}"
    return next((wrong for name, part, kind in parts if (wrong := misfit(part, kind, below(place, name)))), "")


def misfit_object(value: Any, schema: Any, place: str) -> str:
    if not isinstance(value, dict):
        return f"{place or 'it'} must be an object, got {short(value)}"
    missing = next((name for name in schema.__annotations__ if name in schema.__required_keys__ - value.keys()), None)
    if missing is not None:
        return f"{below(place, missing)} is missing"
    hints = get_type_hints(schema)
    return next(
        (wrong for name in hints if name in value and (wrong := misfit(value[name], hints[name], below(place, name)))),
        "",
    )


def fits(value: Any, schema: Any) -> bool:
    """Whether a plain value has a plain type; an integer is accepted as a real number."""
    if get_origin(schema) in (Union, UnionType):
        return any(not misfit(value, kind, "") for kind in get_args(schema))
    if get_origin(schema) is Literal:
        return value in get_args(schema)
    if schema is Real:
        return type(value) is float or fits(value, int)
    if schema is float and type(value) in (int, float):
        return abs(value) < 2**63 if type(value) is int else math.isfinite(value)
    if schema is int and type(value) is int:
        return abs(value) < 2**63
    return schema is Any or type(value) is schema


def in_words(schema: Any) -> str:
    if get_origin(schema) in (Union, UnionType):
        return " or ".join(in_words(kind) for kind in get_args(schema))
    if schema is NoneType:
        return "null"
    return KINDS.get(schema) or ("a list" if get_origin(schema) is list else "an object")


def below(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def short(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=True)
    except (ValueError, RecursionError):  # a number with thousands of digits
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:57]}…"
