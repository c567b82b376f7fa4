"""What the buttons of a pad are and what a game's variables are worth: rules without an emulator."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rltrain.errors import ConfigError, nearest

NOOP = "NOOP"


class Pad(NamedTuple):
    """Which buttons each action presses: one choice of combinations, or several choices whose buttons add up."""

    choices: list[np.ndarray]
    """For each choice the buttons that its options press, [options, buttons] uint8."""

    @property
    def num_choices(self) -> list[int]:
        """Options of each choice."""
        return [len(options) for options in self.choices]

    def buttons(self, action: Sequence[int]) -> np.ndarray:
        """The buttons, [buttons] uint8, that an action presses: one option of each choice."""
        pressed = [options[option] for options, option in zip(self.choices, action, strict=True)]
        return np.bitwise_or.reduce(pressed)


def make_pad(
    names: Sequence[str | None], groups: Sequence[Sequence[Sequence[str]]], actions: Sequence[str], action_set: str
) -> Pad:
    """The actions of a pad.

    names: its buttons, in the emulator's order. groups: stable-retro's, each of combinations that exclude one another.
    actions: such as LEFT+B; empty: every combination of the groups. action_set: `combinations` or `buttons`.
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
                hint = nearest(button, [NOOP, *(name for name in names if name)])
                raise ConfigError(f"the pad has no button '{button}'", "env.actions", hint)
            mask[names.index(button)] = 1
    return masks


class Judge:
    """What an action was worth and whether it ended the episode, by the scenario's word and the game's variables."""

    def __init__(self, reward_variable: str | None, new_best_only: bool, one_life: bool) -> None:
        self._reward_variable, self._new_best_only, self._one_life = reward_variable, new_best_only, one_life

    def begin(self, variables: Mapping[str, float]) -> None:
        """An episode begins with these variables."""
        self._value = variables[self._reward_variable] if self._reward_variable else 0.0
        self._lives = variables["lives"] if self._one_life else 0
        self._sum = self._best = 0.0

    def judge(self, reward: float, over: bool, variables: Mapping[str, float]) -> tuple[float, bool]:
        """The reward of an action and whether the episode terminated.

        reward, over: the scenario's, `reward` summed over the frames of the action. variables: after its last frame.
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
