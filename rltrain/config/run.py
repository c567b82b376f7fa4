"""Settings of a run. This module imports neither torch nor Hydra nor an emulator."""

import os
import re
from dataclasses import dataclass, field
from typing import Any

from rltrain.config.network import NetworkConfig
from rltrain.config.runtime import LocalConfig
from rltrain.config.validate import LARGEST, at_least, in_range, one_of, utf8
from rltrain.errors import ConfigError

MOST_STEPS = 10**15 - 1
"""The largest number of steps that the name of a checkpoint holds."""

SHORTHANDS = ("num_envs", "batch_size")
"""The run's keys that are short for the algorithm's keys of the same name, and win over them."""


@dataclass
class RunConfig:
    """All settings of a run. `algo`, `env`, `network` and `runtime` hold the settings of the chosen option."""

    algo: Any = None
    env: Any = None
    network: NetworkConfig = field(default_factory=NetworkConfig)
    runtime: Any = None
    seed: int = 0
    """Seed of all random numbers."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    precision: str = "auto"
    """fp32; bf16 (torso only, heads stay fp32); tf32 (fp32 with 10-bit fractions in CUDA multiplications); or auto:
    bf16 for convolutions on processors where it is faster, else fp32."""
    fast: bool = True
    """Use accelerated versions of the plain PyTorch functions, with the same results to rounding. Set false to rule
    them out as a cause."""
    cuda_graphs: str = "auto"
    """Record the CUDA kernels of acting and of updates once and replay them together: true, false or auto (true on
    CUDA, if the algorithm supports it)."""
    compile: bool = False
    """Compile the network's updates with torch.compile. The start takes 30 s or more longer, then updates are faster.
    The metric time/compile_s shows the compile time."""
    total_steps: int = 100_000
    """Agent steps (decisions) over all environments."""
    num_envs: int | None = None
    """Environments stepped in parallel; null: the algorithm's tuned value."""
    batch_size: int | None = None
    """Samples in a minibatch; null: the algorithm's tuned value."""
    micro_batch_size: int | None = None
    """Split each minibatch into parts of this size and accumulate their gradients: the same update in less memory;
    null: no split."""
    oom: str = "fail"
    """What to do if an update runs out of memory. fail: end the run with exit code 6 and print a micro_batch_size that
    fits. split: set that micro_batch_size and repeat the update."""
    log_every_s: float = 2.0
    """Seconds between updates of the progress line."""
    log_every_steps: int | None = None
    """Agent steps between lines of metrics.jsonl; null: 1% of total_steps. It counts steps, not seconds, so that the
    same seed gives the same lines."""
    eval_every_steps: int | None = None
    """Agent steps between evaluations; null: 10% of total_steps; 0: only at the end. The first one is at step 0, before
    training, and shows what the untrained agent scores: it is no result, and never `best`."""
    eval_episodes: int = 10
    """Episodes of an evaluation during training."""
    final_eval_episodes: int = 20
    """Episodes of the evaluation after the last step."""
    eval_greedy: bool = True
    """Evaluate the greedy policy; false: sample actions as in training. `rltrain eval` and `play` use this setting
    unless you give them greedy=true or greedy=false."""
    checkpoint_every_steps: int | None = None
    """Agent steps between checkpoints; null: 20% of total_steps, and at most an eighth of the capacity of a replay
    buffer of more than 1 GB; 0: only at the end."""
    checkpoint_keep_every_steps: int | None = None
    """Agent steps between checkpoints that are kept forever, besides the newest two and the best; null: none."""
    run_dir: str = "runs"
    """Folder for the run folders."""
    name: str | None = None
    """Text to append to the name of the run folder."""
    init_from: str | None = None
    """A run whose weights the new agent begins with: a run folder (its last checkpoint), a checkpoint in it, a run's
    name, or `last`. The algorithm, the network and the spaces must fit. Steps and the optimizer begin anew."""
    plugins: list[str] = field(default_factory=list)
    """Your modules that register algorithms, environments or networks (see rltrain/plugins.py). For security only the
    command line imports them, so name them again for `resume`, `eval`, `play` and `export`."""
    dry_run: bool = False
    """Build everything, make one update in a temporary folder, print shapes and sizes, keep nothing."""
    skip_done: bool = False
    """In a sweep: continue the newest earlier sweep that has these jobs, and run only those that are not done."""
    fail_fast: bool = False
    """In a sweep: begin no further job after one has failed."""
    progress: bool = True
    """Show the start panel and the progress line. A run that ends tells its score and its folder in any case."""
    tuned_by: list[str] | None = None
    """The files of tuned settings that the run took. rltrain writes this; the start panel shows it."""
    chosen: list[str] = field(default_factory=list)
    """The keys that were auto or null, and that rltrain chose. rltrain writes this; the start panel shows it."""

    def __post_init__(self) -> None:
        if self.runtime is None:  # runs of before the group existed
            self.runtime = LocalConfig()
        in_range("seed", self.seed, 0, LARGEST)
        if not self.run_dir:
            raise ConfigError("run_dir is empty", "run_dir", "leave it out, or give run_dir=DIR")
        self.run_dir = os.path.expanduser(self.run_dir)
        utf8("run_dir", self.run_dir)
        if "://" in self.run_dir:
            raise ConfigError(f"'{self.run_dir}' is no folder", "run_dir", "give a folder, such as a mounted one")
        one_of("oom", self.oom, ("fail", "split"))
        one_of("precision", self.precision, ("auto", "fp32", "tf32", "bf16"))
        self.cuda_graphs = self.cuda_graphs.lower()  # Hydra turns `true` into a bool and then into "True"
        one_of("cuda_graphs", self.cuda_graphs, ("auto", "true", "false"))
        if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]+)?", self.device):
            raise ConfigError(f"unknown device '{self.device}'", "device", "use auto, cpu, cuda, cuda:1 or mps")
        at_least("total_steps", self.total_steps, 1)
        in_range("total_steps", self.total_steps, 1, MOST_STEPS)
        at_least("num_envs", self.num_envs, 1)
        at_least("batch_size", self.batch_size, 1)
        at_least("micro_batch_size", self.micro_batch_size, 1)
        at_least("log_every_s", self.log_every_s, 0.05)
        at_least("log_every_steps", self.log_every_steps, 1)
        at_least("eval_every_steps", self.eval_every_steps, 0)
        at_least("eval_episodes", self.eval_episodes, 1)
        at_least("final_eval_episodes", self.final_eval_episodes, 1)
        at_least("checkpoint_every_steps", self.checkpoint_every_steps, 0)
        at_least("checkpoint_keep_every_steps", self.checkpoint_keep_every_steps, 1)
        if self.name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", self.name):
            raise ConfigError(f"'{self.name}' cannot be part of a folder name", "name", "use letters, digits, . _ -")
        if self.init_from is not None:
            utf8("init_from", self.init_from)
        env_name = str(getattr(self.env, "name", "-"))  # a file without a schema gives a mapping, told later
        # Its folder must be in run_dir itself, and not where the link to the newest run leads.
        if "/" in env_name or "\0" in env_name or env_name in ("", ".", "..", "latest", "sweeps"):
            raise ConfigError(f"'{env_name}' cannot be a folder's name", "env.name", "use letters, digits, . _ -")
