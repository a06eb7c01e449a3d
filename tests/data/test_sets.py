"""Named sets: digits, toys with their true density, the published files, the download."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import math
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest
import scipy.stats
import torch
from sklearn.datasets import load_digits

from dgm import data
from dgm.data.dataset import Split
from dgm.data.digits import read, stratified
from dgm.data.download import download
from dgm.data.images import binarise, read_idx
from dgm.data.table import RemoteFile
from dgm.data.toy import TOYS
from dgm.errors import BadInput


def test_digits_are_scikit_learns() -> None:
    x, y = read()
    theirs = load_digits()
    assert numpy.array_equal(x.reshape(-1, 64).numpy(), theirs.data)
    assert numpy.array_equal(y.numpy(), theirs.target)


def test_the_split_of_digits_never_changes() -> None:
    _, y = read()
    parts = stratified(y, {"train": 1000, "validation": 300, "test": 497}, 1797)
    assert torch.equal(torch.cat(list(parts.values())).sort().values, torch.arange(1797))
    for rows in parts.values():
        share = y[rows].bincount(minlength=10) / len(rows) - y.bincount() / len(y)
        assert share.abs().max() * len(rows) <= 1.5
    digest = hashlib.sha256(torch.cat(list(parts.values())).numpy().tobytes()).hexdigest()
    assert digest == "44ea2a7b2f631cb6c3c26408f9e3e2351bfe9da6b97c969d5c74febc1a5d05f5"


def test_order_is_a_permutation_and_a_pure_function() -> None:
    assert torch.equal(data.order(50, 1, 2), data.order(50, 1, 2))
    assert torch.equal(data.order(50, 1, 2).sort().values, torch.arange(50))
    assert not torch.equal(data.order(50, 1, 2), data.order(50, 1, 3))
    assert not torch.equal(data.order(50, 1, 2), data.order(50, 2, 2))


def test_examples_of_a_condition_are_those_that_have_all_of_it() -> None:
    """Kills: a missing value that equals no other, one equal number that is enough."""
    x, y = torch.arange(4), torch.tensor([[0.0, math.nan], [0.0, 1.0], [math.nan, math.nan], [0.0, math.nan]])
    assert [Split(x, y).given(one).x.tolist() for one in y] == [[0, 3], [1], [2], [0, 3]]
    labelled = Split(x, torch.tensor([2, 0, 2, 1])).given(torch.tensor(2))
    assert (labelled.x.tolist(), labelled.y.tolist()) == ([0, 2], [2, 2])


@pytest.mark.parametrize("name", TOYS)
class TestToys:
    def test_the_density_integrates_to_one(self, name: str) -> None:
        side = (torch.arange(-250, 250, dtype=torch.float64) + 0.5) / 50
        log_p = TOYS[name]().log_prob(torch.cartesian_prod(side, side))
        assert log_p.exp().sum().item() * 4e-4 == pytest.approx(1, abs=2e-4)

    def test_no_point_is_drawn_twice(self, name: str) -> None:
        """Kills: the same random numbers for two splits."""
        points = torch.cat([split.x for split in data.load(f"toy/{name}").splits.values()])
        assert len(points.unique(dim=0)) == len(points) == 14_000

    def test_samples_have_its_frequencies(self, name: str) -> None:
        """Chi-square over the cells of a grid: wrong noise, a shifted arm or a missing blade all show."""
        density = TOYS[name]()
        x = density.sample(20_000, torch.Generator().manual_seed(1))
        cells, fine = 40, 8
        side = (torch.arange(cells * fine, dtype=torch.float64) + 0.5) / (cells * fine) * 10 - 5
        p = density.log_prob(torch.cartesian_prod(side, side)).exp().reshape(cells, fine, cells, fine).sum((1, 3))
        expected = 20_000 * p.flatten() * (10 / (cells * fine)) ** 2
        place = ((x + 5) / 10 * cells).long().clamp(0, cells - 1)
        seen = (place[:, 0] * cells + place[:, 1]).bincount(minlength=cells**2)
        often = expected > 20
        squares = ((seen - expected).square() / expected)[often].sum().item()
        free = int(often.sum())
        assert squares < free + 6 * math.sqrt(2 * free)


def along(curves: list[tuple[numpy.ndarray, numpy.ndarray]], x: numpy.ndarray, std: float) -> numpy.ndarray:
    """log of the mean of a normal's density along curves of equal weight, each a fine line of points."""
    densities = [
        numpy.exp(-((x[:, :1] - a) ** 2 + (x[:, 1:] - b) ** 2) / (2 * std**2)).mean(1) / (2 * math.pi * std**2)
        for a, b in curves
    ]
    return numpy.log(numpy.mean(densities, 0))


