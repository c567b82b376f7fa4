"""`rltrain play RUN`: watch a run's agent in a window or, without a display, record a video in videos/."""

import errno
import os
from datetime import datetime
from pathlib import Path

from rltrain.algos.registry import load_agent
from rltrain.commands.arguments import RUN_KEYS, open_run, split, truth, whole_number
from rltrain.commands.stopping import Stopping, stoppable
from rltrain.config.run import RunConfig
from rltrain.envs.pool import Episode
from rltrain.errors import ConfigError, DiskError, disk_errors, printable
from rltrain.run import checkpoint
from rltrain.run import folder as run_folder
from rltrain.run.evaluation import Agent
from rltrain.system import inside, notices
from rltrain.watching import screens
from rltrain.watching.watch import watch

USAGE = (
    "rltrain play RUN [episodes=1] [seed=0] [checkpoint=last|best|STEP]"
    " [greedy=true|false, default: the run's eval_greedy] [video=true|false] [out=FILE.mp4] [device=...] [env.id=...]"
    " [env.cfg=FILE]"
)

_GET_FFMPEG = "pip install 'rltrain[video]'"


def main(argv: list[str]) -> int:
    """Play and print each episode. The last line on stdout is the path of the video, if there is one.

    Returns the exit code. Raises RltrainError.
    """
    words, values = split(
        argv, {"episodes", "seed", "checkpoint", "greedy", "video", "out", "device", *RUN_KEYS}, USAGE
    )
    episodes = whole_number("episodes", values.get("episodes", "1"))
    seed = whole_number("seed", values.get("seed", "0"), minimum=0)
    greedy = truth("greedy", values["greedy"]) if "greedy" in values else None
    film = Path(values["out"]) if "out" in values else None
    if film is not None and film.suffix not in (".mp4", ".gif"):
        raise ConfigError(f"'{film.name}' is not a video file", "out", "use .mp4 or .gif")
    video = truth("video", values.get("video", "false" if screens.has_display() and film is None else "true"))
    folder, config, path = open_run(words[0], values)
    if greedy is None:
        greedy = config.eval_greedy
    with stoppable() as stopping:
        agent, made_for = load_agent(config, path), checkpoint.spaces_of(path)
        if video:
            if film is not None:
                with disk_errors("the video", film, "give another out=FILE"):
                    os.makedirs(film.parent, exist_ok=True)
            film = film or film_in(folder, path.name)
            video_path, played = watch_in_file(film, config, agent, episodes, seed, greedy, stopping, made_for)
            _report(played)
            if video_path is not None:
                print(printable(str(run_folder.from_here(video_path))))
        else:
            title = f"rltrain: {config.algo.name} plays {config.env.name}"

            def window(fps: float) -> screens.Screen:
                return screens.Window(title, fps)

            played, is_true = watch(config, agent, episodes, seed, greedy, window, stopping, made_for)
            _warn(is_true)
            _report(played)
    return 0


def film_in(folder: Path, name: str) -> Path:
    """Return the path of a new video in videos/ of the run folder. Raises DiskError, CheckpointError."""
    videos = folder / "videos"
    try:
        inside.make_folder(videos)
        if not os.access(videos, os.W_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        fix = "use `rltrain play RUN out=FILE.mp4` to write it elsewhere"
        raise DiskError(f"the video cannot be written: {error.strerror}", str(videos), fix) from error
    return videos / f"{datetime.now():%Y%m%d-%H%M%S-%f}-{name}.mp4"


def watch_in_file(
    path: Path,
    config: RunConfig,
    agent: Agent,
    episodes: int,
    seed: int,
    greedy: bool,
    stopping: Stopping | None = None,
    made_for: list[str] | None = None,
) -> tuple[Path | None, list[Episode]]:
    """Record episodes in a video file. Returns the file and the episodes. Raises RltrainError.

    If there is no ffmpeg, the file is a .gif with the same name. stopping: ends the video when it returns True; without
    any picture there is no file. made_for: as of `play_episodes`.
    """
    stopping = stopping or Stopping()
    wanted, path = path, screens.film_path(path) if path.suffix == ".mp4" else path
    if path != wanted:
        if os.path.lexists(path):
            what = f"there is no ffmpeg, and the GIF would replace {run_folder.from_here(path)}, which was not named"
            raise ConfigError(what, "out", f"give out=OTHER.gif, replace it with out={path.name}, or {_GET_FFMPEG}")
        notices.tell(f"no ffmpeg, so the video is a GIF; for mp4: {_GET_FFMPEG}")
    before = _changed_at(path)
    played, is_true = watch(
        config, agent, episodes, seed, greedy, lambda fps: screens.film(path, fps), stopping, made_for
    )
    _warn(is_true)
    stopping.film = path if _changed_at(path) != before else None
    return stopping.film, played


def _changed_at(path: Path) -> int | None:
    """Return the time of a file's last change in nanoseconds, or None without a file."""
    return os.stat(path).st_mtime_ns if os.path.exists(path) else None


def _report(played: list[Episode]) -> None:
    for number, episode in enumerate(played, start=1):
        print(f"episode {number}: score {episode.reward:.6g} in {episode.length_steps} steps")


def _warn(is_true: bool) -> None:
    if not is_true:
        why = "the environment is not deterministic for a given seed and actions"
        notices.warn(f"the pictures can differ from the scored game: {why}")
