"""Films and windows: right size, right speed, whole files."""

import errno
import os

import numpy as np
import pytest
from films import read_film
from PIL import Image

from rltrain.errors import DiskError
from rltrain.watching import screens


def pictures(count, height=64, width=96):
    """A bar that moves one pixel a picture."""
    for number in range(count):
        picture = np.zeros((height, width, 3), np.uint8)
        picture[:, number % width] = (255, 120, 0)
        yield picture


def test_an_mp4_has_the_size_the_speed_and_every_picture(tmp_path):
    film = screens.film(tmp_path / "a.mp4", 35)
    assert isinstance(film, screens.Mp4)
    for picture in pictures(70):
        film.show(picture)
    assert not list(tmp_path.glob("a.mp4")), "a file that is not whole yet has its final name"
    film.close()
    frames, fps = read_film(tmp_path / "a.mp4")
    assert (len(frames), fps) == (70, 35)
    assert frames[0].shape == (64, 96, 3)
    assert b"avc1" in (tmp_path / "a.mp4").read_bytes(), "browsers play H.264"
    assert frames[40][32, 40, 0] > frames[40][32, 60, 0] + 50
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_pictures_of_another_size_are_scaled_to_the_first(name, tmp_path):
    """Bug: the film was noise from the first picture on that had another size. Here the left half is always white."""
    film = screens.film(tmp_path / name, 10)
    for size in (40, 56, 30):
        picture = np.zeros((size, size + 4, 3), np.uint8)
        picture[:, : size // 2] = 255
        film.show(picture)
    film.close()
    if name == "a.mp4":
        frames, _ = read_film(tmp_path / name)
    else:
        with Image.open(tmp_path / name) as gif:
            frames = [np.asarray(gif.convert("RGB")) for n in range(gif.n_frames) if gif.seek(n) is None]
    assert len(frames) == 3
    for frame in frames:
        assert frame.shape == (40, 44, 3) and frame[:, :15].min() > 200 and frame[:, 25:].max() < 50


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_a_step_of_an_hour_is_shown_for_a_second(name, tmp_path):
    """Bug: OverflowError, "a bug in rltrain", for an environment with `render_fps` 1 / 3600."""
    film = screens.film(tmp_path / name, 1 / 3600)
    for picture in pictures(3):
        film.show(picture)
    film.close()
    if name == "a.mp4":
        assert read_film(tmp_path / name)[1] == 1
    else:
        with Image.open(tmp_path / name) as gif:
            assert gif.info["duration"] == 1000


def test_a_film_that_cannot_be_written_is_a_disk_error_and_leaves_nothing(tmp_path):
    (tmp_path / ".partial-a.mp4").mkdir()
    film = screens.film(tmp_path / "a.mp4", 30)
    with pytest.raises(DiskError, match="the video cannot be written"):
        for picture in pictures(2000):
            film.show(picture)
        film.close()
    film.close()
    assert not (tmp_path / "a.mp4").exists()


@pytest.mark.parametrize("link, name", [(".partial-a.mp4", "a.mp4"), ("a.mp4", "a.mp4"), ("a.gif", "a.gif")])
def test_a_film_is_not_written_through_a_link(link, name, tmp_path):
    """Bug: in a folder of somebody else's, `.partial-a.mp4` or `a.gif` led to a file of the user's, now a film."""
    (tmp_path / "thesis").write_text("mine")
    (tmp_path / link).symlink_to(tmp_path / "thesis")
    film = screens.film(tmp_path / name, 30)
    for picture in pictures(3):
        film.show(picture)
    film.close()
    assert (tmp_path / "thesis").read_text() == "mine"
    assert (tmp_path / name).stat().st_size > 100 and not (tmp_path / name).is_symlink()


def test_closing_a_film_without_pictures_makes_no_file(tmp_path):
    for name in ("a.mp4", "a.gif"):
        film = screens.film(tmp_path / name, 30)
        film.close()
    assert not list(tmp_path.iterdir())


def test_without_ffmpeg_a_gif_takes_as_long_as_the_play(tmp_path, monkeypatch):
    monkeypatch.setattr(screens, "ffmpeg", lambda: None)
    path = screens.film_path(tmp_path / "step_000000001.x.mp4")
    assert path.name == "step_000000001.x.gif"
    film = screens.film(path, 35)
    for picture in pictures(105, height=400):  # 3 s
        film.show(picture)
    film.close()
    with Image.open(path) as gif:
        assert gif.size == (48, 200)
        durations = []
        for number in range(gif.n_frames):
            gif.seek(number)
            durations.append(gif.info["duration"])
    assert sum(durations) == pytest.approx(3000, rel=0.1)
    assert 60 <= durations[0] <= 100


def test_a_long_gif_is_thinned_out_and_not_cut(tmp_path):
    film = screens.Gif(tmp_path / "a.gif", 12.5)
    film._MAX_PICTURES = 10
    for picture in pictures(80):
        film.show(picture)
    assert 5 <= len(film._pictures) <= 11
    film.close()
    with Image.open(tmp_path / "a.gif") as gif:
        total_ms = 0
        for number in range(gif.n_frames):
            gif.seek(number)
            total_ms += gif.info["duration"]
    assert total_ms == pytest.approx(80 / 12.5 * 1000, rel=0.15)


def test_a_gif_that_cannot_be_written_keeps_the_older_one(tmp_path, monkeypatch):
    """Bug: an older film cut off where the disk was full."""
    path = tmp_path / "a.gif"
    path.write_bytes(b"older")
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    film = screens.film(path, 35)
    film.show(next(iter(pictures(1))))
    with pytest.raises(DiskError, match="full"):
        film.close()
    assert path.read_bytes() == b"older" and len(list(tmp_path.iterdir())) == 1


def test_colours_of_a_gif_are_chosen_while_it_is_shown(tmp_path):
    """Bug: closing a film of many colours answered no signal for a minute."""
    film = screens.Gif(tmp_path / "a.gif", 12.5)
    film.show(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    assert film._pictures[0].mode == "P"


def test_an_ffmpeg_that_is_gone_is_none(monkeypatch):
    """Bug: a traceback for a variable that names a program of another machine."""
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nowhere/ffmpeg")
    monkeypatch.setenv("PATH", "")
    assert screens.ffmpeg() is None


def test_an_ffmpeg_of_the_system_does_where_the_extra_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    monkeypatch.setattr(screens.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert screens.ffmpeg() == "/usr/bin/ffmpeg"
    monkeypatch.setattr(screens.shutil, "which", lambda name: None)
    assert screens.ffmpeg() is None


def test_a_display_is_where_the_variables_say(monkeypatch):
    monkeypatch.setattr(screens.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    assert not screens.has_display()
    monkeypatch.setenv("DISPLAY", ":0")
    assert screens.has_display()
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    assert not screens.has_display()


def test_a_window_shows_the_picture_upright_at_its_speed_and_ends_when_it_is_closed(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    window = screens.Window("title", 200)
    try:
        pygame = window._pygame
        picture = np.zeros((40, 60, 3), np.uint8)
        picture[5, 50] = (255, 0, 7)
        window.show(picture)
        surface = pygame.display.get_surface()
        assert surface.get_size() == (60, 40)
        assert tuple(surface.get_at((50, 5)))[:3] == (255, 0, 7)
        begin_ms = pygame.time.get_ticks()
        for _ in range(20):
            window.show(picture)
        assert pygame.time.get_ticks() - begin_ms >= 80, "20 pictures at 200 a second take 100 ms"
        pygame.event.post(pygame.event.Event(pygame.QUIT))
        with pytest.raises(screens.Closed):
            window.show(picture)
        pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_ESCAPE))
        with pytest.raises(screens.Closed):
            window.show(picture)
    finally:
        window.close()


@pytest.mark.parametrize("kind", [screens.Gif, screens.Mp4])
def test_a_folder_in_the_films_place_is_told_as_one(kind, tmp_path):
    """Bugs: the advice for a GIF was to free some space; for an mp4 it was a bug in rltrain."""
    place = tmp_path / ("a.gif" if kind is screens.Gif else "a.mp4")
    place.mkdir()
    film = screens.film(place, 35)
    assert isinstance(film, kind)
    for picture in pictures(2):
        film.show(picture)
    with pytest.raises(DiskError, match="it is a folder: give the path of a file"):
        film.close()
