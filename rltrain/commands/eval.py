"""`rltrain eval RUN`: evaluate a checkpoint over whole episodes, in new environments with the run's own settings."""

import json
import os
import sys
from datetime import datetime

from rltrain.algos.registry import load_agent
from rltrain.commands.arguments import open_run, split, truth, whole_number
from rltrain.commands.play import watch_in_file
from rltrain.errors import disk_errors
from rltrain.run.evaluation import play_episodes

USAGE = (
    "rltrain eval RUN [episodes=20] [seed=0] [checkpoint=last|best|STEP]"
    " [greedy=true|false, default: the run's eval_greedy] [video=false|true] [device=...] [env.id=...]"
)


def main(argv: list[str]) -> int:
    """Write eval/<time>.json and print it as the last line on stdout. `video` records the first episode.

    Returns the exit code. Raises RltrainError.
    """
    words, values = split(argv, {"episodes", "seed", "checkpoint", "greedy", "video", "device", "env.id"}, USAGE)
    episodes = whole_number("episodes", values.get("episodes", "20"))
    seed = whole_number("seed", values.get("seed", "0"), minimum=0)
    greedy = truth("greedy", values["greedy"]) if "greedy" in values else None
    video = truth("video", values.get("video", "false"))
    folder, config, path = open_run(words[0], values)
    if greedy is None:
        greedy = config.eval_greedy
    agent = load_agent(config, path)
    facts = {"greedy": greedy, "checkpoint": path.name, "run": str(folder)}
    if video:  # before the evaluation, which may be long: an environment without pictures fails here
        video_path, _ = watch_in_file(folder, path.name, config, agent, 1, seed, greedy)
        print(f"video: {video_path}", file=sys.stderr)
        facts["video"] = str(video_path)
    result = play_episodes(config, agent, episodes, seed, greedy) | facts
    print(json.dumps(result))  # before writing the file: a full disk then loses nothing
    out = folder / "eval" / f"{datetime.now():%Y%m%d-%H%M%S-%f}.json"
    with disk_errors("the result", folder / "eval"):
        out.parent.mkdir(exist_ok=True)
        out.write_text(json.dumps(result))
    reached = f"{result['mean_reward']:.2f} +- {result['std_reward']:.2f} over {result['episodes']} episodes"
    print(f"{reached} with {path.name}; saved to {os.path.relpath(out)}", file=sys.stderr)
    return 0
