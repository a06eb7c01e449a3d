"""`compress` and `decompress`: files to one container by a model, and back."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypedDict

import numpy
import torch
from torch import Tensor

from dgm import documents, memory
from dgm.compression.codecs import Codec, codec_of
from dgm.compression.container import Block, Reader, Writer
from dgm.compression.content import Interface
from dgm.compression.forms import FORMS, form_of
from dgm.compression.reals import DIGIT, Grid
from dgm.compression.rows import grids_of
from dgm.compression.sounds import CompandedCodec, lengths_of, levels_and_bits
from dgm.compression.stack import Stack
from dgm.errors import BadInput, DamagedRun, in_one_line
from dgm.files import replacing
from dgm.likelihood import log_likelihood
from dgm.modes import evaluating
from dgm.progress import Progress, silent
from dgm.protocols import Batch, Conditions, Model
from dgm.registry import describe
from dgm.space import Space
from dgm.tensor_files import sha256

NUMBERS = 1 << 24  # frequencies of one block in memory
MANY, VALUES = 256, 1 << 16  # examples of a block at most, or more of few dimensions, up to so many values
OF_REALS = 4 * DIGIT  # frequencies of a real number, and the numbers that they are computed from
CLAIMED = 1000  # blocks that a header may claim for each that is there


class FilePart(TypedDict):
    name: str
    form: str
    about: dict[str, Any]
    examples: int
    sha256: str


class Header(TypedDict):
    """The header of a container."""

    model: str
    files: list[FilePart]
    block: int
    condition: list[float] | None


@dataclass(frozen=True)
class Rate:
    """The audit of a likelihood by the length of the code.

    Attributes:
        bits: Coded bits of all blocks.
        claimed: -log2 p(x) of all examples by `dgm.log_likelihood`, or of the bound.
        kind: The kind of that likelihood.
        size: Bytes of the container.
        original: Bytes of the files.
        dimensions: The number of dimensions of all examples.
        seconds: The time of compression.
        verified: Whether each block was decoded once and compared.
        pixels_only: Images of which the pixels come back as a .png file, and not the bytes.
    """

    bits: int
    claimed: float
    kind: str
    size: int
    original: int
    dimensions: int
    seconds: float
    verified: bool
    pixels_only: int

    @property
    def difference(self) -> float:
        """(bits - claimed) / claimed."""
        return (self.bits - self.claimed) / self.claimed


@contextmanager
def in_float64(model: Model) -> Iterator[None]:
    """A context in which ``model`` is evaluated, and it and new tensors are in float64; the weights stay in float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        model.double()
        with evaluating(model), torch.inference_mode():
            yield
    finally:
        torch.set_default_dtype(before)


