"""Streams: the generator's known answers, which number is which, and how the numbers are distributed."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from dgm import seeds
from dgm.seeds import SHARE, Philox, Streams, box_muller, categorical, mix, shuffled, stratified, streams

WORD = (1 << 32) - 1
LEAST_P = 1e-4  # of a test on a fixed seed: right numbers fall below it once in ten thousand seeds


def philox(counter: list[int], key: int) -> list[int]:
    """A block of Philox4x32-10 in plain integers."""
    c, k = counter, [key & WORD, key >> 32]
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(q >> 32) ^ c[1] ^ k[0], q & WORD, (p >> 32) ^ c[3] ^ k[1], p & WORD]
        k = [(k[0] + 0x9E3779B9) & WORD, (k[1] + 0xBB67AE85) & WORD]
    return c


def words(seed: int, key: int, count: int) -> list[int]:
    """The first words of a stream."""
    blocks = [philox([b, 0, key & WORD, key >> 32 & WORD], mix(seed)) for b in range(-(-count // 4))]
    return [word for block in blocks for word in block][:count]


class TestPhilox:
    @pytest.mark.parametrize(
        ("counter", "key", "answer"),
        [  # kat_vectors of Random123
            ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
            ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
            ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
        ],
    )
    def test_known_answers(self, counter: str, key: str, answer: str) -> None:
        c, k, known = ([int(word, 16) for word in line.split()] for line in (counter, key, answer))
        even, odd = torch.tensor(c[::2])[:, None].repeat(1, 3), torch.tensor(c[1::2])[:, None].repeat(1, 3)
        Philox(k[0] | k[1] << 32)(even, odd)
        assert torch.stack([even, odd], 1).view(4, 3).T.tolist() == [known] * 3
        assert philox(c, k[0] | k[1] << 32) == known


class TestWhichNumber:
    def test_uniform_numbers_are_the_words_of_their_stream(self) -> None:
        keys = [0, 1, 5, 1 << 31, (1 << 40) + 3, -1]
        drawn = Streams(11, keys).uniform((3, 7))
        known = [[(word >> 8) / 2**24 for word in words(11, key, 21)] for key in keys]
        assert drawn.flatten(1).tolist() == known

    def test_normal_numbers_are_made_of_two_words(self) -> None:
        drawn = Streams(11, [4]).normal((10,))[0].double()
        pairs = torch.tensor(words(11, 4, 10), dtype=torch.float64).view(5, 2)
        radius, angle = (-2 * ((pairs[:, 0] + 0.5) / 2**32).log()).sqrt(), 2 * math.pi * pairs[:, 1] / 2**32
        known = torch.stack([radius * angle.cos(), radius * angle.sin()], 1).flatten()
        assert torch.allclose(drawn, known, rtol=0, atol=4e-6)  # float32 rounds an angle near 2 pi by 2e-7, times 5

    @pytest.mark.parametrize("shape", [(), (2,), (5,), (64,), (3, 32, 32)])
    @pytest.mark.parametrize("kind", ["normal", "uniform"])
    def test_a_stream_is_its_own(self, kind: str, shape: tuple[int, ...]) -> None:
        together, alone, few = Streams(7, range(70)), Streams(7, [69]), Streams(7, [3, 69])
        for _ in range(3):
            rows = getattr(together, kind)(shape)
            assert torch.equal(rows[69:], getattr(alone, kind)(shape))
            assert torch.equal(rows[[3, 69]], getattr(few, kind)(shape))

    @pytest.mark.parametrize("scale", [3, 7, 10, 1 << 15])
    def test_parts_make_no_difference(self, monkeypatch: pytest.MonkeyPatch, scale: int) -> None:
        known = Streams(1, range(6)).normal((9, 1000))
        monkeypatch.setattr(seeds, "CACHED", 250 * scale)
        assert torch.equal(Streams(1, range(6)).normal((9, 1000)), known)

    def test_reading_ahead_makes_no_difference(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def drawn() -> list[Tensor]:
            own = Streams(2, range(5))
            sizes = [1, 8, 3, 700, 2, 9_000, 1, 5, 0, 4]
            return [own.normal((size,)) if size % 2 else own.uniform((size,)) for size in sizes]

        ahead = drawn()
        monkeypatch.setattr(seeds, "AHEAD", 1)
        assert all(torch.equal(a, b) for a, b in zip(ahead, drawn(), strict=True))

    def test_no_number_is_drawn_twice(self) -> None:
        drawn = Streams(3, range(50))
        numbers = torch.cat([drawn.normal((40,)).flatten() for _ in range(20)])
        assert len(numbers.unique()) > len(numbers) - 60  # 40,000 of float32 meet by chance some 20 times


class TestDistribution:
    @pytest.mark.parametrize(("keys", "size"), [(range(1), 200_000), (range(50_000), 4), (range(400), 500)])
    def test_of_one_long_stream_and_of_many_short_ones(self, keys: range, size: int) -> None:
        normal, uniform = (
            getattr(Streams(5, keys), kind)((size,)).flatten().double() for kind in ("normal", "uniform")
        )
        assert stats.kstest(normal.numpy(), "norm").pvalue > LEAST_P
        assert stats.kstest(uniform.numpy(), "uniform").pvalue > LEAST_P
        assert uniform.min() >= 0
        assert uniform.max() < 1
        for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
            assert abs(normal.pow(power).mean() - moment) < 4 * math.sqrt(variance / len(normal))

    def test_tails(self) -> None:
        z = Streams(6, range(8)).normal((500_000,)).abs()
        for far in (3.0, 4.0, 4.7):
            expected = 2 * stats.norm.sf(far) * z.numel()
            assert abs((z > far).sum() - expected) < 4 * math.sqrt(expected)

    def test_the_ends_of_the_words(self) -> None:
        z, _ = box_muller(torch.tensor([0, 0, WORD, WORD]), torch.tensor([0, WORD, 0, WORD]))
        assert z.tolist() == pytest.approx([math.sqrt(66 * math.log(2))] * 2 + [0, 0])

    def test_streams_draws_and_seeds_are_independent(self) -> None:
        """The numbers and their squares: of neighbouring seeds, streams, draws and places, the two of a pair too."""
        own = Streams(9, [1])
        of_seeds = [Streams(seed, [0]).normal((2000,)) for seed in range(-2, 3)]
        of_streams = Streams(2**40, [*range(4), 2**32, 2**33]).normal((2000,))
        of_draws, of_places = [own.normal((2000,)) for _ in range(3)], Streams(8, [0]).normal((2000, 8))[0].T
        rows = torch.cat([*of_seeds, of_streams, *of_draws, of_places])
        for powers in (rows, rows.square(), rows.abs()):
            correlation = torch.corrcoef(powers) - torch.eye(len(rows))
            assert correlation.abs().max() < 5 / math.sqrt(2000)

    def test_mix_is_splitmix64(self) -> None:
        """The first number of its seed 0, and one number folded over another. Kills: a shift or a factor changed."""
        assert mix(0) == 0xE220A8397B1DCDAF
        assert mix(0, -mix(0)) == mix(0)  # the same state again
        assert mix(5) == mix(5 + (1 << 64))
        assert mix(1, 2) != mix(2, 1)

    def test_mix_meets_no_pair_twice(self) -> None:
        assert len({mix(a, b) for a in range(50) for b in range(50)}) == 2500


class TestCategorical:
    def test_has_the_frequencies_of_its_logits(self) -> None:
        p = torch.tensor([0.1, 0.0, 0.6, 0.3])
        seen = streams(20_000, 3).categorical(p.log().expand(20_000, 4)).bincount(minlength=4) / 20_000
        assert (seen - p).abs().max() < 5 * math.sqrt(0.25 / 20_000)
        assert seen[1] == 0

    def test_what_has_no_probability_is_never_drawn(self) -> None:
        """At the ends of u and where the distribution function meets u exactly."""
        logits = torch.tensor([0.0, 0.5, 0.0, 0.5, 0.0]).log()
        u = torch.tensor([0.0, 0.25, 0.5, 1 - 2**-24])
        assert categorical(logits.expand(4, 5), u).tolist() == [1, 1, 3, 3]


class TestShuffled:
    def test_processes_have_the_numbers_of_the_whole_batch_in_turn(self) -> None:
        """Also where there are fewer numbers than examples. Kills: a share of consecutive ones, numbers that differ."""

        def drawn(n: int, rank: int, world: int) -> Tensor:
            torch.manual_seed(3)
            token = SHARE.set((rank, world))
            try:
                return shuffled(n, 10)
            finally:
                SHARE.reset(token)

        for n in (6, 14):
            whole = drawn(n, 0, 1)
            assert len(whole.unique()) == min(n, 10)
            assert torch.equal(torch.stack([drawn(n // 2, rank, 2) for rank in range(2)], 1).flatten(), whole)


class TestStratified:
    def test_neighbours_are_an_nth_apart_and_each_is_uniform(self) -> None:
        """Kills: an offset that is the same each time, one for each number, or one that leaves [0, 1)."""
        drawn = torch.stack([stratified(5) for _ in range(2000)])
        assert drawn.min() >= 0
        assert drawn.max() < 1
        assert torch.allclose(drawn.sort(1).values.diff(), torch.tensor(0.2), atol=1e-6)
        for numbers in drawn.T:
            assert stats.kstest(numbers.numpy(), "uniform").pvalue > LEAST_P


def test_without_a_seed_streams_are_new_ones_and_torchs_own_seed_decides() -> None:
    torch.manual_seed(4)
    first, second = (streams(2, None).uniform((3,)) for _ in range(2))
    assert not torch.equal(first, second)
    torch.manual_seed(4)
    assert torch.equal(streams(2, None).uniform((3,)), first)
    given = Streams(1, [5])
    assert streams(1, given) is given


def test_another_device_than_a_cpu_draws_all_its_numbers_in_one_block() -> None:
    """Shapes alone, without a GPU. Kills: a number of blocks that is no whole number."""
    drawn = streams(3000, 0, torch.device("meta")).uniform((5,))
    assert (tuple(drawn.shape), drawn.device.type) == ((3000, 5), "meta")
