"""The actions, rewards and ends of episodes of console games, computed without an emulator."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rltrain.errors import ConfigError, nearest

NOOP = "NOOP"


class Pad(NamedTuple):
    """The buttons that each action presses. An action selects one option of each choice; their buttons add up."""

    choices: list[np.ndarray]
    """The buttons that the options of each choice press, [options, buttons] uint8."""

    @property
    def num_choices(self) -> list[int]:
        """The number of options of each choice."""
        return [len(options) for options in self.choices]

    def buttons(self, action: Sequence[int]) -> np.ndarray:
        """Return the buttons that an action presses, [buttons] uint8. action: one option of each choice."""
        pressed = [options[option] for options, option in zip(self.choices, action, strict=True)]
        return np.bitwise_or.reduce(pressed)


def make_pad(
    names: Sequence[str | None], groups: Sequence[Sequence[Sequence[str]]], actions: Sequence[str], action_set: str
) -> Pad:
    """Return the actions of a pad.

    names: the pad's buttons, in the emulator's order. groups: stable-retro's groups of button combinations; at most one
    combination of a group can be pressed. actions: button combinations such as LEFT+B; if empty, every combination of
    the groups. action_set: `combinations` for one choice, `buttons` for one choice per group.
    Raises ConfigError for a button that the pad does not have.
    """
    if action_set == "buttons":
        return Pad([_masks(names, group) for group in groups])
    combinations: list[Sequence[str]] = [[] if text == NOOP else text.split("+") for text in actions]
    if not combinations:
        combinations = [list(itertools.chain(*parts)) for parts in itertools.product(*groups)]
    return Pad([_masks(names, combinations)])


def _masks(names: Sequence[str | None], combinations: Sequence[Sequence[str]]) -> np.ndarray:
    masks = np.zeros((len(combinations), len(names)), np.uint8)
    for mask, combination in zip(masks, combinations, strict=True):
        for button in combination:
            if button not in names:
                known = [NOOP, *(name for name in names if name)]
                hint = f"write {NOOP} alone" if button == NOOP else nearest(button, known)
                raise ConfigError(f"the pad has no button '{button}'", "env.actions", hint)
            mask[names.index(button)] = 1
    return masks


class Judge:
    """Compute the reward of each action and the end of the episode, from the scenario and the game's variables."""

    def __init__(self, reward_variable: str | None, new_best_only: bool, one_life: bool) -> None:
        self._reward_variable, self._new_best_only, self._one_life = reward_variable, new_best_only, one_life

    def begin(self, variables: Mapping[str, float]) -> None:
        """Start an episode. variables: the game's variables at its start."""
        self._value = variables[self._reward_variable] if self._reward_variable else 0.0
        self._lives = variables["lives"] if self._one_life else 0
        self._sum = self._best = 0.0

    def judge(self, reward: float, over: bool, variables: Mapping[str, float]) -> tuple[float, bool]:
        """Return the reward of an action, and true if the episode has terminated.

        reward: the scenario's reward, summed over the frames of the action. over: true if the scenario ends the
        episode. variables: the game's variables after the action's last frame.
        """
        if self._reward_variable:
            value = variables[self._reward_variable]
            reward, self._value = value - self._value, value
        if self._new_best_only:
            self._sum += reward
            reward = max(0.0, self._sum - self._best)
            self._best += reward
        if self._one_life:
            over = over or variables["lives"] < self._lives
            self._lives = variables["lives"]
        return float(reward), over
