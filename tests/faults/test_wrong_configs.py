"""Wrong configurations, drawn at random over the real schema: code 2, one line, no run folder."""

import dataclasses
import random
import string
import typing

import pytest

from rltrain.config.algorithms import ALGOS
from rltrain.config.environments import GymConfig
from rltrain.config.network import NetworkConfig
from rltrain.config.run import RunConfig

pytestmark = pytest.mark.faults
NODES = {"": RunConfig, "algo.": None, "env.": GymConfig, "network.": NetworkConfig}
GROUPS = ("algo", "env", "network")


def wrong(rng: random.Random) -> list[str]:
    """Arguments of which one is wrong: a misspelt key, a value of another type, one out of range, an unknown option."""
    algo = rng.choice(sorted(ALGOS))
    env = "taxi" if algo in ("q_learning", "sarsa", "monte_carlo") else "cartpole"
    args = [f"algo={algo}", f"env={env}"]
    prefix = rng.choice(sorted(NODES))
    schema = NODES[prefix] or ALGOS[algo]
    fields = [field for field in dataclasses.fields(schema) if field.name not in (*GROUPS, "name", "family")]
    field = rng.choice(fields)
    kind = rng.choice(["key", "type", "range", "option"])
    hint = typing.get_type_hints(schema)[field.name]
    if kind == "key":
        at = rng.randrange(len(field.name))
        name = field.name[:at] + rng.choice(string.ascii_lowercase) + field.name[at:]
        return [*args, f"{prefix}{name}=1"]
    if kind == "type" and hint in (int, float, bool, int | None, float | None):
        return [*args, f"{prefix}{field.name}={rng.choice(['many', '[1,2]', '{a:1}', '1.5x'])}"]
    if kind == "range" and hint in (int, int | None):
        return [*args, f"{prefix}{field.name}=-{rng.randrange(1, 10**6)}"]
    group = rng.choice(GROUPS)
    option = "".join(rng.choices(string.ascii_lowercase, k=rng.randrange(3, 12)))
    return [*[arg for arg in args if not arg.startswith(f"{group}=")], f"{group}={option}"]


@pytest.mark.tries(60)
def test_a_wrong_config_is_one_line_and_code_2_and_leaves_nothing(attempt, command):
    args = wrong(random.Random(attempt))
    drawn = args[-1].partition("=")[0]  # a key that is given twice would be a second line
    outcome = command(*[word for word in ("total_steps=10", "progress=false") if not word.startswith(drawn)], *args)
    assert outcome.code == 2, f"{args}: {outcome.err}"
    lines = [line for line in outcome.err.splitlines() if line.strip()]
    assert len(lines) == 1, f"{args}: {outcome.err}"
    assert outcome.last_line.startswith("rltrain: error: ")
    assert outcome.last_line.count(";") >= 1
    assert not outcome.run_dir.exists()
