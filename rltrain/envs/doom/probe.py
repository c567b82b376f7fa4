"""Try the start of a Doom game in a process of its own. ViZDoom crashes for some maps, which nothing in it catches."""

import dataclasses
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from rltrain.envs.doom import process as doom_process
from rltrain.envs.patience import Clock, is_stopping
from rltrain.errors import EnvironmentFailure
from rltrain.system import plain_json, process

if TYPE_CHECKING:
    from rltrain.config.environments import DoomConfig

_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
_LONGEST_S = 60.0
"""The time to wait. A start that takes longer, or fails in another way, is the pool's to tell."""

_tried: set[str] = set()
"""The .cfg files that were tried in this process."""


def require_start(config: "DoomConfig") -> None:
    """Raise EnvironmentFailure if ViZDoom crashes when it starts the game of an own .cfg file.

    It does so for a map of several players (ViZDoom 1.3.2). Each file is tried once in a process.
    """
    if config.cfg is None or config.cfg in _tried:
        return
    command = process.python("from rltrain.envs.doom.probe import main; main()")
    command.append(plain_json.dumps(dataclasses.asdict(config)))
    none = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=none, stdout=none, stderr=none) as child:
        clock = Clock(longest_s=0.5)
        while child.poll() is None and clock.look() < _LONGEST_S and not is_stopping():
            time.sleep(0.02)
        child.kill()
    if -child.returncode in _CRASHES:
        doom_process.sweep()  # of what the child has left
        what = f"ViZDoom itself crashes with {signal.Signals(-child.returncode).name} when it starts this game"
        raise EnvironmentFailure(what, config.cfg, "use a map for one player, with a player 1 start")
    _tried.add(config.cfg)


def main() -> None:  # pragma: no cover (in a process of its own)
    """Start the game of a configuration, which the first argument holds as JSON."""
    import gymnasium

    from rltrain.config.environments import DoomConfig
    from rltrain.envs.doom.engine import Engine
    from rltrain.envs.doom.setup import read_setup

    config = DoomConfig(**plain_json.loads(sys.argv[1]))
    folder = doom_process.PoolFolder()
    engine = Engine(config, read_setup(config), gymnasium.Space(), folder.path / "0", Clock(longest_s=1.0))
    try:
        engine.start()
        engine.close()
    finally:
        folder.remove()
