"""Losing the screen never decides a run's fate: what is printed after that goes nowhere."""

import errno
import os
import sys
from typing import Any

_NO_READER = (errno.EPIPE, errno.EIO)
"""What writing says once `head` has read enough, and once the terminal was closed."""


def guard() -> None:
    """Let print() outlive the screen: `rltrain ... 2>&1 | head`, a dropped connection, `2>&-`, a log on a full disk.

    stderr carries only messages, so no error of it counts. On stdout may stand what somebody saves: there a full disk
    stays an error. For every process that prints; calling it again changes nothing.
    """
    while (
        descriptor := os.open(os.devnull, os.O_RDWR)
    ) <= 2:  # closed by `2>&-`: or the next file opened gets its number
        pass
    os.close(descriptor)
    for name, forgiven in (("stdout", _NO_READER), ("stderr", None)):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 (as long as the process)
        elif not isinstance(stream, _Guarded):
            setattr(sys, name, _Guarded(stream, forgiven))


class _Guarded:
    """A text stream whose forgiven errors (None: all) lead what follows to /dev/null."""

    def __init__(self, stream: Any, forgiven: tuple[int, ...] | None) -> None:
        self._stream = stream
        self._forgiven = forgiven

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
        if self._forgiven is not None and error.errno not in self._forgiven:
            raise error
        if error.errno == errno.ENOSPC:
            return  # there may be space again
        # The descriptor, not the object: what the stream still holds, other libraries and children write there too.
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, self._stream.fileno())
        finally:
            os.close(null)
