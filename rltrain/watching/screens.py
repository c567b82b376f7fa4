"""Screens that show pictures: a window, or an mp4 or GIF file."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from rltrain.errors import DiskError, disk_errors
from rltrain.system import atomic

SLOWEST_FPS = 1.0
"""The fewest pictures per second of a screen. An environment whose steps are hours asks for fewer, which no GIF can say
and nobody would watch."""


class Closed(Exception):
    """The user closed the window."""


class Screen(Protocol):
    """Shows pictures [H, W, 3] uint8 of one size at `fps` pictures per second."""

    def show(self, picture: np.ndarray) -> None:
        """Show the next picture. Raises Closed, DiskError."""
        ...

    def close(self) -> None:
        """Finish the file or close the window."""
        ...


def has_display() -> bool:
    """Return True if a window can be opened."""
    if os.environ.get("SDL_VIDEODRIVER") in ("dummy", "offscreen"):
        return False
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def ffmpeg() -> str | None:
    """Return the path of ffmpeg from imageio-ffmpeg (the extra `video`) or the system, or None."""
    with contextlib.suppress(ImportError, RuntimeError):
        import imageio_ffmpeg

        found = str(imageio_ffmpeg.get_ffmpeg_exe())  # what IMAGEIO_FFMPEG_EXE says may be gone
        if shutil.which(found):
            return found
    return shutil.which("ffmpeg")


def film_path(path: Path) -> Path:
    """Return the path with the ending .mp4, or .gif if there is no ffmpeg."""
    return path.with_suffix(".mp4" if ffmpeg() else ".gif")


def film(path: Path, fps: float) -> Screen:
    """Return a screen that writes a video file, of the type given by the path's ending."""
    program, fps = ffmpeg(), max(fps, SLOWEST_FPS)
    return Mp4(path, fps, program) if path.suffix == ".mp4" and program else Gif(path, fps)


def _of_size(picture: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a picture scaled to a film's size: an environment may draw each of its levels in another size."""
    if picture.shape == shape:
        return picture
    return cv2.resize(picture, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)


class Mp4:
    """Writes H.264 with an ffmpeg process. The file gets its name only when it is complete."""

    def __init__(self, path: Path, fps: float, program: str) -> None:
        self._path, self._fps, self._program = path, fps, program
        self._partial = path.with_name(f".partial-{path.name}")
        self._process: subprocess.Popen[bytes] | None = None
        self._shape: tuple[int, ...] = ()
        """The shape of the first picture."""

    def show(self, picture: np.ndarray) -> None:
        """Add a picture. The first picture determines the size. Raises DiskError."""
        if self._process is None:
            self._shape = picture.shape
            self._process = self._start(*picture.shape[:2])
        picture = _of_size(picture, self._shape)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(picture.tobytes())
        except BrokenPipeError:
            self.close()  # raises the error of the encoder

    def close(self) -> None:
        """Wait for the encoder and rename the file. Raises DiskError if the encoder failed."""
        process, self._process = self._process, None
        if process is None:
            return
        _, messages = process.communicate()
        if process.returncode:
            with contextlib.suppress(OSError):
                self._partial.unlink()
            lines = messages.decode(errors="replace").strip().splitlines() or ["no reason given"]
            raise DiskError(f"the video cannot be written: {lines[-1]}", str(self._path), "free some space")
        with disk_errors("the video", self._path):
            self._partial.replace(self._path)

    def _start(self, height: int, width: int) -> "subprocess.Popen[bytes]":
        source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{self._fps:g}", "-i", "-"]
        target = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p", "-f", "mp4"]
        with disk_errors("the video", self._path):
            os.close(atomic.new(self._partial))  # ffmpeg follows a link
        command = [self._program, "-loglevel", "error", "-y", *source, *target, str(self._partial)]
        # In a new session, so that Ctrl-C does not reach ffmpeg and the video up to then is still completed.
        return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


class Gif:
    """Writes a GIF with about 12.5 pictures per second, at half the size if the height is above 300 pixels.

    A GIF of more than 1,000 pictures drops every second picture instead of ending early.
    """

    _MAX_PICTURES = 1000

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._every = max(1, round(fps / 12.5))
        self._count = 0
        self._pictures: list[Any] = []
        self._shape: tuple[int, ...] = ()
        """The shape of the first picture."""

    def show(self, picture: np.ndarray) -> None:
        """Add one of `_every` pictures."""
        from PIL import Image

        if self._count == 0:
            self._shape = picture.shape
        if self._count % self._every == 0:
            picture = _of_size(picture, self._shape)
            # Now and by the fastest method: at the end, the colours of a long film would keep a stop waiting.
            small = Image.fromarray(picture[::2, ::2] if picture.shape[0] > 300 else picture)
            self._pictures.append(small.quantize(128, Image.Quantize.FASTOCTREE))
        self._count += 1
        if len(self._pictures) > self._MAX_PICTURES:
            self._pictures = self._pictures[::2]
            self._every *= 2

    def close(self) -> None:
        """Write the file. Raises DiskError."""
        if not self._pictures:
            return
        first, *rest = self._pictures
        duration_ms = 1000 * self._every / self._fps
        film = io.BytesIO()
        first.save(film, "GIF", save_all=True, append_images=rest, duration=duration_ms, loop=0)
        with disk_errors("the video", self._path):
            atomic.write_parts(self._path, [film.getvalue()])
        self._pictures = []


class Window:
    """A pygame window that shows pictures at the given speed, if it is not below SLOWEST_FPS.

    Escape or closing the window ends the play.
    """

    def __init__(self, title: str, fps: float) -> None:
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        import pygame

        self._pygame, self._fps = pygame, max(fps, SLOWEST_FPS)
        pygame.display.init()
        pygame.display.set_caption(title)
        self._clock = pygame.time.Clock()

    def show(self, picture: np.ndarray) -> None:
        """Draw a picture and wait until the next one is due. Raises Closed."""
        pygame = self._pygame
        size = (picture.shape[1], picture.shape[0])
        window = pygame.display.get_surface()
        if window is None or window.get_size() != size:
            window = pygame.display.set_mode(size)
        pygame.surfarray.blit_array(window, picture.swapaxes(0, 1))
        pygame.display.flip()
        for event in pygame.event.get():
            if event.type == pygame.QUIT or (event.type == pygame.KEYDOWN and event.key == pygame.K_ESCAPE):
                raise Closed
        self._clock.tick(self._fps)

    def close(self) -> None:
        """Close the window."""
        self._pygame.display.quit()
