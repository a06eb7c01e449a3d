"""Data sets that are larger than memory: Arrow files and tar files, decoded when a batch asks for them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

import dgm
from dgm.data import arrow, load
from dgm.data.dataset import WINDOW, order_of_shards
from dgm.data.lazy import Lazy
from dgm.errors import BadInput
from dgm.training.batches import Batches

N = 40
PICTURES = numpy.random.default_rng(0).integers(0, 256, (N, 6, 6, 3), dtype=numpy.uint8)


def png(picture: numpy.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def packed(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def example(k: int) -> dict[str, bytes]:
    return {f"{k:04d}.png": png(PICTURES[k]), f"{k:04d}.cls": str(k % 3).encode()}


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """40 examples in three files of 13, 14 and 13."""
    for shard, rows in enumerate((range(13), range(13, 27), range(27, 40))):
        packed(tmp_path / f"{shard}.tar", {name: file for k in rows for name, file in example(k).items()})
    return tmp_path


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"picture": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])})
    rows = {"picture": [{"bytes": png(p), "path": None} for p in PICTURES], "label": [k % 3 for k in range(N)]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "saved"))
    return tmp_path / "saved"


def numbers(x: torch.Tensor) -> list[int]:
    """Which of the pictures these are."""
    pictures = torch.from_numpy(PICTURES.transpose(0, 3, 1, 2).copy())
    return [int((pictures == one).flatten(1).all(1).nonzero()) for one in x]


@pytest.mark.parametrize("kind", ["shards", "saved"])
def test_every_example_is_in_one_split_with_its_own_label(kind: str, request: pytest.FixtureRequest) -> None:
    """Kills: labels of other rows, rows left out, pictures transposed, everything read at once."""
    data = load(request.getfixturevalue(kind))
    assert data.space == dgm.Space.levels((3, 6, 6), 256)
    assert data.condition == dgm.Space.categories(3)
    seen: list[int] = []
    for split in data.splits.values():
        assert isinstance(split.x, Lazy)
        x, y = split.batch(torch.arange(len(split)).flip(0))
        found = numbers(x)
        assert [k % 3 for k in found] == y.tolist()  # type: ignore[union-attr]
        assert torch.equal(split.x[0], x[-1])
        assert torch.equal(split.x[1:3], x.flip(0)[1:3])
        seen += found
    assert sorted(seen) == list(range(N))
    assert [len(split) for split in data.splits.values()] == [32, 4, 4]
    assert data.describe()["sha256"] == load(request.getfixturevalue(kind)).describe()["sha256"]
    assert data.describe()["sha256"] != load(request.getfixturevalue(kind), seed=1).describe()["sha256"]


@pytest.mark.parametrize("kind", ["shards", "saved"])
def test_a_training_goes_on_at_its_exact_place(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """To the same bits, in the third epoch. Kills: a position that starts anew, an order that depends on the past."""
    data = load(request.getfixturevalue(kind))
    how: dict[str, Any] = {"steps": 14, "batch": 7, "checkpoint_every": 0.0, "precision": "32-true"}

    def model() -> Any:
        torch.manual_seed(0)
        return dgm.create("vae", data.space, hidden=8, latent=2)

    whole = model()
    list(dgm.fit(whole, data, out=tmp_path / "whole", **how))
    steps = dgm.fit(model(), data, out=tmp_path / "cut", **how)
    [next(steps) for _ in range(10)]
    steps.close()
    resumed = model()
    list(dgm.fit(resumed, load(request.getfixturevalue(kind)), out=tmp_path / "cut", resume=True))
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_shards_are_permuted_and_shuffled_within_a_window() -> None:
    """Each epoch in another order, which is a function of its number. Kills: a shard left out, read twice or split."""
    sizes = [5000, 3000, 9000]
    bounds = numpy.cumsum([0, *sizes])
    seen = set()
    for epoch in range(12):
        found = order_of_shards(sizes, 3, epoch)
        assert torch.equal(found, order_of_shards(sizes, 3, epoch))
        assert torch.equal(found.sort().values, torch.arange(17_000))
        of_shard = numpy.searchsorted(bounds, found.numpy(), side="right") - 1
        # what is beyond a window of both ends of a shard is of that shard alone
        in_turn = list(dict.fromkeys(of_shard[WINDOW::WINDOW].tolist() + of_shard[::WINDOW].tolist()))
        assert set(in_turn) <= {0, 1, 2}
        first = numpy.array([numpy.flatnonzero(of_shard == k)[0] for k in range(3)])
        last = numpy.array([numpy.flatnonzero(of_shard == k)[-1] for k in range(3)])
        assert (last - first < numpy.array(sizes) + 2 * WINDOW).all()
        seen.add(tuple(first.argsort().tolist()))
        window = found[:WINDOW]
        assert (window.diff() == 1).float().mean() < 0.01
    assert len(seen) > 2


def test_processes_share_the_batches_of_one(shards: Path) -> None:
    data = load(shards)
    one = Batches(data.train, 8, 5, rank=0, world=1, device=torch.device("cpu"))
    two = [Batches(data.train, 8, 5, rank=rank, world=2, device=torch.device("cpu")) for rank in (0, 1)]
    for step in (0, 3, 5, 9):
        parts = [batches.at(step)[0] for batches in two]
        assert torch.equal(one.at(step)[0], torch.stack(parts, 1).flatten(0, 1))


def test_webdataset_reads_the_same(tmp_path: Path) -> None:
    """Files that it writes, and what it reads of them."""
    webdataset = pytest.importorskip("webdataset")
    from webdataset.tariterators import group_by_keys, tar_file_iterator

    with webdataset.ShardWriter(str(tmp_path / "%03d.tar"), maxcount=15, verbose=0) as writer:
        for k, picture in enumerate(PICTURES):
            writer.write({"__key__": f"x/{k:03d}", "png": picture, "cls": k % 3, "json": {"k": k}})
    expected = []
    for path in sorted(tmp_path.glob("*.tar")):
        with path.open("rb") as file:
            for sample in group_by_keys({**part, "__url__": ""} for part in tar_file_iterator(file)):
                expected.append((numpy.asarray(Image.open(io.BytesIO(sample["png"]))), int(sample["cls"])))
    data = load(tmp_path)
    found = [
        (x, y) for split in data.splits.values() for x, y in zip(*split.batch(torch.arange(len(split))), strict=True)
    ]
    found.sort(key=lambda pair: numbers(pair[0][None]))
    assert len(expected) == N
    for (x, y), (picture, label) in zip(found, expected, strict=True):
        assert (x.permute(1, 2, 0).numpy() == picture).all()
        assert int(y) == label


@pytest.mark.parametrize("ending", ["pyd", "pkl", "pickle", "pth", "seg.pyd"])
def test_pickles_are_refused(ending: str, tmp_path: Path) -> None:
    """Before anything is decoded, also where nothing would ask for them."""
    files = {name: file for k in range(12) for name, file in example(k).items()}
    packed(tmp_path / "a.tar", files | {f"0003.{ending}": b"cos\nsystem\n(S'false'\ntR."})
    with pytest.raises(BadInput, match=f"a.tar holds a pickle, 0003.{ending}, which dgm does not read"):
        load(tmp_path / "a.tar")


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"0003.cls": b"seven"}, "0003.cls holds no label's number"),
        ({"0003.cls": b"1234567"}, "0003.cls holds no label's number"),
        ({"0003.cls": b" 1" * 1000}, "0003.cls holds no label's number"),
        ({"0003.jpg": png(PICTURES[0])}, "holds two files for one example, 0003.jpg"),
        ({"0099.png": png(PICTURES[0])}, "0099.png has no .cls beside it"),
        ({"0003.png": b"not a picture"}, "0003.png cannot be read as an image"),
    ],
)
def test_what_is_wrong_in_a_tar_file_is_named(change: dict[str, bytes], wrong: str, tmp_path: Path) -> None:
    files = {name: file for k in range(12) for name, file in example(k).items()}
    path = packed(tmp_path / "a.tar", files | change)
    with pytest.raises(BadInput, match=wrong):
        load(path)


def test_links_and_broken_files(tmp_path: Path) -> None:
    """A link's target is not read, a compressed or a torn file is refused."""
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for k in range(12):
            link = tarfile.TarInfo(f"{k}.png")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
            tar.addfile(link)
    with pytest.raises(BadInput, match="holds 0 images"):
        load(path)
    with tarfile.open(tmp_path / "b.tar", "w:gz") as tar:
        tar.add(path, "a")
    with pytest.raises(BadInput, match=r"b.tar is not a plain tar file"):
        load(tmp_path / "b.tar")
    torn = packed(tmp_path / "c.tar", {name: file for k in range(12) for name, file in example(k).items()})
    data = load(torn)
    torn.write_bytes(torn.read_bytes()[:2000])
    with pytest.raises(BadInput, match=r"c.tar ends within .*; take it from a copy"):
        data.train.batch(torch.arange(len(data.train)))


