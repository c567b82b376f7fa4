"""The `rltrain` command: a bare first word is a command, anything else belongs to the Hydra application that trains."""

import importlib
import os
import sys
import traceback

from rltrain import plugin_modules, terminal
from rltrain.errors import ConfigError, OutOfMemory, RltrainError, nearest

COMMANDS = {
    "resume": "go on with a run",
    "eval": "evaluate a run's checkpoint in fresh environments",
    "play": "watch a run's agent in a window, or film it where there is no display",
    "runs": "a table of runs: state, steps, score, speed, age",
    "plot": "learning curves over seeds, as PNG and CSV",
    "export": "a run's network as ONNX, TorchScript or pt2, for use without rltrain",
    "list": "what there is: algorithms, environments, networks, tuned settings",
    "doctor": "what works on this machine, what is missing, and how to mend it",
}

USAGE = """rltrain trains deep reinforcement learning agents.

  rltrain algo=dqn env=doom                   train; any key of `rltrain --help` can follow
  rltrain -m algo=dqn,ppo env=cartpole seed=0,1   sweep
"""


def main() -> None:
    """Entry point of the console script; ends the process with an exit code of docs/design.md."""
    # Before torch is imported: threads that wait for each other give their core away soon. With the default, a second
    # busy process on the machine was seen to slow one update from 27 to 434 ms.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    terminal.guard()
    sys.exit(run(sys.argv[1:]))


def run(argv: list[str]) -> int:
    """Route the command line and turn every error into one line and its exit code."""
    try:
        return _route(argv)
    except RltrainError as error:
        print_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        print("rltrain: error: interrupted; before the run had begun; start it again", file=sys.stderr)
        return 130
    except Exception as error:
        from rltrain import out_of_memory

        if out_of_memory.is_shortage(error):
            fix = "use device=cpu, or end what else runs here"
            print_error(OutOfMemory(out_of_memory.describe(error), argv[0], fix))
            return OutOfMemory.exit_code
        traceback.print_exc()
        what = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"rltrain: error: {what}; a bug of rltrain; please report the lines above", file=sys.stderr)
        return 1


def print_error(error: RltrainError) -> None:
    """The last line on stderr."""
    print(f"rltrain: error: {error}", file=sys.stderr, flush=True)


def _route(argv: list[str]) -> int:
    if not argv:
        print(USAGE)
        for command, text in COMMANDS.items():
            print(f"  rltrain {command:<10} {text}")
        return 0
    first = argv[0]
    if first in COMMANDS:
        plugin_modules.load(plugin_modules.given(argv))
        argv = [arg for arg in argv if not arg.startswith("plugins=")]
        module = importlib.import_module(f"rltrain.commands.{first}")
        if {"-h", "--help"} & set(argv[1:]):
            print(f"{COMMANDS[first]}\nusage: {module.USAGE}")
            return 0
        return int(module.main(argv[1:]))
    if "=" not in first and first[0] not in "-+~":
        raise ConfigError(f"unknown command '{first}'", "the first word", nearest(first, COMMANDS))
    from rltrain import hydra_app

    return hydra_app.run(argv)
