"""Pieces of a ring: an equal stamp means equal rows, and what was not written keeps its stamp."""

import numpy as np
import pytest

from rltrain.buffers import pieces
from rltrain.buffers.pieces import Pieces


@pytest.fixture(autouse=True)
def four_rows(monkeypatch):
    monkeypatch.setattr(pieces, "PIECE_BYTES", 4 * 8)


class Writer:
    """Two rings of `length` numbers, written at heads that move by one or two at a time as a replay's do."""

    def __init__(self, length, seed):
        self.rings, self.head = np.zeros((2, length, 1)), np.zeros(2, np.int64)
        self.pieces, self.rng = Pieces(self.rings), np.random.default_rng(seed)
        self.num_adds = self.used = 0

    def add(self, count):
        length = self.rings.shape[1]
        for _ in range(count):
            for ring in range(2):
                for at in (self.head[ring], self.head[ring] + 1):
                    self.rings[ring, at % length] = self.rng.random()
            self.used = max(self.used, min(int(self.head.max()) + 2, length))
            self.head = (self.head + 1 + (self.rng.random(2) < 0.3)) % length
            self.num_adds += 1

    def save(self):
        state = self.pieces.state_dict(self.head, self.num_adds, self.used)
        copies = {key: (value.rows.copy(), value.stamp) for key, value in state.items() if isinstance(value, tuple)}
        return copies, {key: np.copy(value) for key, value in state.items() if key not in copies}


@pytest.mark.parametrize("length", [4, 10, 23, 64])
@pytest.mark.parametrize("seed", range(5))
def test_an_equal_stamp_means_equal_rows_however_far_the_heads_went(length, seed):
    writer, saved = Writer(length, seed), []
    for _ in range(30):
        writer.add(int(writer.rng.integers(0, 2 * length)))
        saved.append(writer.save()[0])
    linked = 0
    for later, state in enumerate(saved):
        for earlier in saved[:later]:
            for key in earlier.keys() & state.keys():
                if earlier[key][1] == state[key][1]:
                    linked += 1
                    np.testing.assert_array_equal(earlier[key][0], state[key][0])
    assert linked or length == 4, "the control: some did not change"


def test_only_what_was_written_is_stamped_again():
    writer = Writer(400, 0)
    writer.add(500)
    before = writer.save()[0]
    writer.add(10)
    after = writer.save()[0]
    changed = [key for key in after if after[key][1] != before[key][1]]
    assert 2 <= len(changed) <= 2 * 7, "ten steps are at most 21 rows of four to a piece, in each of two rings"
    assert len(after) == 200


def test_stamps_go_on_in_a_process_that_was_resumed():
    writer = Writer(64, 0)
    writer.add(100)
    before, rest = writer.save()
    other = Writer(64, 1)
    other.pieces.load_state_dict(rest | {key: rows for key, (rows, _) in before.items()})
    np.testing.assert_array_equal(other.rings, writer.rings)
    other.head, other.num_adds, other.used = writer.head.copy(), writer.num_adds, writer.used
    other.add(3)
    after = other.save()[0]
    for key in before:
        assert (before[key][1] == after[key][1]) <= np.array_equal(before[key][0], after[key][0])
    assert 0 < sum(before[key][1] == after[key][1] for key in before) < len(before)


def test_pieces_of_another_length_are_refused():
    writer = Writer(64, 0)
    writer.add(10)
    copies, rest = writer.save()
    with pytest.raises(ValueError, match="the saved pieces"):
        Pieces(np.zeros((2, 32, 1))).load_state_dict(rest | {key: rows for key, (rows, _) in copies.items()})
    with pytest.raises(ValueError, match="a saved piece is"):
        broken = {key: rows[:-1] for key, (rows, _) in copies.items()}
        Pieces(np.zeros((2, 64, 1))).load_state_dict(rest | broken)
