"""Frames with variables below their pixels."""

import numpy as np
from gymnasium import spaces

from rltrain.envs.spaces import PixelsAndVariables, in_words, pixel_shape


def test_variables_stand_below_the_picture():
    """Bugs: a value wrapped around at 256, cut instead of rounded, or left over from the frame before."""
    space = PixelsAndVariables(3, 4, 5, 6)
    assert space.shape == (3, 6, 5) and pixel_shape(space) == (3, 4, 5)
    frame = np.full(space.shape, 7, np.uint8)
    space.write(frame, np.array([0, 100, 255, 256, -3, 49.6]))
    assert (frame[:, :4] == 7).all() and (frame[1:, 4:] == 0).all()
    assert frame[0, 4:].tolist() == [[0, 100, 255, 255, 0], [50, 0, 0, 0, 0]]
    assert space.contains(frame)


def test_a_row_is_added_only_where_it_is_needed():
    assert [PixelsAndVariables(1, 60, 80, n).shape[1] for n in (0, 1, 80, 81)] == [60, 61, 61, 62]


def test_other_spaces_keep_their_shape():
    assert pixel_shape(spaces.Box(0, 255, (1, 60, 80), np.uint8)) == (1, 60, 80)
    assert pixel_shape(spaces.Discrete(3)) == ()


def test_words_tell_large_spaces_apart():
    """Bug: NumPy writes "..." for the middle of 1,200 numbers, so other bounds in there were the same in words."""
    low, high = -np.ones(1200, np.float32), np.linspace(1, 2, 1200, dtype=np.float32)
    other = np.where(np.arange(1200) == 600, 5, high).astype(np.float32)
    frame = spaces.Discrete(3)
    words, again, changed = (in_words(frame, spaces.Box(low, each)) for each in (high, high.copy(), other))
    assert words == again != changed
    assert in_words(frame, spaces.Discrete(4)) == ["Discrete(3)", "Discrete(4)"]
