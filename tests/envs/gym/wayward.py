"""Environments that break gymnasium's contract, each in one way; importing this registers `Wayward-v0`."""

import asyncio
import builtins
import contextlib
import faulthandler
import functools
import inspect
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import warnings

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import NormalizeObservation, NormalizeReward

VECTOR = spaces.Box(-1, 1, (3,), np.float32)


class Clinging(gymnasium.Env):
    """It does not let itself be destroyed."""

    observation_space, action_space, ends = VECTOR, spaces.Discrete(2), 0

    def __del__(self):
        type(self).ends += 1


class Mute(Exception):
    def __str__(self):
        raise ValueError("no text")


class Tee:
    """A stream with a copy in a list. It has less than a stream has, and returns nothing."""

    copy: list[str] = []  # noqa: RUF012 (of all)

    def __init__(self, stream):
        self.stream = stream

    def write(self, text):
        self.stream.write(text)
        self.copy.append(text)

    def flush(self):
        self.stream.flush()


class Wayward(gymnasium.Env):
    """A vector of zeros and reward 1, 10 steps an episode; from step `at` on, `how` replaces something."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (gymnasium's own name and form)

    num_made = 0
    num_alike = 10**9
    """The environments before this one have the same spaces."""

    def __init__(self, how: str = "", at: int = 0, render_mode=None) -> None:
        self.how, self.at, self.num_steps, self.render_mode = how, at, 0, render_mode
        bytes_, states = spaces.Box(0, 255, (9, 9, 1), np.uint8), spaces.Discrete(4, start=1)
        self.observation_space = {"byte": bytes_, "state": states}.get(how.split()[0] if how else "", VECTOR)
        self.action_space = {
            "worker bounds": spaces.Box(-1, 1, (1,), np.float32), "worker shape": spaces.Box(-2, 2, (1,), np.float32),
            "late bounds": spaces.Box(-1, 1, (2,), np.float32), "no choice": spaces.MultiDiscrete([]),
        }.get(how, spaces.Discrete(2))  # fmt: skip
        if multiprocessing.parent_process() is not None and how.startswith("worker"):
            self.action_space = spaces.Box(-2, 2, (1,), np.float32)
            self.observation_space = spaces.Box(-1, 1, (5 if how == "worker shape" else 3,), np.float32)
        Wayward.num_made += 1
        if Wayward.num_made > Wayward.num_alike and how.startswith("other"):
            self.action_space = spaces.Discrete(7 if how == "other actions" else 2)
            self.observation_space = spaces.Box(-1, 1, (5 if how == "other shape" else 3,), np.float32)
        if how == "float64":
            import torch

            torch.set_default_dtype(torch.float64)
        if how == "meta":
            import torch

            torch.set_default_device("meta")
        if how == "temporary folder":
            self.folder = tempfile.tempdir = tempfile.mkdtemp()
        if how == "warnings as errors":
            warnings.warn("the constructor is slow", stacklevel=1)
            warnings.filterwarnings("error", category=RuntimeWarning)
        if how == "all warnings anew":
            warnings.resetwarnings()
            warnings.simplefilter("error")
        if how == "ignores its children":
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        if how == "changes directory":
            os.chdir(os.path.dirname(__file__))
        if how == "missing space":
            del self.action_space
        if how == "strange space":
            self.observation_space = (3,)
        if how == "changing space":
            self.observation_space = spaces.Box(-1, 1, (random.randint(2, 10**6),), np.float32)
        if how == "constructor":
            raise FileNotFoundError("prices.csv")
        if how == "import":
            from os import nothing  # noqa: F401
        if how == "exit constructor":
            sys.exit(0)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        if self.how == "handler in C":
            faulthandler.register(signal.SIGTERM)
        elif self.how == "blocks signals":
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        if self.how == "late actions":
            self.action_space = spaces.Discrete(4)
        elif self.how == "more actions in place" and self.num_steps >= 10:
            self.action_space.n = np.int64(4)
        elif self.how == "late bounds":
            self.action_space = spaces.Box(-8, 8, (2,), np.float32)
        if self.how == "deletes the folder":
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(os.getcwd())
        if self.how == "forks":
            self.child = os.fork()
        if self.how == "no gradients":
            import torch

            torch.set_grad_enabled(False)
        if self.how == "replaces sys.path":
            sys.path[:] = []
        elif self.how == "replaces recursion limit":
            sys.setrecursionlimit(len(inspect.stack()) + 12)
        elif self.how == "takes rights":
            os.umask(0o777)
        elif self.how == "starts a program":
            program = subprocess.Popen(["sleep", "60"])
            program.terminate()
            program.wait(20)
            with multiprocessing.get_context("fork").Pool(2) as pool:  # which it ends by SIGTERM
                pool.map(abs, [1, 2])
        elif self.how == "tee":
            sys.stdout, sys.stderr = Tee(sys.stdout), Tee(sys.stderr)
        elif self.how == "mutes":
            sys.stdout = sys.stderr = None
        elif self.how.startswith("replaces "):
            setattr(builtins, self.how.removeprefix("replaces "), None)
        obs = self._obs()
        given = {
            "bare reset": obs, "reset without info": (obs, None), "reset of three": (obs, {}, {}),
            "reset of numbers": (0.5, 0.5),
        }  # fmt: skip
        return given.get(self.how, (obs, {}))

    def step(self, action):
        self.t, self.num_steps = self.t + 1, self.num_steps + 1
        reward, terminated, truncated, info = 1.0, self.t == 10, False, {}
        if self.num_steps >= self.at:
            if self.how == "four":
                return self._obs(), reward, terminated, info
            if self.how == "cancelled":
                raise asyncio.CancelledError("too late")
            if self.how == "generator":
                raise GeneratorExit
            if self.how == "mute":
                raise Mute
            if self.how == "sys.exit":
                sys.exit(0)
            if self.how == "os._exit":
                os._exit(0)
            if self.how == "thread exit":
                thread = threading.Thread(target=os._exit, args=(0,))
                thread.start()
                thread.join()
            if self.how == "float64":
                import torch

                assert torch.zeros(1).dtype == torch.float64, "it keeps its own"
            if self.how == "meta":
                import torch

                assert torch.zeros(1).device.type == "meta", "it keeps its own"
            rewards = {"array": np.ones(1), "text": "1.0", "nothing": None, "pair": (1.0, 2.0), "complex": 1j}
            if self.how.startswith("reward "):
                reward = rewards[self.how.split()[1]]
            if self.how == "hash":
                reward = float(hash("up") % 100_000)
            if self.how == "flag":
                terminated = {"done": False}
        return self._obs(), reward, terminated, truncated, info

    def _obs(self):
        late = self.num_steps >= self.at
        wrong = {
            "short": np.zeros(1, np.float32), "number": 0.0, "long": np.zeros((1, 3), np.float32), "text": "0, 0, 0",
            "ragged": [[0.0], [0.0, 1.0], 0.0], "nothing": None, "objects": np.array([None] * 3),
            "masked": np.ma.array(np.zeros(3, np.float32), mask=[0, 1, 0]),
            "byte fraction": np.full((9, 9, 1), 0.5), "byte above": np.full((9, 9, 1), 256),
            "byte below": np.full((9, 9, 1), -1), "byte nan": np.full((9, 9, 1), np.nan),
            "state zero": 0, "state above": 5, "state fraction": 1.5, "state array": np.array([1]),
        }  # fmt: skip
        if late and self.how in wrong:
            return wrong[self.how]
        if self.how.startswith("byte"):
            return np.zeros((9, 9, 1), np.uint8)
        if self.how.startswith("state"):
            return 1
        return np.zeros(self.observation_space.shape, np.float32)

    def render(self):
        if self.how == "render":
            raise RuntimeError("no display")
        if self.how == "render nothing":
            return None
        return np.zeros((40, 40, 3), np.uint8)

    def close(self):
        if self.how == "temporary folder":
            shutil.rmtree(self.folder)
        if self.how == "close":
            raise AttributeError("never opened")


class Sloppy(gymnasium.Env):
    """Right by value, not by type: everything that gymnasium allows and that is harmless. Reads the global generators
    (of the kinds torch and numba, theirs alone) and the generator of its space."""

    def __init__(self, kind: str = "float") -> None:
        box = spaces.Box(-100, 100, (2,), np.float32)
        of_kind = {"state": spaces.Discrete(3, start=-1), "byte": spaces.Box(0, 255, (9, 9), np.uint8)}
        self.kind, self.observation_space = kind, of_kind.get(kind, box)
        self.action_space = spaces.Discrete(2)
        self.world = random.random()
        if kind == "torch":
            import torch

            self.draw = lambda: float(torch.rand(1))
        if kind == "numba":
            import numba

            self.draw = numba.njit(lambda: np.random.standard_normal() + random.random())

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._obs(), {}

    def step(self, action):
        self.t += 1
        drawn = self.world + random.random() + np.random.random() + float(self.action_space.sample())
        if self.kind in ("torch", "numba"):
            drawn = self.draw()
        rewards = [1, np.float32(drawn), np.array(2.0), np.bool_(True)]
        ended = np.array(self.t == 8) if self.t % 2 else np.bool_(self.t == 8)
        return self._obs(), rewards[self.t % 4], ended, int(self.t == 9), {}

    def _obs(self):
        if self.kind == "world":
            return np.full(2, self.world, np.float32)
        if self.kind == "state":
            return (-1, np.int32(0), np.array(1))[self.t % 3]
        if self.kind == "byte":
            return [np.full((9, 9), 255), np.full((9, 9), 7.0), np.zeros((9, 9), np.uint8)][self.t % 3]
        return [[1, 2], np.array([0.5, 1.0]), np.array([3, 4], np.int8), (1.0, 2.0)][self.t % 4]


@functools.cache
def single(render_mode=None):
    """Return the connection to one simulator, as often as it is called."""
    return Wayward()


def normalised(what, render_mode=None):
    """Return an environment in a wrapper that learns statistics."""
    return {"observations": NormalizeObservation, "rewards": NormalizeReward}[what](Wayward())


gymnasium.register("Single-v0", single)
gymnasium.register("Normalised-v0", normalised)
gymnasium.register("Wayward-v0", Wayward)
gymnasium.register("Sloppy-v0", Sloppy)


class Taking(Wayward):
    """Its constructor takes an entry out of a mapping that it is given: the reward."""

    def __init__(self, options, render_mode=None):
        super().__init__(render_mode=render_mode)
        self.gain = options.pop("gain", 1.0)

    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward * self.gain, terminated, truncated, info


gymnasium.register("Taking-v0", Taking, max_episode_steps=100)
