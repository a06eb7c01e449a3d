"""Files of samples, by the suffix of their path: pictures, arrays, tables, text, sound."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dgm.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

    from dgm.space import Space


def refuse_format(out: str, space: Space, about: dict[str, Any]) -> None:
    """Checks the format of the output before the samples are drawn, which may take long."""
    from dgm.data.text import is_text

    suffix = ".txt" if out == "-" else Path(out).suffix
    if suffix == ".txt" and not is_text(about):
        raise BadInput(f"text was asked for, and this run is of {space}", "write a .png or .npz")
    if suffix == ".wav" and not about.get("rate"):
        raise BadInput(f"a .wav file needs sound, got {space}", "write a .png or .npz")
    if suffix == "" and not about.get("rate") and len(space.shape) != 3:
        raise BadInput(f"a folder of pictures needs images, got {space}", "write a .csv or .npz")


def writer(out: Path) -> Callable[[Tensor, Space, Path, dict[str, Any]], None]:
    """The function that writes a file with the suffix of ``out``; its last argument is the run's data description."""
    known = {
        ".png": write_grid,
        ".gif": write_grid,
        ".npz": write_array,
        ".csv": write_table,
        ".parquet": write_table,
        ".txt": write_text,
        ".wav": write_sound,
        "": write_folder,
    }
    if str(out) == "-":
        return print_text
    if out.suffix not in known:
        raise BadInput(f"--out cannot be a '{out.suffix}' file", f"end it in {', '.join(known)[:-2]}, or name a folder")
    return known[out.suffix]


def write_grid(x: Tensor, space: Space, out: Path, about: dict[str, Any]) -> None:
    from dgm.data.columns import of_run
    from dgm.data.palette import in_colour
    from dgm.data.text import is_text
    from dgm.files import replacing
    from dgm.report.pictures import lines, scatter, view

    if is_text(about):
        drawn = lines(list(texts(x, about)))
    elif about.get("rate"):
        from dgm.report.sound import spectrograms

        drawn = spectrograms(x, about["rate"])
    elif len(space.shape) >= 3:
        drawn = view(*in_colour(x, space, about))
    else:
        drawn = scatter(x, space, columns=of_run(about, space))
    with replacing(out) as temporary:
        drawn.save(temporary, format="PNG")


def write_strip(states: list[Tensor], space: Space, out: Path, about: dict[str, Any]) -> None:
    from dgm.data.palette import in_colour
    from dgm.files import replacing
    from dgm.report.pictures import strip

    coloured = [in_colour(x, space, about) for x in states]
    with replacing(out) as temporary:
        strip([x for x, _ in coloured], coloured[-1][1]).save(temporary, format="PNG")


def write_animation(states: list[Tensor], space: Space, out: Path, about: dict[str, Any]) -> None:
    from dgm.data.palette import in_colour
    from dgm.files import replacing
    from dgm.report.pictures import save_animation, view

    pictures = [view(*in_colour(x, space, about), real_x=states[-1]) for x in states]
    with replacing(out) as temporary:
        save_animation(pictures, temporary)


def write_folder(x: Tensor, space: Space, out: Path, about: dict[str, Any]) -> None:
    from dgm.data import mel, sound
    from dgm.data.palette import in_colour
    from dgm.files import replacing
    from dgm.report.pictures import grid

    if about.get("rate"):
        with replacing(out) as temporary:
            temporary.mkdir()
            for k, example in enumerate(mel.to_levels(x, about["rate"])):
                sound.write(example, about["rate"], temporary / f"{k:06d}.wav")
        return
    with replacing(out) as temporary:
        temporary.mkdir()
        x, space = in_colour(x, space, about)
        mode = "L" if space.shape[0] == 1 else "RGB"  # so that the folder, loaded as data, has the same space
        for k, example in enumerate(x):
            grid(example[None], space, columns=1, scale=1).convert(mode).save(temporary / f"{k:06d}.png")


def write_array(x: Tensor, space: Space, out: Path, about: dict[str, Any]) -> None:
    import numpy

    from dgm.files import replacing

    with replacing(out) as temporary, temporary.open("wb") as file:
        numpy.savez_compressed(file, x=x.numpy())


def write_table(x: Tensor, space: Space, out: Path, about: dict[str, Any]) -> None:
    """Writes a .csv or a .parquet file with the column types of the training data."""
    from dgm.data.columns import of_run
    from dgm.data.tables import write
    from dgm.files import replacing

    with replacing(out) as temporary:
        write(x.flatten(1), of_run(about, space), temporary, out.suffix)


def texts(x: Tensor, about: dict[str, Any]) -> Iterator[str]:
    from dgm.data import text

    return (text.decode(tokens, about) for tokens in x)


def write_text(x: Tensor, space: Space, out: Path, about: dict[str, Any]) -> None:
    """Writes the samples as text, separated by lines of dashes."""
    from dgm.files import replacing

    content = "\n-----\n".join(texts(x, about))
    with replacing(out) as temporary:
        temporary.write_text(content + "\n", encoding="utf-8")


def print_text(x: Tensor, space: Space, out: Path, about: dict[str, Any]) -> None:
    sys.stdout.write("\n-----\n".join(texts(x, about)) + "\n")


def write_sound(x: Tensor, space: Space, out: Path, about: dict[str, Any]) -> None:
    """Writes one .wav file of all samples, one after another."""
    from dgm.data import mel, sound
    from dgm.files import replacing

    with replacing(out) as temporary:
        sound.write(mel.to_levels(x, about["rate"]).flatten(), about["rate"], temporary)
