"""What stands where in a picture for watchers."""

import numpy as np
import pytest

from rltrain.watching import screens
from rltrain.watching.canvas import compose


def game(height, width, colour=(200, 50, 0)):
    return np.full((height, width, 3), colour, np.uint8)


def test_the_game_stands_on_the_left_enlarged_by_a_whole_number_and_in_its_colours():
    picture = game(210, 160)
    picture[0, 0] = (1, 2, 3)
    canvas = compose(picture, None, 0, "")
    assert canvas.shape[1] == 320
    assert (canvas[:2, :2] == (1, 2, 3)).all()
    assert (canvas[2:420, 2:320] == (200, 50, 0)).all()


def test_what_the_network_sees_stands_beside_it_oldest_first_from_the_top():
    obs = np.array([10, 20, 30, 40], np.uint8)[:, None, None].repeat(60, axis=1).repeat(80, axis=2)
    canvas = compose(game(480, 640), obs, 1, "")
    column = canvas[:480, 650]
    seen = [value[0] for i, value in enumerate(column.tolist()) if i == 0 or value != column[i - 1].tolist()]
    assert [value for value in seen if value in (10, 20, 30, 40)] == [10, 20, 30, 40]
    gray = canvas[:100, 660:700]
    assert (gray == gray[:, :, :1]).all()


def test_a_frame_is_upright_and_not_mirrored():
    frame = np.zeros((1, 60, 80), np.uint8)
    frame[0, :30, :40] = 255  # bright above and on the left
    canvas = compose(game(480, 640), frame, 1, "")
    column = canvas[:480, 646:]
    half = column.shape[1] // 2
    assert column[100, half // 2, 0] == 255
    assert column[100, half + half // 2, 0] == 0
    assert column[400, half // 2, 0] == 0


def test_colour_frames_keep_their_colours():
    frame = np.stack([np.full((30, 40), value, np.uint8) for value in (250, 100, 5)] * 2)
    canvas = compose(game(420, 420), frame, 3, "")
    assert canvas[100, 500].tolist() == [250, 100, 5]
    assert canvas[400, 500].tolist() == [250, 100, 5]


@pytest.mark.parametrize(("height", "width", "stack"), [(211, 161, 4), (97, 33, 3), (500, 501, 5), (1000, 999, 1)])
def test_sides_are_even_as_video_codecs_want_them(height, width, stack):
    canvas = compose(game(height, width), np.zeros((stack, 61, 83), np.uint8), 1, "score 1")
    assert canvas.shape[0] % 2 == canvas.shape[1] % 2 == 0
    assert canvas.dtype == np.uint8


def test_the_caption_is_drawn_below_and_shrinks_to_fit():
    plain, written = compose(game(420, 420), None, 0, ""), compose(game(420, 420), None, 0, "score 12   step 3")
    assert (plain[:420] == written[:420]).all()
    assert (plain[420:] != written[420:]).any()
    long = compose(game(420, 420), None, 0, "word " * 60)
    assert (long[420:, -4:] == plain[420:, -4:]).all(), "the text runs out of the picture"


@pytest.mark.parametrize("size", [(1, 200), (1, 400), (1, 5000), (5000, 1), (2, 30000)])
@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_a_row_of_pixels_fits_into_a_film(size, name, tmp_path):
    """Bug: "int too big to convert ... a bug in rltrain" for a scan of 400 pixels, drawn 420 high and 168,000 wide."""
    film = screens.film(tmp_path / name, 10)
    for shade in (50, 250):
        film.show(compose(game(40, 40), np.full((1, *size), shade, np.uint8), 1, ""))
        assert compose(game(*size), None, 1, "").shape[1] < 12_000
    film.close()
    assert (tmp_path / name).stat().st_size > 0


def test_a_low_wide_picture_does_not_become_too_wide_for_a_film():
    """Bug: a picture of one row is enlarged 420 times, to a width that no codec takes."""
    canvas = compose(np.zeros((1, 300, 3), np.uint8), np.zeros((4, 1, 300), np.uint8), 1, "caption")
    assert canvas.shape[1] < 2000
