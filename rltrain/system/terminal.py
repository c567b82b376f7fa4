"""Losing the screen never decides a run's fate: what is printed after that goes nowhere."""

import errno
import os
import sys
from typing import Any

from rltrain.errors import disk_errors

_NO_READER = (errno.EPIPE, errno.EIO)
"""What writing says once `head` has read enough, and once the terminal was closed."""


def guard() -> None:
    """Let print() outlive the screen: `rltrain ... 2>&1 | head`, a dropped connection, `2>&-`, a log on a full disk.

    stderr carries only messages, so no error of it counts. On stdout may stand what somebody saves: what a full disk
    has lost of it is told by `check_stdout`, at the end, as no training is to fail for it. For every process that
    prints; calling it again changes nothing.
    """
    while (
        descriptor := os.open(os.devnull, os.O_RDWR)
    ) <= 2:  # closed by `2>&-`: or the next file opened gets its number
        pass
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (as long as the process)
        elif not isinstance(stream, _Guarded):
            setattr(sys, name, _Guarded(stream, retries=name == "stderr"))


def check_stdout() -> None:
    """Write out what stdout still holds. Raises DiskError where some of it was lost, and there was somebody to read."""
    if isinstance(sys.stdout, _Guarded):
        sys.stdout.flush()
        error, sys.stdout.error = sys.stdout.error, None
        if error is not None and error.errno not in _NO_READER:
            with disk_errors("the output", "stdout"):
                raise error


class _Guarded:
    """A text stream whose first error leads what follows to /dev/null."""

    def __init__(self, stream: Any, retries: bool) -> None:
        """retries: after a full disk, later words are tried again."""
        self._stream, self._retries = stream, retries
        self.error: OSError | None = None
        """The first."""

    def write(self, text: str) -> int:
        """Write, or lose it."""
        try:
            return int(self._stream.write(text))
        except OSError as error:
            self._lose(error)
            return len(text)

    def flush(self) -> None:
        """Flush, or lose what was there."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lose(self, error: OSError) -> None:
        self.error = self.error or error
        if self._retries and error.errno == errno.ENOSPC:
            return
        # The descriptor, not the object: what the stream still holds, other libraries and children write there too.
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, self._stream.fileno())
        finally:
            os.close(null)
