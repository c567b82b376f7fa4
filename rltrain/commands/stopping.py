"""Answer signals in a command that plays episodes."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from rltrain.envs import patience
from rltrain.errors import EnvironmentFailure, Stopped
from rltrain.run import folder as run_folder
from rltrain.run.evaluation import Interrupted
from rltrain.system import process
from rltrain.system.signals import Presses, answering


class Stopping:
    """Returns True, when it is called, once a signal has asked this process to stop."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self.film: Path | None = None
        """A film that stays if the command is stopped."""

    def __call__(self) -> bool:
        return bool(self.received)


@contextlib.contextmanager
def stoppable() -> Iterator[Stopping]:
    """Give a `Stopping`, to be called between two steps.

    A second Ctrl-C exits immediately. Environments that are started inside are closed by whoever started them. Raises
    Stopped at the end if a signal came.
    """
    stopping, presses = Stopping(), Presses()

    def handle(number: int, frame: FrameType | None) -> None:
        if presses.is_second(number):
            process.exit_now(128 + number)
        stopping.received.append(number)
        patience.hurry(128 + number)

    patience.leave_alarm()
    try:
        with answering(handle), contextlib.suppress(Interrupted, patience.StandsStill):
            try:
                yield stopping
            except EnvironmentFailure:
                if not stopping():  # else its environments were still starting
                    raise
        if stopping():
            kept = "the film up to this moment is kept" if stopping.film else ""
            film = run_folder.from_here(stopping.film) if stopping.film else ""
            raise Stopped(stopping.received[0], str(film), kept=kept)
    finally:
        patience.calm()
