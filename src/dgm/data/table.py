"""The table of named data sets: the loader, the summary, the files and the options of each. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RemoteFile:
    """A published file: its size in bytes and its hash.

    Attributes:
        unpacks_to: The files that are extracted from an archive and replace it; empty for other files.
    """

    name: str
    address: str
    size: int
    digest: str
    algorithm: str = "sha256"
    unpacks_to: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spec:
    """One named data set.

    Attributes:
        target: The loader, ``package.module:function``. Its argument is the folder of the files, or, for a set without
            files, the part of the name after the slash.
        summary: A description in one line.
        files: The files to download; empty for a set that is computed or part of a package.
        folder: The folder of the files, relative to the root.
        source: The web page of a set that is not published as a file with a checksum.
        options: The options of the loader.
    """

    target: str
    summary: str
    files: tuple[RemoteFile, ...] = ()
    folder: str = ""
    source: str = ""
    options: tuple[str, ...] = ()

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
# only an md5 of the archive is published
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

# the sizes and hashes of NAME.train.data, NAME.valid.data and NAME.test.data
DEBD: Mapping[str, tuple[int, tuple[tuple[int, str], ...]]] = {
    "nltcs": (
        16,
        (
            (517792, "e547a7aedad1dd2f7177030881ab1b92c7e24ae5464c71a0f1f89daecaf52b30"),
            (69024, "93bbbf5c6febdc9bc6e5b5bfab636f4dc0685ab2896d24b23dd267794c3bfcf6"),
            (103552, "f9ffa6b74b27dc03bee3203d157ee31079e80b13be40d0c0093d635c25aed523"),
        ),
    ),
    "baudio": (
        100,
        (
            (3000000, "b1ec73f4aa9d4ce48b465ded865cc3d22b3f68cf6258f9e15fbef8902138add1"),
            (400000, "7164d8a4943f74953f0e982002d84693fdf483e17f69e7407dc939c5ce5622fe"),
            (600000, "1474f3206f1f35e099803a0f40b0cd209bdc8d787825095ef6cb23fd87ed0d05"),
        ),
    ),
    "bnetflix": (
        100,
        (
            (3000000, "73c87cf0635ec734cc0726a5c644b904ff33e81ea51f1049db0e77b787ebad7c"),
            (400000, "7f0a3e597c6f305f707f9ecd2b2aa523c576cdb17fdc5d902fc832ebea5163de"),
            (600000, "af73990782fd2f146d96059855c4f3bbb6a7a7caefc417ff620a3ed1415a2395"),
        ),
    ),
    "accidents": (
        111,
        (
            (2832276, "a76648cf00772c275b4277b21d858e235e3c6d3c5ef30beeb4958189b6bed21c"),
            (377400, "fd3a80a0f411f157cf3772a057d26980bb166cb89b10cafb818a53f1ec30d46d"),
            (566322, "df3f1b6c035bf3e306a7d7127320e479d2546ce14a5d6d3043e6be0925b8b414"),
        ),
    ),
    "mushrooms": (
        112,
        (
            (448000, "465c712c066bbbee3ccceded24bbe42b4c379df67b524e28cce9bf3a8b83f27b"),
            (112000, "5a067e6854df71623415e6adc8e913cbff766637a324788882ba800907aa5385"),
            (1259776, "313c5f04b5d0a18bee2f2ffa264be265d09f5362aad6f714637acd9552f81aa0"),
        ),
    ),
    "pumsb_star": (
        163,
        (
            (3997412, "27e610b5f9f507f94ebf8a227f8b96cc59d7eed51e06ee5d2fe8353afbc1524c"),
            (533010, "6a491d1ea64eb0249dddd168fdddeef88aa21001a933eb7309603b6466187af8"),
            (799352, "b2da195314ac17f9d8d171743c5f98a28ea9583332a52d34aa228ff2e11aa8e7"),
        ),
    ),
    "dna": (
        180,
        (
            (576000, "bb8de0ca4b6ad9b610036b7a302962ebecd4b504354b14c02c7d0bee48d207d9"),
            (144000, "4b0fc89cda5eaf5c75926e281afb6af99de194a546070d5b81b524ba251f4f3f"),
            (426960, "fec3ae7b26804020a9c43c99828441c5e08bb76b23719368a74ad2b09af99100"),
        ),
    ),
    "moviereview": (
        1001,
        (
            (3203200, "195729f0d72e9707abb7a901b57193bd1b1c9108bb261202170eec6c7e5e2ed1"),
            (300300, "d887c7726485ca46026c3c9ab511174679cd1c96443c5410ab24fb81c8be38e3"),
            (500500, "9fea48ab7422d4a1c0b5d063311e6fd3104e59c11018276f7a9e909685a856d2"),
        ),
    ),
    "bbc": (
        1058,
        (
            (3533720, "a6f0ba467ebf502ba3b37caa1f20e43ff82664dcd580be92010106cf80fb0db1"),
            (476100, "f6a37bd58cdb6745725628be19dfd3b9b795082faa8ca771b8f27dbf4a5ff46d"),
            (698280, "7116fce92a1f3d610cee673a974c8c9895957ee07ce6f086b431ee296aa7734a"),
        ),
    ),
    "voting": (
        1359,
        (
            (3299652, "113c35bd468a0bb97772623634c1b729b76ba90674e62b68c38fe8d5ac08b341"),
            (543600, "391bad94351ac4565e2f6628c917607b6e82b82ebdc52d64dd8bfbebcdae12b7"),
            (951300, "c77c851edfc1fd5c275e961de3530ae406fc5c3446fa305959720273a5bbe9c8"),
        ),
    ),
}


def _debd(name: str) -> tuple[RemoteFile, ...]:
    base = f"https://raw.githubusercontent.com/UCLA-StarAI/Density-Estimation-Datasets/master/datasets/{name}/"
    parts = zip(("train", "valid", "test"), DEBD[name][1], strict=True)
    return _files(base, *((f"{name}.{part}.data", size, digest) for part, (size, digest) in parts))


TINYSHAKESPEARE = (
    RemoteFile(
        "tinyshakespeare.txt",
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        1115394,
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
)

# rows and columns of NAME.csv
UCI: Mapping[str, tuple[int, int]] = {
    "airfoil": (1503, 6),
    "autompg": (392, 8),
    "breastcancer": (194, 34),
    "concrete": (1030, 9),
    "elevators": (16599, 19),
    "energy": (768, 9),
    "gas": (2565, 129),
    "housing": (506, 14),
    "keggdirected": (48827, 21),
    "kin40k": (40000, 9),
    "parkinsons": (5875, 21),
    "pol": (15000, 27),
    "protein": (45730, 10),
    "pumadyn32nm": (8192, 33),
    "tamielectric": (45781, 4),
    "yacht": (308, 7),
}

SETS: Mapping[str, Spec] = {
    "digits": Spec("dgm.data.digits:load", "1,797 handwritten digits, 8×8, 17 grey levels; carried by scikit-learn"),
    "stacked_digits": Spec("dgm.data.digits:stacked", "three digits as the channels of an image: 1,000 modes"),
    "toy/moons": Spec("dgm.data.toy:load", "two half circles with noise, in the plane"),
    "toy/eight_gaussians": Spec("dgm.data.toy:load", "eight Gaussians on a circle"),
    "toy/ring": Spec("dgm.data.toy:load", "eight narrow Gaussians on a circle, a test of mode collapse"),
    "toy/grid": Spec("dgm.data.toy:load", "twenty-five Gaussians on a 5×5 grid"),
    "toy/checkerboard": Spec("dgm.data.toy:load", "uniform on the dark squares of a 4×4 board"),
    "toy/pinwheel": Spec("dgm.data.toy:load", "five Gaussian blades, twisted"),
    "toy/spiral": Spec("dgm.data.toy:load", "two arms of a spiral with noise"),
    "mnist": Spec("dgm.data.images:mnist", "70,000 handwritten digits, 28×28, 256 levels", MNIST, "mnist"),
    "fashion_mnist": Spec("dgm.data.images:mnist", "70,000 clothes, 28×28, 256 levels", FASHION_MNIST, "fashion_mnist"),
    "stacked_mnist": Spec(
        "dgm.data.images:stacked_mnist", "three MNIST digits as the channels of an image: 1,000 modes", MNIST, "mnist"
    ),
    "binarized_mnist": Spec(
        "dgm.data.images:binarized_mnist", "MNIST as Larochelle binarised it once", BINARIZED_MNIST, "binarized_mnist"
    ),
    "mnist/dynamic": Spec("dgm.data.images:mnist", "MNIST binarised again in every epoch", MNIST, "mnist"),
    "moving_digits": Spec("dgm.data.moving:moving_digits", "clips of scikit-learn's digits that move, 8 frames of 8×8"),
    "moving_mnist": Spec("dgm.data.moving:moving_mnist", "clips of MNIST digits that move, 10 frames", MNIST, "mnist"),
    "sprites": Spec(
        "dgm.data.sprites:load",
        "25,920 binary images 32×32 of a square, an ellipse or a heart; scale, angle, x and y are known",
    ),
    **{
        f"sprites/{factor}": Spec("dgm.data.sprites:load", f"the same images, with the {factor} alone as their label")
        for factor in ("shape", "scale", "angle", "x", "y")
    },
    "cifar10": Spec(
        "dgm.data.images:cifar10",
        "60,000 photographs, 32×32 in colour, 256 levels",
        CIFAR10,
        "cifar10",
        options=("palette",),
    ),
    "tinyshakespeare": Spec(
        "dgm.data.text:tinyshakespeare",
        "1.1 million characters of Shakespeare's plays",
        TINYSHAKESPEARE,
        "text",
        options=("context", "bytes"),
    ),
    "fsdd": Spec(
        "dgm.data.sound:fsdd",
        "3,000 spoken digits, 8 kHz, labelled by digit",
        folder="fsdd",
        source="https://github.com/Jakobovski/free-spoken-digit-dataset",
        options=("seconds",),
    ),
    "fsdd/mel": Spec(
        "dgm.data.mel:fsdd",
        "the same as log-mel frames, real numbers, which Griffin-Lim turns into sound",
        folder="fsdd",
        source="https://github.com/Jakobovski/free-spoken-digit-dataset",
        options=("seconds",),
    ),
    "fsdd_speakers": Spec(
        "dgm.data.sound:fsdd_speakers",
        "the same, labelled by speaker",
        folder="fsdd",
        source="https://github.com/Jakobovski/free-spoken-digit-dataset",
        options=("seconds",),
    ),
    **{
        f"debd/{name}": Spec("dgm.data.debd:load", f"binary density set of {width} variables", _debd(name), "debd")
        for name, (width, _) in DEBD.items()
    },
    **{
        f"uci/{name}": Spec(
            "dgm.data.uci:load",
            f"UCI regression table of {rows:,} rows, {columns} columns of real numbers",
            folder="uci",
            source="https://github.com/treforevans/uci_datasets, the rows of each as NAME.csv without a header,",
        )
        for name, (rows, columns) in UCI.items()
    },
}


def cache() -> Path:
    """The folder for downloaded and computed files: DGM_CACHE, or else a folder in the user's cache."""
    folder = os.environ.get("DGM_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) if folder else Path(base) / "dgm"


def roots(root: str | Path | None) -> list[Path]:
    """The folders in which named sets are searched, in this order."""
    first = [Path(root)] if root is not None else []
    environment = [Path(os.environ["DGM_DATA"])] if os.environ.get("DGM_DATA") else []
    return [*first, *environment, cache() / "data"]


def folder_of(spec: Spec, root: str | Path | None = None) -> Path | None:
    """The folder that has all files of a set, or None."""
    for base in roots(root):
        folder = base / spec.folder
        names = [name for file in spec.files for name in file.unpacks_to or (file.name,)]
        if folder.is_dir() and all((folder / name).is_file() for name in names):
            return folder
    return None
