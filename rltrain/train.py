"""From a checked configuration to a finished run: folder, lock, signals, the algorithm, and how it ended."""

import dataclasses
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from rltrain import atomic, out_of_memory, run_folder
from rltrain.algos.dqn_config import DQNConfig
from rltrain.config import RunConfig, algo_module
from rltrain.envs import patience
from rltrain.errors import NonFiniteError, RltrainError, Stopped
from rltrain.run import Run
from rltrain.tabular_config import TabularConfig

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


def train(config: RunConfig, folder: Path | None = None, restored: tuple[int, dict[str, Any]] | None = None) -> None:
    """Train from a checked configuration, or go on from `restored` in an existing folder. Raises RltrainError."""
    if config.dry_run:
        with tempfile.TemporaryDirectory() as place:
            short = _until_first_update(dataclasses.replace(config, run_dir=place))
            try:
                _train_in(short, run_folder.create(short, Path(place) / "run"), None)
            except Stopped as error:
                raise Stopped(error.signal_number) from error  # its folder goes
        print("dry run: built everything and learned once; nothing was kept", file=sys.stderr)
        return
    if restored is None:
        folder = run_folder.create(config, folder)
    assert folder is not None
    _train_in(config, folder, restored)


def _train_in(config: RunConfig, folder: Path, restored: tuple[int, dict[str, Any]] | None) -> None:
    """Train in a folder that is there, locked meanwhile."""
    lock = run_folder.Lock(folder)
    try:
        _train_locked(config, folder, restored)
    finally:
        lock.release()


def _train_locked(config: RunConfig, folder: Path, restored: tuple[int, dict[str, Any]] | None) -> None:
    """Signals, the algorithm, and how it ended, in status.json and error.log."""
    run = Run(config, folder, restored)
    # nohup lets SIGHUP be ignored: who asked for that keeps it.
    ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else set()
    handlers = {number: signal.signal(number, run.on_signal) for number in _STOP_SIGNALS if number not in ignored}
    handlers[signal.SIGALRM] = signal.signal(signal.SIGALRM, patience.interrupt)
    run.write_status("running")
    try:
        with out_of_memory.told(config):
            algo_module(config.algo.name).train(config, run)
        run.write_status("done", exit_code=0)
    except RltrainError as error:
        run.write_status("stopped" if error.exit_code >= 128 else "failed", str(error), error.exit_code)
        with run.logger.warned():
            atomic.write_text(folder / "error.log", traceback.format_exc())
            if isinstance(error, NonFiniteError):
                atomic.write_json(folder / "nonfinite.json", {"step": run.step, **error.facts})
        raise
    except BaseException as error:
        run.write_status("failed", f"{type(error).__name__}: {error}", 1)
        with run.logger.warned():
            atomic.write_text(folder / "error.log", traceback.format_exc())
        raise
    finally:
        patience.calm()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        run.logger.close()


def _until_first_update(config: RunConfig) -> RunConfig:
    """The same run, so short that it learns once."""
    algo = config.algo
    if isinstance(algo, DQNConfig):
        starts = algo.batch_size + algo.num_envs * (algo.n_step + 1)
        algo = dataclasses.replace(algo, learning_starts=starts)
        steps = starts + algo.train_every_steps + algo.num_envs
    elif isinstance(algo, TabularConfig):
        steps = 1000  # Monte Carlo learns at the end of an episode
    else:  # one rollout; for the rest, one batch of episodes
        steps = algo.num_envs * algo.num_steps if hasattr(algo, "num_steps") else 1
    return dataclasses.replace(
        config, algo=algo, total_steps=steps, eval_every_steps=0, checkpoint_every_steps=0, final_eval_episodes=1
    )
