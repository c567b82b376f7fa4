"""What the terminal can show; and keep a run alive when its terminal is lost: later output goes to /dev/null."""

import contextlib
import errno
import functools
import io
import os
import select
import sys
import textwrap
from collections.abc import Callable
from typing import Any

from rltrain.errors import disk_errors

_NO_READER = (errno.EPIPE, errno.EIO)
"""Errors of writing to a pipe whose reader ended (`| head`) and to a closed terminal."""


_STYLES = {"bold": 1, "red": 31, "green": 32, "yellow": 33}

_READER_S = 1.0
"""The time that the reader of a full pipe has at a stop signal."""

_UNKNOWN_WIDTH = 1000
"""Columns of a terminal whose width is unknown."""


def is_drawable(stream: Any) -> bool:
    """Return True if a text stream is a terminal that obeys control codes."""
    return _is_terminal(stream) and os.environ.get("TERM") not in ("dumb", "unknown")


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # a user's own stream, with little more than `write`; a closed one
        return False


def has_colour(stream: Any) -> bool:
    """Return True if a text stream may have colours. A user can switch them off with NO_COLOR (no-color.org)."""
    return is_drawable(stream) and not os.environ.get("NO_COLOR")


def styled(text: str, style: str, stream: Any) -> str:
    """Return the text in a style of `_STYLES` if the stream may have colours, else unchanged."""
    return f"\033[{_STYLES[style]}m{text}\033[0m" if has_colour(stream) else text


def width(stream: Any) -> int:
    """Return the columns of a terminal; if it does not tell them, those of COLUMNS, or many."""
    with contextlib.suppress(OSError, AttributeError, TypeError, ValueError):  # all but the first: a user's own stream
        if columns := os.get_terminal_size(stream.fileno()).columns:
            return columns
    given = os.environ.get("COLUMNS", "")
    return int(given) if given.isdecimal() and int(given) else _UNKNOWN_WIDTH


def wrapped(text: str, stream: Any, indent: int = 0) -> str:
    """Return the text broken between words at the width of a terminal; on anything else, one line.

    indent: number of spaces before the second line and later ones.
    """
    return "\n".join(broken(text, width(stream), indent)) if _is_terminal(stream) else text


def broken(text: str, columns: int, indent: int = 0) -> list[str]:
    """Return the lines of a text of at most `columns` columns. A longer word is broken after a slash, if it has one."""
    indent = min(indent, columns // 2)
    words = textwrap.TextWrapper(
        columns, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
    lines: list[str] = []
    for line in words.wrap(text) or [""]:
        while len(line) > columns:
            end = line.rfind("/", indent + 1, columns) + 1 or columns
            lines.append(line[:end])
            line = " " * indent + line[end:]
        lines.append(line)
    return lines


def guard() -> None:
    """Make print() ignore write errors: `rltrain ... 2>&1 | head`, a dropped connection, `2>&-`, a log on a full disk.

    Errors of stderr are ignored, because it has only messages. The user may save stdout, so `check_stdout` reports a
    full disk at the end; the training does not fail because of it. Call this in every process that prints, and again
    when code of the user's has replaced a stream: one of the user's own stays, one that is gone is put back.
    """
    # `2>&-` closes descriptor 2. Fill descriptors 0 to 2, or the next file that is opened would become stderr.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, _Guarded):
            continue
        if stream is None:  # Python was started without it, or a user's module set it to None
            guarded = _guarded.get(name) or _Guarded(open(os.devnull, "w"), retries=False)  # noqa: SIM115 (stays open)
        else:
            guarded = _Guarded(stream, retries=name == "stderr")
        setattr(sys, name, guarded)
        _guarded[name] = guarded


def check_stdout() -> None:
    """Flush stdout. Raises DiskError if output was lost, unless the reader or the terminal was gone."""
    if isinstance(sys.stdout, _Guarded):
        sys.stdout.flush()
        error, sys.stdout.error = sys.stdout.error, None
        if error is not None and error.errno not in _NO_READER:
            with disk_errors("the output", "stdout"):
                raise error


class _Guarded:
    """A text stream that sends its output to /dev/null after the first write error."""

    def __init__(self, stream: Any, retries: bool) -> None:
        """retries: keep trying to write after a full disk."""
        self._stream, self._retries = stream, retries
        self.error: OSError | None = None
        """The first write error."""

    def write(self, text: str) -> int:
        """Write the text, or drop it if that fails."""
        try:
            if self._waits_for_nobody():
                self._write_waiting(text)
            else:
                self._stream.write(text)
        except OSError as error:
            self._redirect(error)
        except UnicodeEncodeError as error:  # PYTHONIOENCODING=ascii, and a name with an accent
            self._stream.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))
        except Exception:  # an environment has closed it, or has put a stream of its own in its place
            self.error = self.error or OSError(errno.EBADF, os.strerror(errno.EBADF))
        return len(text)

    def flush(self) -> None:
        """Flush the buffer, or drop its content if that fails."""
        try:
            self._once_read(self._stream.flush)
        except OSError as error:
            self._redirect(error)
        except Exception:
            pass  # closed, or it has no flush: `write` tells whether output was lost

    def _waits_for_nobody(self) -> bool:
        """Return True for a pipe that refuses what its reader is too slow for: node and some CI runners set it so."""
        try:
            return isinstance(self._stream, io.TextIOWrapper) and not os.get_blocking(self._stream.fileno())
        except (ValueError, OSError):  # a closed one
            return False

    def _write_waiting(self, text: str) -> None:
        """Write a text to such a pipe. Python's streams would lose what does not fit."""
        self.flush()
        data = text.encode(self._stream.encoding, "backslashreplace")
        while data:
            data = data[self._once_read(functools.partial(os.write, self._stream.fileno(), data)) :]

    def _once_read(self, write: Callable[[], Any]) -> Any:
        """Return what `write` returns. If the pipe is full, wait for its reader first."""
        while True:
            try:
                return write()
            except BlockingIOError:
                poll = select.poll()  # unlike select.select, it takes any descriptor
                poll.register(self._stream.fileno(), select.POLLOUT)
                poll.poll()

    def isatty(self) -> bool:
        """Return True for a terminal that is open."""
        return _is_terminal(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _redirect(self, error: OSError) -> None:
        self.error = self.error or error
        if self._retries and error.errno == errno.ENOSPC:
            return
        # Replace the descriptor, not the object: its buffer, C libraries and child processes use the descriptor too.
        with contextlib.suppress(AttributeError, ValueError):  # a user's own stream, without a descriptor
            _send_to_null(self._stream.fileno())


def give_up_full_streams() -> None:
    """Send stdout and stderr to /dev/null if nobody reads them for a second, as in `rltrain ... 2>&1 | less`.

    A signal handler calls this. A write that waits for the reader goes on then, and the process can stop.
    """
    for descriptor in (1, 2):
        with contextlib.suppress(OSError, ValueError):  # it is closed
            if not select.select([], [descriptor], [], _READER_S)[1]:
                _send_to_null(descriptor)


def _send_to_null(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, descriptor)
    finally:
        os.close(null)


_guarded: dict[str, _Guarded] = {}
"""The stream that stands, or stood, in the place of `sys.stdout` and of `sys.stderr`."""