def written_out(name: str, x: numpy.ndarray) -> numpy.ndarray:
    """log p of a toy as its own words say, apart from how it is computed there."""
    t = (numpy.arange(5000) + 0.5) / 5000
    match name:
        case "eight_gaussians" | "ring":
            middles = 2 * numpy.exp(2j * math.pi * numpy.arange(8) / 8)
            return along([(m.real, m.imag) for m in middles], x, 0.05 if name == "ring" else 0.2)
        case "grid":
            return along([(float(a), float(b)) for a in range(-2, 3) for b in range(-2, 3)], x, 0.1)
        case "moons":
            c, s = numpy.cos(math.pi * t), numpy.sin(math.pi * t)
            return along([(c - 0.5, s - 0.25), (0.5 - c, 0.25 - s)], x, 0.1)
        case "spiral":
            t = 0.1 + 0.9 * t
            a, b = 2 * t * numpy.cos(3 * math.pi * t), 2 * t * numpy.sin(3 * math.pi * t)
            return along([(a, b), (-a, -b)], x, 0.1)
        case "checkerboard":
            column, row = numpy.floor(x).T
            dark = (abs(x).max(1) < 2) & ((column + row) % 2 == 0)
            return numpy.where(dark, -math.log(8), -math.inf)
    z = (x[:, 0] + 1j * x[:, 1]) / 1.5  # pinwheel
    turned = [z * numpy.exp(-1j * (2 * math.pi * k / 5 + numpy.exp(abs(z)) / 4)) for k in range(5)]
    normal = scipy.stats.norm.pdf
    return numpy.log(sum(normal(u.real, 1, 0.3) * normal(u.imag, 0, 0.1) for u in turned) / 5 / 1.5**2)


@pytest.mark.parametrize(("name", "centre", "std"), [("ring", (2, 0), 0.05), ("eight_gaussians", (0, 2), 0.2)])
def test_a_mode_is_three_standard_deviations_wide(name: str, centre: tuple[float, float], std: float) -> None:
    modes = TOYS[name]().modes
    assert modes is not None
    x = torch.tensor([centre] * 2) + std * torch.tensor([[2.9, 0], [3.1, 0]])
    assert (modes.of(x) >= 0).tolist() == [True, False]


@pytest.mark.parametrize("name", TOYS)
def test_toys_are_what_they_are_called(name: str) -> None:
    """Where they have their mass; the points along a curve stand for the curve to 2e-3 there."""
    density = TOYS[name]()
    x = density.sample(200, torch.Generator().manual_seed(1))
    x = torch.cat([x, x + 0.1])
    found, expected = density.log_prob(x).numpy(), written_out(name, x.numpy())
    numpy.testing.assert_allclose(found, expected, rtol=0, atol=3e-3)


def test_dynamic_binarisation_draws_anew_with_the_pixels_probability() -> None:
    grey = torch.full((1, 1, 100, 100), 51, dtype=torch.uint8)
    first, second = binarise(grey), binarise(grey)
    assert first.float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert not torch.equal(first, second)
    assert binarise(torch.zeros_like(grey)).sum() == 0
    assert binarise(torch.full_like(grey, 255)).min() == 1


def test_an_idx_file_of_ones_own(tmp_path: Path) -> None:
    values = numpy.arange(24, dtype=numpy.uint8).reshape(2, 3, 4)
    header = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in values.shape)
    (tmp_path / "a.gz").write_bytes(gzip.compress(header + values.tobytes()))
    assert torch.equal(read_idx(tmp_path / "a.gz"), torch.from_numpy(values))
    (tmp_path / "a.gz").write_bytes(gzip.compress(header + values.tobytes()[:-1]))
    with pytest.raises(BadInput, match="not an idx file"):
        read_idx(tmp_path / "a.gz")
    (tmp_path / "a.gz").write_bytes(b"no gzip")
    with pytest.raises(BadInput, match="not a gzip"):
        read_idx(tmp_path / "a.gz")


@pytest.mark.parametrize(
    ("name", "sizes", "mean"),
    [
        ("mnist", (50_000, 10_000, 10_000), 33.3),
        ("fashion_mnist", (50_000, 10_000, 10_000), 72.9),
        ("binarized_mnist", (50_000, 10_000, 10_000), 0.13),
        ("mnist/dynamic", (50_000, 10_000, 10_000), 0.13),
        ("cifar10", (40_000, 10_000, 10_000), 120.7),
    ],
)
def test_published_sets(data_root: Path, name: str, sizes: tuple[int, ...], mean: float) -> None:
    found = data.load(name, root=data_root)
    assert tuple(len(split) for split in found.splits.values()) == sizes
    x, _ = found.train.batch(torch.arange(5000))
    found.space.check(x)
    assert x.double().mean().item() == pytest.approx(mean, rel=0.03)


CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, list[str | None]]]:
    """A server on this machine. ``cut`` closes the first connection half-way, ``rangeless`` ignores ranges."""
    behaviour, asked = getattr(request, "param", ""), []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            span = self.headers["Range"]
            asked.append(span)
            start = int(span.removeprefix("bytes=").rstrip("-")) if span and behaviour != "rangeless" else 0
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            body = CONTENT[start:]
            self.wfile.write(body[: len(body) // 2] if behaviour in ("cut", "rangeless") and len(asked) == 1 else body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_address[1]}/file", asked
        found.shutdown()


def remote(address: str, content: bytes = CONTENT) -> RemoteFile:
    return RemoteFile("file", address, len(CONTENT), hashlib.sha256(content).hexdigest())


def test_a_download_is_checked_and_put_in_place(server: tuple[str, list[str | None]], tmp_path: Path) -> None:
    download(remote(server[0]), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("server", ["cut", "rangeless"], indirect=True)
def test_a_download_that_was_cut_goes_on(server: tuple[str, list[str | None]], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="run it again"):
        download(remote(server[0]), tmp_path / "file")
    assert not (tmp_path / "file").exists()
    download(remote(server[0]), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server[1] == [None, f"bytes={len(CONTENT) // 2}-"]


def test_another_file_than_the_published_one_is_refused(server: tuple[str, list[str | None]], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="the published file has"):
        download(remote(server[0], b"other"), tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_no_network_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"could not be downloaded.*put the file into"):
        download(remote("http://127.0.0.1:9/file"), tmp_path / "file")
