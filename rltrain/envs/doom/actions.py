"""Which sets of Doom's buttons are an agent's actions."""

import itertools
import re

from rltrain.errors import ConfigError, nearest

# Pressed together these cancel out, or only the last one counts.
_OPPOSITES = (
    ("MOVE_LEFT", "MOVE_RIGHT"),
    ("MOVE_FORWARD", "MOVE_BACKWARD"),
    ("MOVE_UP", "MOVE_DOWN"),
    ("TURN_LEFT", "TURN_RIGHT"),
    ("LOOK_UP", "LOOK_DOWN"),
)


def button_actions(buttons: list[str], action_set: str, noop: bool) -> list[list[float]]:
    """What each action presses, [num_actions][num_buttons], 0 or 1.

    `single` gives one action per button, in the configuration's order, with an empty one last if `noop`;
    `combinations` gives every subset without opposites, the empty one first. Delta buttons (`TURN_LEFT_RIGHT_DELTA`),
    which take a magnitude, stay at 0.
    """
    pressable = [i for i, button in enumerate(buttons) if not button.endswith("_DELTA")]
    subsets: list[tuple[int, ...]] = [(i,) for i in pressable]
    if action_set == "combinations":
        subsets = _products(_groups(buttons, pressable))
    elif noop:
        subsets.append(())
    return [[float(i in subset) for i in range(len(buttons))] for subset in subsets]


def _groups(buttons: list[str], pressable: list[int]) -> list[list[int]]:
    """Buttons of which at most one is pressed: opposites, all that choose a weapon; every other one for itself."""
    groups: dict[object, list[int]] = {}
    for i in pressable:
        pair = next((pair for pair in _OPPOSITES if buttons[i] in pair), None)
        weapon = "weapon" if re.match(r"SELECT_(WEAPON|NEXT|PREV)", buttons[i]) else None
        groups.setdefault(pair or weapon or i, []).append(i)
    return list(groups.values())


def _products(groups: list[list[int]]) -> list[tuple[int, ...]]:
    choices = [[None, *group] for group in groups]
    subsets = [tuple(i for i in choice if i is not None) for choice in itertools.product(*choices)]
    # Few buttons first: early action numbers are the simple ones, and the list is easy to read.
    return sorted(subsets, key=lambda subset: (len(subset), subset))


def named_actions(buttons: list[str], actions: list[list[str]]) -> list[list[float]]:
    """What each action presses, [num_actions][num_buttons], given the names of its buttons; none for a no-op.

    Raises ConfigError for a button that the scenario does not have.
    """
    for name in itertools.chain.from_iterable(actions):
        if name.upper() not in buttons:
            raise ConfigError(f"there is no button '{name}' here", "env.actions", nearest(name.upper(), buttons))
    pressed = [{name.upper() for name in action} for action in actions]
    return [[float(button in names) for button in buttons] for names in pressed]
