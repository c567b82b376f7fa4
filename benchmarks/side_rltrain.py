"""Our side of a paired benchmark: `rltrain` as a user starts it, paused between blocks.

side_rltrain.py WARM_UP STEPS key=value...
"""

import sys
import tempfile
from typing import Any

from gate import Gate

from rltrain.cli import main
from rltrain.run import Run


def paused(gate: Gate) -> Any:
    """`Run.after_step`, and then the gate."""
    after_step = Run.after_step

    def after_step_and_gate(run: Run, *args: Any, **kwargs: Any) -> None:
        after_step(run, *args, **kwargs)
        gate(run.step)

    return after_step_and_gate


if __name__ == "__main__":
    Run.after_step = paused(Gate(int(sys.argv[1]), int(sys.argv[2])))  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        sys.argv[1:] = [*sys.argv[3:], f"run_dir={folder}", "progress=false", "eval_every_steps=0"]
        sys.argv += ["checkpoint_every_steps=0", "final_eval_episodes=1"]
        main()
