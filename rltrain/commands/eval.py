"""`rltrain eval RUN`: play whole episodes with a checkpoint, in fresh environments built from the run's own config."""

import dataclasses
import json
from datetime import datetime
from typing import Any

from rltrain import checkpoint, run_folder
from rltrain import config as schema
from rltrain.commands.arguments import split, whole_number
from rltrain.config import RunConfig, algo_module
from rltrain.envs import registry
from rltrain.errors import ConfigError
from rltrain.evaluate import Agent, play_episodes

USAGE = "rltrain eval RUN [episodes=20] [seed=0] [checkpoint=best|last|STEP] [greedy=true|false] [device=...]"


def main(argv: list[str]) -> int:
    """Write eval/<time>.json and print it as the last line on stdout. Raises RltrainError."""
    words, values = split(argv, {"episodes", "seed", "checkpoint", "greedy", "device"}, USAGE)
    episodes = whole_number("episodes", values.get("episodes", "20"))
    seed = whole_number("seed", values.get("seed", "0"), minimum=0)
    greedy = values.get("greedy", "true").lower()
    if greedy not in ("true", "false"):
        raise ConfigError(f"'{greedy}' is neither true nor false", "greedy", "give one of them")
    folder, which = run_folder.find(words[0])
    config = schema.load(folder / "config.yaml")
    if "device" in values:
        config = dataclasses.replace(config, device=values["device"])
    path = checkpoint.find(folder, values.get("checkpoint", which or "last"))
    agent = load_agent(config, checkpoint.read(path))
    result = play_episodes(config, agent, episodes, seed, greedy == "true")
    result |= {"greedy": greedy == "true", "checkpoint": path.name, "run": str(folder)}
    (folder / "eval").mkdir(exist_ok=True)
    (folder / "eval" / f"{datetime.now():%Y%m%d-%H%M%S-%f}.json").write_text(json.dumps(result))
    print(json.dumps(result))
    return 0


def load_agent(config: RunConfig, state: dict[str, Any]) -> Agent:
    """The agent of a run with the weights of a checkpoint."""
    frame_space, action_space = registry.spaces(config.env)
    agent: Agent = algo_module(config.algo.name).make_agent(config, frame_space, action_space, config.seed)
    agent.load_state_dict(state["agent"])
    return agent