def test_labels_of_a_tar_file_go_up_to_the_largest(tmp_path: Path) -> None:
    """Kills: as many classes as there are different labels, so that the largest is none of them."""
    files = {
        f"{k}.{end}": file for k in range(12) for end, file in (("png", png(PICTURES[k])), ("cls", b"%d" % (k % 2 * 2)))
    }
    assert load(packed(tmp_path / "a.tar", files)).condition == dgm.Space.categories(3)


def test_other_splits_than_three_of_a_saved_data_set_are_drawn_anew_and_labels_have_names(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image()})
    parts = {
        name: datasets.Dataset.from_dict(
            {"image": [{"bytes": png(PICTURES[k]), "path": None} for k in rows]}, features=features
        )
        for name, rows in (("train", range(12)), ("extra", range(12, 20)))
    }
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "two"))
    data = load(tmp_path / "two")
    assert data.split == "80 / 10 / 10 %, seed 0"
    assert sorted(k for split in data.splits.values() for k in numbers(split.x[:])) == list(range(20))
    for y in ([0, 2], [-1, 0]):
        table = SimpleNamespace(features={"y": SimpleNamespace(names=["a", "b"])}, with_format=lambda _, y=y: {"y": y})
        with pytest.raises(BadInput, match="labels go from 0 to 1"):
            arrow.labels(table, "y", tmp_path)


