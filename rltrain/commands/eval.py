"""`rltrain eval RUN`: evaluate a checkpoint over whole episodes, in new environments with the run's own settings."""

import os
import sys
from datetime import datetime
from pathlib import Path

from rltrain.algos.registry import load_agent
from rltrain.commands.arguments import RUN_KEYS, open_run, split, truth, whole_number
from rltrain.commands.play import film_in, watch_in_file
from rltrain.commands.stopping import Stopping, stoppable
from rltrain.config.run import RunConfig
from rltrain.errors import DiskError, disk_errors, printable
from rltrain.run import checkpoint
from rltrain.run.evaluation import play_episodes
from rltrain.system import atomic, inside, notices, plain_json

USAGE = (
    "rltrain eval RUN [episodes=20] [seed=0] [checkpoint=last|best|STEP]"
    " [greedy=true|false, default: the run's eval_greedy] [video=false|true] [device=...] [env.id=...] [env.cfg=FILE]"
)


def main(argv: list[str]) -> int:
    """Write eval/<time>.json and print it as the last line on stdout. `video` records the first episode.

    Returns the exit code. Raises RltrainError.
    """
    words, values = split(argv, {"episodes", "seed", "checkpoint", "greedy", "video", "device", *RUN_KEYS}, USAGE)
    episodes = whole_number("episodes", values.get("episodes", "20"))
    seed = whole_number("seed", values.get("seed", "0"), minimum=0)
    greedy = truth("greedy", values["greedy"]) if "greedy" in values else None
    video = truth("video", values.get("video", "false"))
    folder, config, path = open_run(words[0], values)
    if greedy is None:
        greedy = config.eval_greedy
    with stoppable() as stopping:
        _evaluate(folder, config, path, episodes, seed, greedy, video, stopping)
    return 0


def _evaluate(
    folder: Path,
    config: RunConfig,
    path: Path,
    episodes: int,
    seed: int,
    greedy: bool,
    video: bool,
    stopping: Stopping,
) -> None:
    agent = load_agent(config, path)
    facts = {"greedy": greedy, "checkpoint": path.name, "run": str(folder)}
    made_for = checkpoint.spaces_of(path)
    if video:  # before the evaluation, which may be long: an environment without pictures fails here
        film = film_in(folder, path.name)
        video_path, _ = watch_in_file(film, config, agent, 1, seed, greedy, stopping, made_for)
        if stopping():
            return
        print(printable(f"video: {video_path}"), file=sys.stderr)
        facts["video"] = str(video_path)
    result = play_episodes(config, agent, episodes, seed, greedy, lambda num_done: stopping(), made_for) | facts
    print(plain_json.dumps(result))  # before writing the file: a full disk then loses nothing
    out = folder / "eval" / f"{datetime.now():%Y%m%d-%H%M%S-%f}.json"
    try:
        with disk_errors("the result", folder / "eval"):
            inside.make_folder(out.parent)
        atomic.write_text(out, plain_json.dumps(result))
        saved = f"saved to {os.path.relpath(out)}"
    except DiskError as error:  # a run that may only be read, or a full disk: the result is on stdout
        notices.warn(str(error))
        saved = "saved nowhere"
    played = f"{episodes} episode{'s' if episodes != 1 else ''}"
    reached = f"{result['mean_reward']:.2f} +- {result['std_reward']:.2f} over {played}"
    print(printable(f"{reached} with {path.name}; {saved}"), file=sys.stderr)
