"""The table of named data sets: where each one's loader is, what it is, what it takes. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RemoteFile:
    """A published file: its size in bytes and its hash.

    Attributes:
        unpacks_to: For an archive, the files that it leaves, which stand for it once they are there.
    """

    name: str
    address: str
    size: int
    digest: str
    algorithm: str = "sha256"
    unpacks_to: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spec:
    """One named set.

    Attributes:
        target: ``package.module:function``; called with the folder of its files, or with the part of the name after
            the slash where it has none.
        summary: One line that says what it is.
        files: What is downloaded; empty for a set that is made or carried.
        folder: The folder of the files, below the root.
    """

    target: str
    summary: str
    files: tuple[RemoteFile, ...] = ()
    folder: str = ""

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def _files(base: str, *rows: tuple[str, int, str]) -> tuple[RemoteFile, ...]:
    return tuple(RemoteFile(name, base + name, size, digest) for name, size, digest in rows)


MNIST = _files(
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ("train-images-idx3-ubyte.gz", 9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
    ("train-labels-idx1-ubyte.gz", 28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    ("t10k-images-idx3-ubyte.gz", 1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    ("t10k-labels-idx1-ubyte.gz", 4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
)
FASHION_MNIST = _files(
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ("train-images-idx3-ubyte.gz", 26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
    ("train-labels-idx1-ubyte.gz", 29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
    ("t10k-images-idx3-ubyte.gz", 4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
    ("t10k-labels-idx1-ubyte.gz", 5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
)
BINARIZED_MNIST = _files(
    "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/",
    ("binarized_mnist_train.amat", 78400000, "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d"),
    ("binarized_mnist_valid.amat", 15680000, "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2"),
    ("binarized_mnist_test.amat", 15680000, "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c"),
)
# the archive is published with an md5 alone
CIFAR10 = (
    RemoteFile(
        "cifar-10-binary.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        170052171,
        "c32a1d4ab5d03f1284b67883e8d87530",
        "md5",
        tuple(f"cifar-10-batches-bin/{name}.bin" for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch")),
    ),
)

SETS: Mapping[str, Spec] = {
    "digits": Spec("dgm.data.digits:load", "1,797 handwritten digits, 8×8, 17 grey levels; carried by scikit-learn"),
    "toy/moons": Spec("dgm.data.toy:load", "two half circles with noise, in the plane"),
    "toy/eight_gaussians": Spec("dgm.data.toy:load", "eight Gaussians on a circle"),
    "toy/grid": Spec("dgm.data.toy:load", "twenty-five Gaussians on a 5×5 grid"),
    "toy/checkerboard": Spec("dgm.data.toy:load", "uniform on the dark squares of a 4×4 board"),
    "toy/pinwheel": Spec("dgm.data.toy:load", "five Gaussian blades, twisted"),
    "toy/spiral": Spec("dgm.data.toy:load", "two arms of a spiral with noise"),
    "mnist": Spec("dgm.data.images:mnist", "70,000 handwritten digits, 28×28, 256 levels", MNIST, "mnist"),
    "fashion_mnist": Spec("dgm.data.images:mnist", "70,000 clothes, 28×28, 256 levels", FASHION_MNIST, "fashion_mnist"),
    "binarized_mnist": Spec(
        "dgm.data.images:binarized_mnist", "MNIST as Larochelle binarised it once", BINARIZED_MNIST, "binarized_mnist"
    ),
    "dynamic_mnist": Spec("dgm.data.images:dynamic_mnist", "MNIST binarised anew at each visit", MNIST, "mnist"),
    "cifar10": Spec("dgm.data.images:cifar10", "60,000 photographs, 32×32 in colour, 256 levels", CIFAR10, "cifar10"),
}


def cache() -> Path:
    """Where dgm keeps what it downloads and computes: DGM_CACHE, else the user's cache folder."""
    chosen = os.environ.get("DGM_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(chosen) if chosen else Path(base) / "dgm"


def roots(root: str | Path | None) -> list[Path]:
    """Where named sets are looked for, in this order."""
    given = [Path(root)] if root is not None else []
    environment = [Path(os.environ["DGM_DATA"])] if os.environ.get("DGM_DATA") else []
    return [*given, *environment, cache() / "data"]


def found(spec: Spec, root: str | Path | None = None) -> Path | None:
    """The folder that holds all files of a set, or None."""
    for base in roots(root):
        folder = base / spec.folder
        names = [name for file in spec.files for name in file.unpacks_to or (file.name,)]
        if all((folder / name).is_file() for name in names):
            return folder
    return None
