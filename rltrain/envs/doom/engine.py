"""One ViZDoom engine: start, episodes, actions and time-outs. Imported only when Doom is used."""

import contextlib
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import gymnasium
import numpy as np
import vizdoom

from rltrain.config.environments import DoomConfig
from rltrain.envs.doom.game import make_game
from rltrain.envs.doom.process import EngineProcess
from rltrain.envs.doom.setup import PACKAGE, Setup, refuse_settings_of_vizdoom
from rltrain.envs.patience import STOPPING_S, Clock, is_stopping
from rltrain.envs.spaces import PixelsAndVariables
from rltrain.errors import EnvironmentFailure, Halt
from rltrain.system.process import undead

# The engines' threads already run in parallel. OpenCV's own threads would only compete with them.
cv2.setNumThreads(0)

# Only one engine starts at a time: two starts in threads of one process crash it (segmentation fault, ViZDoom 1.3.2).
_STARTING = threading.Lock()

_START_TIMEOUT_S = 30.0
"""The time-out for the start of an engine. A start takes about 1 s even on a busy machine."""

MAX_EPISODES = 2_000
"""The episodes after which an engine is replaced: its memory may grow by 0.3 kB per episode (ViZDoom 1.3.2; measured in
docs/reliability.md)."""

_GRACE_S = 1.0
"""The time in which a call must notice that its engine has ended. It takes milliseconds, or it never returns."""

_ENGINE_ERRORS = (
    vizdoom.ViZDoomErrorException,
    vizdoom.ViZDoomUnexpectedExitException,
    vizdoom.ViZDoomIsNotRunningException,
    vizdoom.MessageQueueException,
    vizdoom.SharedMemoryException,
)


class Outcome(NamedTuple):
    """The result of one action of one engine."""

    reward: float
    """The scenario's reward."""
    shaping: float
    """The shaping reward for training; 0 without env.shaping."""
    terminated: bool
    truncated: bool
    tics: int
    """The tics of the game's clock that the action took."""


class Abandoned(Halt):
    """Ends a call that returned after it was given up. Its result must not be used."""


