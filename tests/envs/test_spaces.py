"""Frames with variables below their pixels."""

import copy

import numpy as np
from gymnasium import spaces

from rltrain.envs.spaces import PixelsAndVariables, ScaledActions, in_words, pixel_shape


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


def test_a_space_in_words_does_not_depend_on_numpys_print_options():
    """Bug: a run whose environment sets them in `reset` was refused for good: its spaces had changed, as a text."""
    low, high = np.array([-1.2345, -0.5], np.float32), np.array([1.2345, np.inf], np.float32)
    box, long = spaces.Box(low, high), spaces.Box(np.linspace(-1, 0, 2000, dtype=np.float32), np.float32(2))
    scaled = ScaledActions(np.full(2, -1, np.float32), np.ones(2, np.float32), box)
    one = spaces.Box(-1, 1, (3,), np.float32)
    cases = [box, long, scaled, one, spaces.MultiDiscrete(np.arange(2, 50)), spaces.Discrete(3, start=-1)]
    usual = [in_words(one, copy.deepcopy(space))[1] for space in cases]
    assert usual[:2] == [str(copy.deepcopy(box)), usual[1]] and usual[3:] == list(map(str, cases[3:])), "as gymnasium"
    assert usual[0] == "Box([-1.2345 -0.5   ], [1.2345    inf], (2,), float32)" and "..." in usual[1]
    assert usual[2] == f"Box(-1.0, 1.0, (2,), float32) for {usual[0]}"
    with np.printoptions(
        precision=1, threshold=3, linewidth=20, infstr="much", formatter={"float": "about {:.0f}".format}
    ):
        assert all("about" in str(copy.deepcopy(space)) for space in cases[:1]), "the control"
        str(box)  # which keeps the text
        assert [in_words(one, space)[1] for space in cases] == usual
    assert [in_words(one, space)[1] for space in cases] == usual
