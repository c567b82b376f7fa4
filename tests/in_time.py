"""A test that hangs fails instead of holding up the suite."""

import contextlib
import signal


@contextlib.contextmanager
def fails_after(seconds):
    """Raise AssertionError inside, if it takes longer."""

    def give_up(number, frame):
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
