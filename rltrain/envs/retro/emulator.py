"""One emulator of stable-retro and the rules of its episodes; lives in a process of its own."""

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
    """One action of one emulator."""

    reward: float
    terminated: bool
    truncated: bool
    num_frames: int


class Emulator:
    """Environment `index` of `num_envs`; obs and next_obs are written to row `index` of the shared frames.

    The library's own `step` is taken apart: it would fetch a picture and check the buttons at every skipped frame.
    """

    def __init__(self, config: "RetroConfig", shared: Any, index: int, num_envs: int) -> None:
        # The processes fill the cores already.
        cv2.setNumThreads(0)
        frames = np.frombuffer(shared, np.uint8).reshape(2, num_envs, *config.frame_shape)
        self._obs, self._next_obs = frames[:, index]
        self._config, self._index, self._num_envs = config, index, num_envs
        self._judge = Judge(config.reward_variable, config.new_best_only, config.one_life)
        names, self._pad = retro_games.check(config)
        try:
            self._env = stable_retro.make(config.game, names[0], scenario=config.scenario, render_mode="rgb_array")
            self._states = [self._load(name) for name in names]
        except Exception as error:
            fix = "import its ROM again, in case it is damaged"
            raise EnvironmentFailure(f"'{config.game}' does not start: {error}", "env.game", fix) from error
        self._variables = self._env.data
        self._nothing = np.zeros_like(self._pad.choices[0][0])
        self._held = self._nothing

    def reset(self, seed: int) -> None:
        """Start the first episode of a run."""
        self._rng = np.random.default_rng(env_seed(seed, self._index))
        self._num_episodes = 0
        self._begin()

    def step(self, action: list[int]) -> Outcome:
        """Press buttons for one action; begin the next episode where it ended this one."""
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
        """The whole picture, [H, W, 3] uint8."""
        return self._picture()

    def close(self) -> None:
        """End the emulator."""
        self._env.close()

    def _begin(self) -> None:
        """Start an episode and write its first frame to obs."""
        # As many states as environments: each keeps its own. Fewer or more: all are played equally often.
        number = self._index + self._num_episodes * self._num_envs
        self._env.initial_state = self._states[number % len(self._states)]
        self._env.reset()
        for _ in range(self._rng.integers(self._config.noop_max + 1)):
            self._advance(self._nothing)
        self._judge.begin(self._variables.lookup_all())
        self._num_episodes += 1
        self._frames_played = 0
        self._held = self._nothing
        self._draw(self._obs)

    def _advance(self, buttons: np.ndarray) -> tuple[float, bool]:
        """One frame; the scenario's reward, and whether it says that the episode is over."""
        self._env.em.set_button_mask(buttons, 0)
        self._env.em.step()
        self._variables.update_ram()
        return self._variables.current_reward(), self._variables.is_done()

    def _picture(self) -> np.ndarray:
        return self._env.get_screen(apply_rotation=True)

    def _draw(self, frame: np.ndarray, before: np.ndarray | None = None) -> None:
        """Write the picture, or the brighter of it and `before`, to `frame` [C, height, width]."""
        picture = self._picture()
        if before is not None and before.shape == picture.shape:
            picture = np.maximum(picture, before)
        top, bottom, left, right = self._config.crop
        rows, columns, _ = picture.shape
        if top + bottom >= rows or left + right >= columns:
            size = f"its picture has {rows} x {columns} pixels"
            raise ConfigError(f"nothing is left of '{self._config.game}'", "env.crop", size)
        picture = picture[top : rows - bottom, left : columns - right]
        if self._config.gray:
            picture = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(picture, (self._config.width, self._config.height), interpolation=cv2.INTER_AREA)
        frame[...] = small if self._config.gray else np.moveaxis(small, -1, 0)

    def _load(self, state: str) -> bytes:
        self._env.load_state(state)
        return self._env.initial_state
