"""`rltrain resume RUN [total_steps=...]`: go on with a run in its own folder, with its own config."""

import dataclasses
import json
from pathlib import Path

from rltrain import checkpoint, run_folder
from rltrain import config as schema
from rltrain.commands.arguments import split, whole_number
from rltrain.errors import ConfigError
from rltrain.train import train


def main(argv: list[str]) -> int:
    """Returns the exit code. Raises RltrainError."""
    words, values = split(argv, {"total_steps", "progress"}, "rltrain resume RUN [total_steps=...]")
    folder, which = run_folder.find(words[0])
    config = schema.load(folder / "config.yaml")
    for path in sorted(folder.glob("config.resume-*.yaml")):
        config = schema.load(path)
    if "progress" in values:
        config = dataclasses.replace(config, progress=values["progress"].lower() == "true")
    if "total_steps" in values:
        config = dataclasses.replace(config, total_steps=whole_number("total_steps", values["total_steps"]))
    step, state = checkpoint.load(folder, which or "last")
    if step >= config.total_steps:
        status = json.loads((folder / "status.json").read_text()).get("state", "unknown")
        raise ConfigError(
            f"the run is {status} at step {step:,} of {config.total_steps:,}",
            "total_steps",
            f"give more: rltrain resume {words[0]} total_steps={2 * config.total_steps}",
        )
    if "total_steps" in values:
        number = len(list(folder.glob("config.resume-*.yaml"))) + 1
        schema.save(config, Path(folder) / f"config.resume-{number}.yaml")
    train(config, folder, (step, state))
    return 0