def test_a_saved_data_set_has_its_own_splits_and_reads_no_other_files(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image()})

    def part(rows: range) -> Any:
        images = [{"bytes": png(PICTURES[k]), "path": None} for k in rows]
        return datasets.Dataset.from_dict({"image": images}, features=features)

    parts = {"test": part(range(5)), "train": part(range(5, 35)), "validation": part(range(35, 40))}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "split"))
    data = load(tmp_path / "split")
    assert data.split == "its own"
    assert data.condition is None
    assert numbers(data.test.x[:]) == list(range(5))
    assert numbers(data.train.x[:]) == list(range(5, 35))
    outside = tmp_path / "secret.png"
    outside.write_bytes(png(PICTURES[0]))
    plain = datasets.Features({"image": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}})
    rows = {"image": [{"bytes": None, "path": str(outside)}] * 12}
    folder = tmp_path / "outside"
    datasets.Dataset.from_dict(rows, features=plain).save_to_disk(str(folder))
    about = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
    about["features"]["image"] = {"_type": "Image"}
    (folder / "dataset_info.json").write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(BadInput, match="the image of row 0 lies in a file elsewhere"):
        load(folder)
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved/dataset_info.json").write_text("{", encoding="utf-8")
    with pytest.raises(BadInput, match="cannot be read as a saved data set"):
        load(tmp_path / "saved")
