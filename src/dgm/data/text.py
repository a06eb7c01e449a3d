"""Text as sequences of characters or bytes: the user's own .txt files and named sets."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from dgm.data.dataset import Dataset, Split
from dgm.errors import BadInput, Unsupported
from dgm.memory import refuse_too_large
from dgm.space import Space

CONTEXT = 64


def load(path: Path, *, context: int = CONTEXT, bytes: bool = False) -> Dataset:
    """Windows of ``context`` characters, or bytes, of one text.

    The first 90 % of the text are the training split, the next 5 % the validation split, the last 5 % the test split. A
    training window starts at any character, so each character occurs ``context`` times in an epoch; the held-out
    windows do not overlap. The alphabet is that of the whole text. All windows are views of one tensor.

    Raises:
        BadInput: If the text is too short, or is not UTF-8 and ``bytes`` is False.
    """
    if context < 2:
        raise BadInput(f"--context must be at least 2, got {context}", "give the characters of a window")
    needed = path.stat().st_size * (2 if bytes else 24)  # the characters are sorted for their alphabet
    refuse_too_large(f"{path}, read as {'bytes' if bytes else 'characters'},", needed, "give a part of it")
    raw = path.read_bytes()
    if bytes:
        alphabet, codes = "", numpy.frombuffer(raw, numpy.uint8).copy()
    else:
        alphabet, codes = characters(raw, path)
    text = torch.from_numpy(codes)
    if len(text) < 40 * context:
        wrong = f"{path} has {len(text)} characters, expected at least {40 * context}, 40 windows"
        raise BadInput(wrong, "give a longer text or a shorter --context")
    ends = [0, int(0.9 * len(text)), int(0.95 * len(text)), len(text)]
    train, validation, test = (text[a:b] for a, b in pairwise(ends))
    return Dataset(
        name=str(path),
        space=Space.tokens(context, 256 if bytes else max(2, len(alphabet))),
        train=Split(train.unfold(0, context, 1)),
        validation=Split(validation.unfold(0, context, context)),
        test=Split(test.unfold(0, context, context)),
        split="contiguous, 90 / 5 / 5 %; training windows start anywhere, held-out ones do not overlap",
        alphabet=alphabet,
    )


def tinyshakespeare(folder: Path, *, context: int = CONTEXT, bytes: bool = False) -> Dataset:
    return load(folder / "tinyshakespeare.txt", context=context, bytes=bytes)


def characters(raw: bytes, path: Path) -> tuple[str, numpy.ndarray]:
    """The sorted alphabet, and the token of each character: uint8 if the alphabet is small enough, else int32."""
    try:
        points = numpy.frombuffer(raw.decode("utf-8").encode("utf-32-le"), numpy.uint32)
    except UnicodeDecodeError as error:
        wrong = f"{path} is not UTF-8 text: {error.reason} at byte {error.start}"
        raise BadInput(wrong, "save it as UTF-8, or read it with --bytes") from error
    letters, places = numpy.unique(points, return_inverse=True)
    return "".join(map(chr, letters)), places.astype(numpy.uint8 if len(letters) <= 256 else numpy.int32)


def is_text(about: Mapping[str, Any]) -> bool:
    """Whether the data that a run's config.json describes is text."""
    return bool(about.get("alphabet") or about["options"].get("bytes"))


def encode(text: str, about: Mapping[str, Any]) -> Tensor:
    """The tokens of a prompt, (L,) int64, in the alphabet of a run's training data.

    Args:
        about: The description of the data in the run's config.json.

    Raises:
        Unsupported: If the data of the run is not text.
        BadInput: If a character is not in the alphabet.
    """
    if about["options"].get("bytes"):  # bytes that are not UTF-8 come from the shell or a file as lone surrogates
        return torch.tensor(list(text.encode(errors="surrogateescape")), dtype=torch.int64)
    alphabet = about.get("alphabet")
    if not alphabet:
        raise Unsupported("this run's data was no text", "give --prompt to a model of text")
    unknown = next((letter for letter in text if letter not in alphabet), None)
    if unknown is not None:
        raise BadInput(f"this run's text never had the character {unknown!r}", "leave it out")
    return torch.tensor([alphabet.index(letter) for letter in text], dtype=torch.int64)


def decode(tokens: Tensor, about: Mapping[str, Any]) -> str:
    """The text of (L,) tokens. Bytes that are not UTF-8 become replacement characters."""
    if about["options"].get("bytes"):
        return bytes(tokens.tolist()).decode(errors="replace")
    alphabet = about.get("alphabet")
    if not alphabet:
        raise Unsupported("this run's data was no text", "write the samples as .npz")
    return "".join(alphabet[token] for token in tokens.tolist())
