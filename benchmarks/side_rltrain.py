"""rltrain's side of a paired benchmark: `rltrain` as a user starts it, paused between blocks.

side_rltrain.py WARM_UP STEPS [without=TWIN] key=value...
"""

import sys
import tempfile
from typing import Any

from gate import Gate


def pause_runs(gate: Gate) -> None:
    """Make `Run.after_step` call the gate."""
    try:
        from rltrain.run.run import Run
    except ModuleNotFoundError:  # checkouts before the rooms
        from rltrain.run import Run  # type: ignore[attr-defined,no-redef]

    after_step = Run.after_step

    def after_step_and_gate(run: Run, *args: Any, **kwargs: Any) -> None:
        after_step(run, *args, **kwargs)
        gate(run.step)

    Run.after_step = after_step_and_gate  # type: ignore[method-assign]


def leave_out_twins(names: list[str]) -> None:
    """Make `fast` leave out the twins of these plain functions."""
    from rltrain.fast import accelerate

    known = {function.__name__ for function, _ in accelerate.TWINS}
    assert set(names) <= known, f"twins: {sorted(known)}"
    accelerate.TWINS[:] = [(function, twin) for function, twin in accelerate.TWINS if function.__name__ not in names]


if __name__ == "__main__":
    gate = Gate(int(sys.argv[1]), int(sys.argv[2]))
    try:
        from rltrain.system import process
    except ModuleNotFoundError:  # checkouts before the rooms
        from rltrain import process  # type: ignore[attr-defined,no-redef]
    process.prepare()  # `main` calls it too, but here it must come before NumPy, which `Run` imports
    pause_runs(gate)
    if without := [argument.removeprefix("without=") for argument in sys.argv if argument.startswith("without=")]:
        leave_out_twins(without)
    from rltrain.cli import main

    with tempfile.TemporaryDirectory() as folder:
        sys.argv[1:] = [
            *(key for key in sys.argv[3:] if not key.startswith("without=")),
            f"run_dir={folder}",
            "progress=false",
            "eval_every_steps=0",
        ]
        sys.argv += ["checkpoint_every_steps=0", "final_eval_episodes=1"]
        main()
