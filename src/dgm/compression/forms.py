"""The forms of files, by their names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dgm.compression.content import Arrays, Form, Interface, Pictures, Texts
from dgm.compression.rows import Rows
from dgm.compression.sounds import Sounds
from dgm.data import text, walk
from dgm.errors import Unsupported

FORMS: Mapping[str, Form] = {
    "array": Arrays(),
    "image": Pictures(),
    "text": Texts(),
    "sound": Sounds(),
    "table": Rows(),
}
SUFFIXES = {
    **dict.fromkeys([*walk.IMAGES, ".pgm", ".ppm"], "image"),
    **dict.fromkeys(walk.SOUNDS, "sound"),
    ".npy": "array",
}
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".tgz")


def form_of(path: Path, interface: Interface) -> str:
    """The name of the form of a file."""
    if interface.about.get("options", {}).get("bytes"):
        return "text"
    if form := SUFFIXES.get(path.suffix.lower()):
        return form
    if path.name.endswith("-ubyte"):
        return "array"
    if text.is_text(interface.about):
        return "text"
    if path.suffix.lower() in (".csv", ".tsv"):
        return "table"
    if path.suffix.lower() in COMPRESSED:
        raise Unsupported(f"{path} is compressed already", "unpack it first, such as by gunzip -k")
    wrong = f"{path} is not an example of {interface.space} by its name"
    forms = "an image, a sound, a table, an .npy array, an IDX array whose name ends in -ubyte"
    raise Unsupported(wrong, f"give {forms}, or a text to a model of text")
