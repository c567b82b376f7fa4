"""`rltrain resume RUN [total_steps=...]`: go on with a run in its own folder, with its own config."""

import dataclasses

from rltrain import checkpoint, run_folder
from rltrain import config as schema
from rltrain.commands.arguments import split, whole_number
from rltrain.errors import ConfigError
from rltrain.train import train


def main(argv: list[str]) -> int:
    """Returns the exit code. Raises RltrainError."""
    words, values = split(argv, {"total_steps", "progress"}, "rltrain resume RUN [total_steps=...]")
    folder, which = run_folder.find(words[0])
    run_folder.Lock(folder).release()  # before anything is written: a folder in use is left as it is
    config = schema.load(folder / "config.yaml")
    resumes = len(list(folder.glob("config.resume-*.yaml")))
    if resumes:
        config = schema.load(folder / f"config.resume-{resumes}.yaml")
    if "progress" in values:
        config = dataclasses.replace(config, progress=values["progress"].lower() == "true")
    if "total_steps" in values:
        config = dataclasses.replace(config, total_steps=whole_number("total_steps", values["total_steps"]))
    step, state = checkpoint.load(folder, which or "last")
    if step >= config.total_steps and (folder / "result.json").is_file():  # without it, the last evaluation is to do
        raise ConfigError(
            f"the run is done at step {step:,} of {config.total_steps:,}",
            "total_steps",
            f"give more: rltrain resume {words[0]} total_steps={2 * config.total_steps}",
        )
    if "total_steps" in values:
        schema.save(config, folder / f"config.resume-{resumes + 1}.yaml")
    train(config, folder, (step, state))
    return 0
