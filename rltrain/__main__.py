"""Start rltrain: the script `rltrain`, and `python -m rltrain` where the script is not on the path."""

import os


def main() -> None:
    """Run the command line. Ctrl-C while it is imported ends the process with one line, like Ctrl-C later."""
    try:
        from rltrain.cli import main as run
    except KeyboardInterrupt:
        os.write(2, b"\nrltrain: error: stopped by Ctrl-C (SIGINT); before the run began; start it again\n")
        os._exit(130)
    run()


if __name__ == "__main__":
    main()
