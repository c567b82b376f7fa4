"""One stable-retro emulator and the rules of its episodes. Runs in a worker process."""

from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import stable_retro

from rltrain.envs.retro import games as retro_games
from rltrain.envs.retro.rules import Judge
from rltrain.envs.seeding import env_seed
from rltrain.errors import ConfigError, EnvironmentFailure

if TYPE_CHECKING:
    from rltrain.config.environments import RetroConfig


class Outcome(NamedTuple):
    """The result of one action of one emulator."""

    reward: float
    terminated: bool
    truncated: bool
    num_frames: int


class Emulator:
    """Environment `index` of `num_envs`. It writes obs and next_obs to row `index` of the shared frames.

    first_index: the number of environment 0, if the pool is a part of a larger one.

    It does not call the library's `step`, which would fetch a picture and check the buttons at every skipped frame.
    """

    def __init__(self, config: "RetroConfig", shared: Any, index: int, num_envs: int, first_index: int = 0) -> None:
        # The worker processes use all cores already.
        cv2.setNumThreads(0)
        frames = np.frombuffer(shared, np.uint8).reshape(2, num_envs, *config.frame_shape)
        self._obs, self._next_obs = frames[:, index]
        self._config, self._index, self._num_envs = config, first_index + index, num_envs
        self._judge = Judge(config.reward_variable, config.new_best_only, config.one_life)
        names, self._pad = retro_games.check(config)
        try:
            self._env = stable_retro.make(config.game, names[0], scenario=config.scenario, render_mode="rgb_array")
            self._states = [self._load(name) for name in names]
        except Exception as error:
            fix = "import its ROM again: it may be damaged"
            raise EnvironmentFailure(f"'{config.game}' does not start: {error}", "env.game", fix) from error
        self._variables = self._env.data
        self._no_buttons = np.zeros_like(self._pad.choices[0][0])
        self._held = self._no_buttons

    def reset(self, seed: int) -> None:
        """Seed the random numbers and start the first episode."""
        self._rng = np.random.default_rng(env_seed(seed, self._index))
        self._num_episodes = 0
        self._begin()

    def step(self, action: list[int]) -> Outcome:
        """Take one action. Start the next episode if this one has ended."""
        config = self._config
        buttons = self._pad.buttons(action)
        sticky = config.sticky_actions > 0 and self._rng.random() < config.sticky_actions
        reward, over, num_frames, before = 0.0, False, 0, None
        limit = min(config.frame_skip, config.max_episode_frames - self._frames_played)
        while num_frames < limit and not over:
            if config.max_pool and num_frames == limit - 1:
                before = self._picture()
            frame_reward, over = self._advance(self._held if sticky and num_frames == 0 else buttons)
            reward += frame_reward
            num_frames += 1
        self._held = buttons
        self._frames_played += num_frames
        reward, terminated = self._judge.judge(reward, over, self._variables.lookup_all())
        truncated = not terminated and self._frames_played == config.max_episode_frames
        self._draw(self._next_obs, before)
        if terminated or truncated:
            self._begin()
        else:
            self._obs[...] = self._next_obs
        return Outcome(reward, terminated, truncated, num_frames)

    def render(self) -> np.ndarray:
        """Return the whole picture, [H, W, 3] uint8."""
        return self._picture()

    def close(self) -> None:
        """End the emulator."""
        self._env.close()

    def _begin(self) -> None:
        """Start an episode and write its first frame to obs."""
        # Start states are used in turn: with as many states as environments, each environment keeps its own state.
        number = self._index + self._num_episodes * self._num_envs
        self._env.initial_state = self._states[number % len(self._states)]
        self._env.reset()
        for _ in range(self._rng.integers(self._config.noop_max + 1)):
            self._advance(self._no_buttons)
        self._judge.begin(self._variables.lookup_all())
        self._num_episodes += 1
        self._frames_played = 0
        self._held = self._no_buttons
        self._draw(self._obs)

    def _advance(self, buttons: np.ndarray) -> tuple[float, bool]:
        """Emulate one frame. Return the scenario's reward, and true if the scenario ends the episode."""
        self._env.em.set_button_mask(buttons, 0)
        self._env.em.step()
        self._variables.update_ram()
        return self._variables.current_reward(), self._variables.is_done()

    def _picture(self) -> np.ndarray:
        return self._env.get_screen(apply_rotation=True)

    def _draw(self, frame: np.ndarray, before: np.ndarray | None = None) -> None:
        """Write the picture to `frame` [C, height, width]: its pixelwise maximum with `before`, if that is given."""
        picture = self._picture()
        if before is not None and before.shape == picture.shape:
            picture = np.maximum(picture, before)
        top, bottom, left, right = self._config.crop
        rows, columns, _ = picture.shape
        if top + bottom >= rows or left + right >= columns:
            what = f"{list(self._config.crop)} leaves no pixels of '{self._config.game}'"
            raise ConfigError(what, "env.crop", f"crop less: its picture has {rows} x {columns} pixels")
        picture = picture[top : rows - bottom, left : columns - right]
        if self._config.gray:
            picture = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(picture, (self._config.width, self._config.height), interpolation=cv2.INTER_AREA)
        frame[...] = small if self._config.gray else np.moveaxis(small, -1, 0)

    def _load(self, state: str) -> bytes:
        self._env.load_state(state)
        return self._env.initial_state