class Engine:
    """A Doom engine, one process at a time. Call `start`, then `begin` and `act`. `start` works again after `kill`.

    Each call raises EnvironmentFailure if the engine fails. All methods but `check` must be called from one thread.
    ViZDoom's own `close` is never called: it would hold Python's interpreter lock while it waits for the engine.
    """

    def __init__(
        self, config: DoomConfig, setup: Setup, frame_space: gymnasium.Space, folder: Path, clock: Clock
    ) -> None:
        """clock: the caller of `check` must call its `look`."""
        self._config, self._setup, self._folder = config, setup, folder
        self._variable_space = frame_space if isinstance(frame_space, PixelsAndVariables) else None
        self._variables = [getattr(vizdoom.GameVariable, name) for name in setup.variables]
        self._shaped = [getattr(vizdoom.GameVariable, weight.variable) for weight in setup.shaping]
        self._shaped_values: list[float] = []
        self._num_starts = 0
        self._num_episodes = 0
        self._clock = clock
        self._called_s = math.inf
        """The start of the current call on `clock`; infinite if there is none."""
        self._hung = self._abandoned = False
        self._ended_s = math.inf
        """The time at which `check` first saw that the engine had ended during the current call."""
        self._lock = threading.Lock()
        """Held while a call returns and while `check` gives it up, so that only one of the two happens."""
        self._game: vizdoom.DoomGame | None = None
        self._process: EngineProcess | None = None

    def start(self) -> None:
        """Start the engine's process in a new folder below `folder`, which keeps the engine's files."""
        refuse_settings_of_vizdoom()
        with _STARTING:
            self._num_starts += 1
            process = EngineProcess(PACKAGE / "vizdoom", self._folder / str(self._num_starts))
            try:
                game, self._end_tic = make_game(self._config, self._setup, process.supervisor)
                self._init(game, process)
            except Exception as error:
                raise self.failure("does not start", error) from error
        self._hung = False
        self._num_episodes = 0
        self._game, self._process = game, process

    def _init(self, game: vizdoom.DoomGame, process: EngineProcess) -> None:
        """Call ViZDoom's `init` in a thread of its own, because it never returns if the engine ends or hangs."""
        errors: list[Exception] = []

        def init() -> None:
            try:
                game.init()
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=init, daemon=True)
        thread.start()
        limit_s = max(self._config.step_timeout_s, _START_TIMEOUT_S)
        clock = Clock(longest_s=0.5)
        while thread.is_alive() and not process.ended and clock.look() < limit_s:
            if is_stopping():
                limit_s = min(limit_s, clock.now_s + STOPPING_S)
            thread.join(timeout=0.02)
        if thread.is_alive():
            process.give_up_start()
            raise RuntimeError(process.last_line or f"it ended, or did nothing for {limit_s:g} s")
        if errors:
            raise errors[0]
        try:
            process.confirm_start()
        except Exception:  # such as of the supervisor's file, which it could not write
            undead.append(game)  # its destructor waits for the engine, and holds the interpreter lock meanwhile
            process.kill_unconfirmed()
            raise

    @property
    def is_worn(self) -> bool:
        """True if the engine has played MAX_EPISODES and should be replaced before the next episode."""
        return self._num_episodes >= MAX_EPISODES

    def begin(self, frame: np.ndarray, seed: int | None = None) -> None:
        """Start an episode and write its first frame to `frame`, of the frame space's shape."""
        self._num_episodes += 1
        with self._call("does not begin an episode") as game:
            if seed is not None:
                game.set_seed(seed)
            game.new_episode()
            self._draw(game, frame)
            self._shaped_values = self._read(game, self._shaped)

    def act(self, buttons: list[float], frame: np.ndarray) -> Outcome:
        """Press `buttons` for one action and write the next frame to `frame`.

        When the episode really ends, the engine has no picture, and `frame` is unchanged.
        """
        with self._call("failed in a step") as game:
            before = game.get_episode_time()
            tics = self._config.frame_skip
            if self._end_tic is not None:
                tics = min(tics, self._end_tic - before)
            reward = game.make_action(buttons, tics)
            after = game.get_episode_time()
            # At the exit of a map the clock is reset to 0. Then assume that all tics were played.
            tics = after - before if after > before else tics
            shaping = self._shaping(game)
            if game.is_episode_finished():
                # The engine itself applies a `+timelimit` among game_args.
                truncated = game.is_episode_timeout_reached() and not game.is_player_dead()
                return Outcome(reward, shaping, not truncated, truncated, tics)
            self._draw(game, frame)
            return Outcome(reward, shaping, False, self._end_tic is not None and after >= self._end_tic, tics)

    def close(self) -> None:
        """End the process, if there is one, and make a call so that ViZDoom notices."""
        if self._game is not None and self._process is not None:
            self._process.kill()
            with contextlib.suppress(EnvironmentFailure), self._call("does not close") as game:
                game.new_episode()
            self.kill()

    def kill(self) -> None:
        """Kill the process, after a call has failed."""
        if self._process is not None:
            self._process.kill()
        self._game = self._process = None

    def check(self) -> bool:
        """Check the current call from another thread. Return true if it must be given up.

        An engine that does not answer in time is killed. Then the call normally fails. It may hang nevertheless, if the
        engine died with a lock that ViZDoom waits for. If a call that was given up returns later, it raises Abandoned.
        """
        with self._lock:
            process, now_s = self._process, self._clock.now_s
            if process is None or self._called_s == math.inf:
                return False
            if now_s > self._called_s + self._limit_s and not self._hung:
                self._hung = True
                process.kill()
            if process.ended or self._hung:
                self._ended_s = min(self._ended_s, now_s)
            self._abandoned = now_s > self._ended_s + _GRACE_S
            return self._abandoned

    @contextlib.contextmanager
    def _call(self, what_failed: str) -> Iterator[vizdoom.DoomGame]:
        """Guard a call of the engine with the time-out, and turn its errors into EnvironmentFailure."""
        if self._game is None:
            raise self.failure("has ended")
        self._ended_s = math.inf
        self._called_s = self._clock.now_s
        try:
            yield self._game
        except _ENGINE_ERRORS as error:
            raise self.failure(what_failed, error) from error
        finally:
            with self._lock:
                self._called_s = math.inf
                if self._abandoned:
                    raise Abandoned

    @property
    def _limit_s(self) -> float:
        """The time-out of a call, in seconds."""
        limit_s = self._config.step_timeout_s
        return min(limit_s, STOPPING_S) if is_stopping() else limit_s

    def _draw(self, game: vizdoom.DoomGame, frame: np.ndarray) -> None:
        """Write the scaled screen to `frame`, and the game variables below it if the frame space has them."""
        space = self._variable_space
        height = frame.shape[1] if space is None else space.height
        screen = game.get_state().screen_buffer[self._setup.crop]
        scaled = cv2.resize(screen, (frame.shape[2], height), interpolation=cv2.INTER_AREA)
        frame[:, :height] = scaled if scaled.ndim == 2 else np.moveaxis(scaled, -1, 0)
        if space is not None:
            space.write(frame, np.array(self._read(game, self._variables)))

    @staticmethod
    def _read(game: vizdoom.DoomGame, variables: list[vizdoom.GameVariable]) -> list[float]:
        return [game.get_game_variable(variable) for variable in variables]

    def _shaping(self, game: vizdoom.DoomGame) -> float:
        """Return the weighted changes of the game variables since the last call."""
        values = self._read(game, self._shaped)
        total = 0.0
        for weight, before, after in zip(self._setup.shaping, self._shaped_values, values, strict=True):
            total += weight.gained * max(after - before, 0.0) + weight.lost * max(before - after, 0.0)
        self._shaped_values = values
        return total

    def failure(self, what: str, error: Exception | None = None) -> EnvironmentFailure:
        """Return the error for a failed engine."""
        if self._hung:
            what = f"did not answer for {self._limit_s:g} s"
        cause = f": {type(error).__name__}: {error}" if error else ""
        return EnvironmentFailure(f"the Doom engine {what}{cause}", str(self._setup.cfg), "run `rltrain doctor`")
