"""`rltrain play RUN`: watch a run's agent in a window or, without a display, record a video in videos/."""

import sys
from datetime import datetime
from pathlib import Path

from rltrain.algos.registry import load_agent
from rltrain.commands.arguments import open_run, split, truth, whole_number
from rltrain.config.run import RunConfig
from rltrain.envs.pool import Episode
from rltrain.errors import DiskError
from rltrain.run.evaluation import Agent
from rltrain.watching import screens
from rltrain.watching.watch import watch

USAGE = (
    "rltrain play RUN [episodes=1] [seed=0] [checkpoint=last|best|STEP]"
    " [greedy=true|false, default: the run's eval_greedy] [video=true|false] [device=...] [env.id=...]"
)


def main(argv: list[str]) -> int:
    """Play and print each episode. The last line on stdout is the path of the video, if there is one.

    Returns the exit code. Raises RltrainError.
    """
    words, values = split(argv, {"episodes", "seed", "checkpoint", "greedy", "video", "device", "env.id"}, USAGE)
    episodes = whole_number("episodes", values.get("episodes", "1"))
    seed = whole_number("seed", values.get("seed", "0"), minimum=0)
    greedy = truth("greedy", values["greedy"]) if "greedy" in values else None
    video = truth("video", values.get("video", "false" if screens.has_display() else "true"))
    folder, config, path = open_run(words[0], values)
    if greedy is None:
        greedy = config.eval_greedy
    agent = load_agent(config, path)
    if video:
        video_path, played = watch_in_file(folder, path.name, config, agent, episodes, seed, greedy)
        _report(played)
        print(video_path)
    else:
        title = f"rltrain: {config.algo.name} plays {config.env.name}"
        played, is_true = watch(config, agent, episodes, seed, greedy, lambda fps: screens.Window(title, fps))
        _warn(is_true)
        _report(played)
    return 0


def watch_in_file(
    folder: Path, name: str, config: RunConfig, agent: Agent, episodes: int, seed: int, greedy: bool
) -> tuple[Path, list[Episode]]:
    """Record episodes in videos/ of the run folder. Returns the file and the episodes. Raises RltrainError."""
    videos = folder / "videos"
    try:
        videos.mkdir(exist_ok=True)
    except OSError as error:
        raise DiskError(f"the video cannot be written: {error.strerror}", str(videos), "free some space") from error
    path = screens.film_path(videos / f"{datetime.now():%Y%m%d-%H%M%S-%f}-{name}")
    if path.suffix == ".gif":
        print("rltrain: no ffmpeg, so the video is a GIF; for mp4: pip install 'rltrain[video]'", file=sys.stderr)
    played, is_true = watch(config, agent, episodes, seed, greedy, lambda fps: screens.film(path, fps))
    _warn(is_true)
    return path, played


def _report(played: list[Episode]) -> None:
    for number, episode in enumerate(played, start=1):
        print(f"episode {number}: score {episode.reward:.6g} in {episode.length_steps} steps")


def _warn(is_true: bool) -> None:
    if not is_true:
        print(
            "rltrain: warning: the pictures can differ from the scored game: the environment is not deterministic for a"
            " given seed and actions",
            file=sys.stderr,
        )
