"""Start rltrain: the script `rltrain`, and `python -m rltrain` where the script is not on the path."""

import os
import sys


def fix_hashes() -> None:
    """Start Python again with the same hashes of texts in every process, unless PYTHONHASHSEED is set already.

    Hashes decide the order of a set. An environment may take its actions from one, and a resumed run, an evaluation and
    each worker must then give them the same numbers. Python reads the variable only when it starts.

    A program that runs rltrain in its own process, with words of its own, is not started again.
    """
    words = sys.argv[1:]
    is_ours = words and words == sys.orig_argv[-len(words) :]
    if is_ours and sys.executable and os.environ.get("PYTHONHASHSEED", "random") == "random":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def main() -> None:
    """Run the command line. Ctrl-C while it is imported ends the process with one line, like Ctrl-C later."""
    try:
        fix_hashes()
        from rltrain.cli import main as run
    except KeyboardInterrupt:
        os.write(2, b"\nrltrain: error: stopped by Ctrl-C (SIGINT); before the run began; start it again\n")
        os._exit(130)
    run()


if __name__ == "__main__":
    main()
