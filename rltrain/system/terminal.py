"""Keep a run alive when its terminal is lost: later output goes to /dev/null."""

import errno
import os
import sys
from typing import Any

from rltrain.errors import disk_errors

_NO_READER = (errno.EPIPE, errno.EIO)
"""Errors of writing to a pipe whose reader ended (`| head`) and to a closed terminal."""


def guard() -> None:
    """Make print() ignore write errors: `rltrain ... 2>&1 | head`, a dropped connection, `2>&-`, a log on a full disk.

    Errors of stderr are ignored, because it has only messages. The user may save stdout, so `check_stdout` reports a
    full disk at the end; the training does not fail because of it. Call this in every process that prints; a second
    call changes nothing.
    """
    # `2>&-` closes descriptor 2. Fill descriptors 0 to 2, or the next file that is opened would become stderr.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (stays open as long as the process)
        elif not isinstance(stream, _Guarded):
            setattr(sys, name, _Guarded(stream, retries=name == "stderr"))


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
            return int(self._stream.write(text))
        except OSError as error:
            self._redirect(error)
            return len(text)

    def flush(self) -> None:
        """Flush the buffer, or drop its content if that fails."""
        try:
            self._stream.flush()
        except OSError as error:
            self._redirect(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _redirect(self, error: OSError) -> None:
        self.error = self.error or error
        if self._retries and error.errno == errno.ENOSPC:
            return
        # Replace the descriptor, not the object: its buffer, C libraries and child processes use the descriptor too.
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, self._stream.fileno())
        finally:
            os.close(null)