def digest_of(model: Model) -> str:
    """The sha256 of a model's description and weights, in float32."""
    found = hashlib.sha256(json.dumps(describe(model), sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().cpu()
        values = values.float() if values.is_floating_point() else values
        found.update(name.encode() + values.numpy().tobytes())
    return found.hexdigest()


def block_of(model: Model) -> int:
    """The default number of examples in a block, whose frequencies fit into memory. A block costs about 48 bits."""
    return max(1, min(max(MANY, VALUES // model.space.dim), NUMBERS // frequencies_of(model.space)))


def frequencies_of(space: Space) -> int:
    """The number of frequencies of one example."""
    parts = [part for _, part in space.parts] or [space]
    return space.dim * max(part.values or OF_REALS for part in parts)


def compress(
    model: Model,
    about: dict[str, Any],
    files: Sequence[Path],
    out: Path,
    *,
    y: Conditions | None = None,
    block: int | None = None,
    verify: bool = True,
    progress: Progress = silent,
) -> Rate:
    """Codes files into one container by a model of their content; `decompress` restores them byte for byte.

    Args:
        model: A model with a codec, with the weights that are to decode the container.
        about: The description of its data in a run's config.json, for the alphabet of a text.
        y: (1, *shape), the condition of all examples, for a conditional model.
        block: Examples that are decoded together, and lost together if they are damaged.
        verify: Decode each block once and compare.
        progress: Called with the completed fraction and the bits per dimension so far.

    Raises:
        Unsupported: For a model without a codec, or a file that is not an example of its space.
        BadInput: For a file with values that the model does not have.
    """
    started, interface, digest = time.perf_counter(), Interface(model.space, about), digest_of(model)
    if not about.get("columns"):
        codec_of(model)  # raises the error for a model without one before files are read
    parts, block = described(files, interface), block or block_of(model)
    condition = None if y is None else y.flatten().tolist()
    header = Header(model=digest, files=parts, block=block, condition=condition)
    total, done, claimed, kind = examples_of(header), 0, 0.0, ""
    with in_float64(model), replacing(out) as temporary, temporary.open("wb") as file:
        coder, writer = coder_of(model, y, header), Writer(file, header)
        each = (x for path, part in zip(files, parts, strict=True) for x in of_file(path, part, interface))
        while batch := list(islice(each, block)):
            x = torch.cat(batch)
            bits, kind = coder.claimed(x, writer.blocks)
            writer.write(coder.encode(x, writer.blocks, verify=verify))
            claimed, done = claimed + bits, done + len(x)
            progress(done / total, f"{writer.bits / (done * model.space.dim):.3f} bits/dim")
        writer.end()
    return Rate(
        bits=writer.bits,
        claimed=claimed,
        kind=kind,
        size=out.stat().st_size,
        original=sum(path.stat().st_size for path in files),
        dimensions=total * model.space.dim,
        seconds=time.perf_counter() - started,
        verified=verify,
        pixels_only=sum(bool(part["about"].get("pixels_only")) for part in parts),
    )


def of_file(path: Path, part: FilePart, interface: Interface) -> Iterator[Tensor]:
    return FORMS[part["form"]].examples(path, part["about"], interface)


def described(files: Sequence[Path], interface: Interface) -> list[FilePart]:
    """The entry of each file in the header; its sha256 is that of the file that `decompress` writes."""
    found = []
    for path in files:
        form = form_of(path, interface)
        about, examples = FORMS[form].describe(path, interface)
        if not examples:
            raise BadInput(f"{path} is empty", "leave it out")
        same = not about.get("pixels_only")
        name = path.name if same else f"{path.stem}.png"
        found.append(
            FilePart(name=name, form=form, about=about, examples=examples, sha256=sha256(path) if same else "")
        )
    names = [part["name"] for part in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadInput(f"two files are called {twice}", "rename one, or compress them apart")
    return found


def samples_of(parts: Sequence[FilePart], model: Model, block: int) -> list[Tensor] | None:
    """The number of samples of each example of sounds, by blocks, or None for files of other forms.

    Raises:
        BadInput: For files of both kinds.
    """
    forms = {part["form"] for part in parts}
    if "sound" not in forms:
        return None
    if len(forms) > 1:
        raise BadInput("sounds and files of another form", "compress them apart")
    if any(math.ceil(part["about"]["samples"] / model.space.dim) != part["examples"] for part in parts):
        raise ValueError("the examples of a sound are not those of its samples")
    each = [lengths_of(part["about"]["samples"], model.space.dim) for part in parts]
    return list(torch.tensor([length for lengths in each for length in lengths]).split(block))


def coder_of(model: Model, y: Conditions | None, header: Header) -> Coder:
    files = header["files"]
    grids = grids_of([part["about"] for part in files if part["form"] == "table"])
    return Coder(model, y, samples=samples_of(files, model, header["block"]), grids=grids)


class Coder:
    """Codes blocks of examples.

    Args:
        model: In evaluation mode and float64.
        y: (1, *shape), the condition of all examples, or None.
        samples: See `samples_of`; x are 16-bit values then, of which the model has the companded levels.
        grids: Of the columns of real numbers.
    """

    def __init__(
        self,
        model: Model,
        y: Conditions | None,
        *,
        samples: Sequence[Tensor] | None = None,
        grids: Mapping[int, Grid] | None = None,
    ) -> None:
        self.model, self.y, self.samples, self.grids = model, y, samples, grids or {}
        self.codec = codec_of(model, grids=grids)

    def codec_of(self, number: int, *, stepwise: bool = False) -> Codec:
        """The codec of block ``number``."""
        codec = codec_of(self.model, stepwise=True, grids=self.grids) if stepwise else self.codec
        return codec if self.samples is None else CompandedCodec(codec, self.samples[number])

    def claimed(self, x: Batch, number: int = 0) -> tuple[float, str]:
        """-log2 p(x) of block ``number`` by `dgm.log_likelihood`, and its kind."""
        levels, bits = (x, 0.0) if self.samples is None else levels_and_bits(x, self.samples[number])
        for dim, grid in self.grids.items():  # the density times the distance of two values
            bits += grid.bits * int((~x[:, dim].isnan()).sum())
        likelihood = log_likelihood(self.model, levels, self.conditions(len(x)))
        return bits - float(likelihood.nats.sum()) / math.log(2), likelihood.kind

    def conditions(self, n: int) -> Conditions | None:
        return None if self.y is None else self.y.expand(n, *self.y.shape[1:])

    def encode(self, x: Batch, number: int = 0, *, verify: bool = True) -> Block:
        """The examples as block ``number``."""
        block = self.pushed(self.codec_of(number), x, number)
        if verify and not self.returns(block, x):
            block = self.pushed(self.codec_of(number, stepwise=True), x, number)
            if not self.returns(block, x):
                wrong = "a block is not decoded to itself: this machine's arithmetic is not reproducible"
                raise BadInput(wrong, "set OMP_NUM_THREADS=1, or compress on another machine")
        return block

    def pushed(self, codec: Codec, x: Batch, number: int) -> Block:
        stack = Stack(codec.initial)
        codec.push(stack, x, self.conditions(len(x)))
        words, most = stack.words(), min(len(stack.words()), len(codec.initial))
        different = numpy.flatnonzero(words[:most] != codec.initial[:most])
        left_out = int(different[0]) if len(different) else most
        return Block(number, len(x), stack.checksum, left_out, words[left_out:])

    def returns(self, block: Block, x: Batch) -> bool:
        try:
            return torch.equal(self.decode(block).nan_to_num(-1), x.nan_to_num(-1))
        except DamagedRun:
            return False

    def decode(self, block: Block) -> Batch:
        """The examples of a block.

        Raises:
            DamagedRun: If its frequencies are not those of the encoder, or bits are left over.
        """
        try:
            stack = Stack(numpy.concatenate([self.codec.initial[: block.left_out], block.words]))
            x = self.codec_of(block.number).pop(stack, block.examples, self.conditions(block.examples))
        except (AssertionError, ValueError) as error:
            wrong = f"block {block.number} cannot be decoded: {in_one_line(error)}"
            raise DamagedRun(wrong, "take the file from a copy") from error
        if stack.checksum != block.checksum or not numpy.array_equal(stack.words(), self.codec.initial):
            wrong = f"the frequencies of block {block.number} are not those with which it was coded"
            raise DamagedRun(
                wrong, "decode it on a machine and with a version of torch like those with which it was coded"
            )
        return x


def decompress(
    model: Model, about: dict[str, Any], path: Path, out: Path, *, salvage: bool = False, progress: Progress = silent
) -> list[int]:
    """Restores the files of a container: one to the path ``out``, several into the new folder ``out``.

    Args:
        model: The model that coded them.
        salvage: Write the decodable blocks, with zeros in the place of lost blocks. By default a damaged container is
            refused, and nothing is written.

    Returns:
        The numbers of the lost blocks.

    Raises:
        DamagedRun: If a block is damaged or cannot be decoded on this machine.
        BadInput: If another model coded the container.
    """
    reader = Reader(path)
    header: Header = documents.checked(reader.header, Header, f"the header of {path}")
    if header["model"] != digest_of(model):
        raise BadInput(f"{path} was compressed by another model", "name the run that compressed it")
    refuse_unusable(header, path)
    refuse_large_claims(header, reader, model.space)
    if not reader.ends and not salvage:
        raise DamagedRun(
            f"{path} ends too early", "take the file from a copy, or add --salvage for the files that are there"
        )
    interface, lost = Interface(model.space, about), list[int]()
    with in_float64(model), replacing(out) as temporary, of_header(path):
        y = None if header["condition"] is None else torch.tensor(header["condition"])
        if y is not None and model.condition is not None:
            y = y.reshape(1, *model.condition.shape).to(model.condition.dtype)
        batches = decoded(coder_of(model, y, header), reader, header, lost, salvage=salvage, progress=progress)
        each = (batch[k : k + 1] for batch in batches for k in range(len(batch)))
        several = len(header["files"]) > 1
        if several:
            temporary.mkdir()
        for part in header["files"]:
            place = temporary / part["name"] if several else temporary
            with place.open("wb") as file:
                FORMS[part["form"]].restore(islice(each, part["examples"]), part["about"], interface, file)
            if not lost and part["sha256"] and sha256(place) != part["sha256"]:
                raise DamagedRun(f"{part['name']} does not come back as it was", "take the file from a copy")
    return lost


@contextmanager
def of_header(path: Path) -> Iterator[None]:
    """A context in which the header is used, which fits its schema, but may not fit the model or the blocks."""
    try:
        yield
    except (ValueError, TypeError, LookupError, ArithmeticError, RuntimeError) as error:
        wrong = f"the header of {path} does not fit its content: {in_one_line(error)}"
        raise DamagedRun(wrong, "take the file from a copy") from error


def refuse_unusable(header: Header, path: Path) -> None:
    """Before names from a container are written to."""
    if header["block"] < 1 or not header["files"]:
        raise DamagedRun(f"the header of {path} is damaged", "take the file from a copy")
    for part in header["files"]:
        if part["name"] in ("", ".", "..") or any(sign in part["name"] for sign in "/\\\0"):
            raise DamagedRun(f"{path} names a file outside of its folder: {part['name']!r}", "take it from a copy")
        if part["form"] not in FORMS or part["examples"] < 1:
            raise DamagedRun(f"{path} has a file of an unknown form", "use the dgm that wrote it")
        documents.checked(part["about"], FORMS[part["form"]].schema, f"the header of {path}")


def refuse_large_claims(header: Header, reader: Reader, space: Space) -> None:
    """Before memory is allocated or zeros are written for examples that may not be there."""
    total, size, path = examples_of(header), header["block"], reader.path
    needed, remedy = 8 * min(total, size) * frequencies_of(space), "take the file from a copy"
    memory.refuse_too_large(f"a block of {min(total, size):,} examples in {path}", needed, remedy)
    claimed = blocks_of(header)
    enough = -(-claimed // CLAIMED)  # no further blocks are read for their number
    there = sum(1 for _ in islice(reader.blocks(), enough))
    if there < enough:
        raise DamagedRun(f"{path} has {there:,} of the {claimed:,} blocks that its header claims", remedy)


def examples_of(header: Header) -> int:
    return sum(part["examples"] for part in header["files"])


def blocks_of(header: Header) -> int:
    return -(-examples_of(header) // header["block"])


def decoded(
    coder: Coder, reader: Reader, header: Header, lost: list[int], *, salvage: bool, progress: Progress
) -> Iterator[Batch]:
    """The examples of all blocks; zeros for lost ones, whose numbers are added to ``lost``."""
    total, size = examples_of(header), header["block"]
    for number, block in in_turn(reader, blocks_of(header)):
        n = min(size, total - number * size)
        progress(number * size / total, f"block {number}")
        try:
            if block is None or block.examples != n:
                raise DamagedRun(f"block {number} of {reader.path} is damaged", "take the file from a copy")
            yield coder.decode(block)
        except DamagedRun as error:
            if not salvage:
                remedy = f"{error.remedy}, or add --salvage for the other blocks"
                raise DamagedRun(error.wrong, remedy) from error
            lost.append(number)
            space = coder.codec_of(number).space
            yield torch.zeros(space.shape, dtype=space.dtype).expand(n, *space.shape)


def in_turn(reader: Reader, blocks: int) -> Iterator[tuple[int, Block | None]]:
    """Each number of a block with the block, or with None if it is damaged."""
    expected = 0
    for block in reader.blocks():
        if not expected <= block.number < blocks:
            continue
        yield from ((number, None) for number in range(expected, block.number))
        yield block.number, block
        expected = block.number + 1
    yield from ((number, None) for number in range(expected, blocks))
