"""The actions of a Doom agent: sets of buttons that are pressed together."""

import itertools
import math
import re

from rltrain.errors import ConfigError, nearest

_MOST_ACTIONS = 10_000
"""A network of more is hardly meant. Each button beside the others doubles the number of combinations."""

# Pressed together, the two buttons of a pair cancel out, or only the last one counts.
_OPPOSITES = (
    ("MOVE_LEFT", "MOVE_RIGHT"),
    ("MOVE_FORWARD", "MOVE_BACKWARD"),
    ("MOVE_UP", "MOVE_DOWN"),
    ("TURN_LEFT", "TURN_RIGHT"),
    ("LOOK_UP", "LOOK_DOWN"),
)


def button_actions(buttons: list[str], action_set: str, noop: bool) -> list[list[float]]:
    """Return the buttons that each action presses, [num_actions][num_buttons], 0 or 1.

    action_set: `single` gives one action per button in the configuration's order, followed by an empty action if
    `noop`. `combinations` gives each set of buttons without opposites, starting with the empty set. Delta buttons
    (`TURN_LEFT_RIGHT_DELTA`), which take a magnitude, stay at 0.
    Raises ConfigError for too many combinations.
    """
    pressable = [i for i, button in enumerate(buttons) if not button.endswith("_DELTA")]
    subsets: list[tuple[int, ...]] = [(i,) for i in pressable]
    if action_set == "combinations":
        groups = _groups(buttons, pressable)
        number = math.prod(len(group) + 1 for group in groups)
        if number > _MOST_ACTIONS:
            what = f"the {len(pressable)} buttons make {number:,} combinations; at most {_MOST_ACTIONS:,} are possible"
            raise ConfigError(
                what, "env.action_set", "use env.action_set=single, or name the actions: env.actions=[[A],[A,B]]"
            )
        subsets = _products(groups)
    elif noop:
        subsets.append(())
    return [[float(i in subset) for i in range(len(buttons))] for subset in subsets]


def left_out(buttons: list[str]) -> list[str]:
    """Return the delta buttons that `button_actions` leaves out, without those for which there are plain buttons."""
    plain = [f"{one}_{other.rpartition('_')[2]}_DELTA" for one, other in _OPPOSITES if {one, other} & set(buttons)]
    return [button for button in buttons if button.endswith("_DELTA") and button not in plain]


def _groups(buttons: list[str], pressable: list[int]) -> list[list[int]]:
    """Group the buttons so that an action presses at most one of each group.

    Opposite buttons form a group, and so do all buttons that select a weapon. Each other button is a group by itself.
    """
    groups: dict[object, list[int]] = {}
    for i in pressable:
        pair = next((pair for pair in _OPPOSITES if buttons[i] in pair), None)
        weapon = "weapon" if re.match(r"SELECT_(WEAPON|NEXT|PREV)", buttons[i]) else None
        groups.setdefault(pair or weapon or i, []).append(i)
    return list(groups.values())


def _products(groups: list[list[int]]) -> list[tuple[int, ...]]:
    choices = [[None, *group] for group in groups]
    subsets = [tuple(i for i in choice if i is not None) for choice in itertools.product(*choices)]
    # Sort by the number of buttons, so that the simple actions come first.
    return sorted(subsets, key=lambda subset: (len(subset), subset))


def named_actions(buttons: list[str], actions: list[list[str]]) -> list[list[float]]:
    """Return the buttons that each action presses, [num_actions][num_buttons], 0 or 1.

    actions: the names of the buttons of each action; an empty list is a no-op.
    Raises ConfigError for a button that the scenario does not have.
    """
    for name in itertools.chain.from_iterable(actions):
        if name.upper() not in buttons:
            raise ConfigError(f"this scenario has no button '{name}'", "env.actions", nearest(name.upper(), buttons))
    pressed = [{name.upper() for name in action} for action in actions]
    return [[float(button in names) for button in buttons] for names in pressed]
