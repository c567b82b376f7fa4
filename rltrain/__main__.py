"""Start rltrain: the script `rltrain`, and `python -m rltrain` where the script is not on the path."""

import contextlib
import os
import sys


def start_again() -> None:
    """Start Python again with the same hashes of texts in every process, and without the folder that it adds itself.

    Hashes decide the order of a set. An environment may take its actions from one, and a resumed run, an evaluation and
    each worker must then give them the same numbers. Python reads PYTHONHASHSEED only when it starts; a value that is
    set already stays. Python adds the script's folder or the working directory in front of the library. multiprocessing
    keeps a foreign `socket.py` there out of the processes that it starts only if this one was started with -P.

    A program that runs rltrain in its own process, with words of its own, is not started again. Nor is a process of
    multiprocessing, for which the program waits.
    """
    if not sys.executable:  # a script has given the process another name: `exec -a`
        with contextlib.suppress(OSError):
            sys.executable = os.readlink("/proc/self/exe")
    words = sys.argv[1:]
    is_ours = words and words == sys.orig_argv[-len(words) :]
    has_hashes = os.environ.get("PYTHONHASHSEED", "random") != "random"
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    is_needed = os.path.abspath(sys.path[0]) == root  # `python -m rltrain` in a checkout
    # A script of the user's own that calls `main` may need its folder.
    is_rltrain = os.path.realpath(sys.argv[0]) == os.path.realpath(__file__) or _name(sys.argv[0]) == "rltrain"
    flags = ["-P"] if is_rltrain and not is_needed and not sys.flags.safe_path else []
    processes = sys.modules.get("multiprocessing")
    if processes is not None and processes.parent_process() is not None:
        return
    if is_ours and sys.executable and (flags or not has_hashes):
        if not has_hashes:
            os.environ["PYTHONHASHSEED"] = "0"
        try:
            os.execv(sys.executable, [sys.executable, *flags, *sys.orig_argv[1:]])
        except OSError as error:
            _give_up(f"Python cannot be started again: {sys.executable}: {error.strerror}")


def _name(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _give_up(what: str) -> None:
    is_set = "PYTHONEXECUTABLE" in os.environ  # from it Python concludes where its packages are
    place, fix = ("PYTHONEXECUTABLE", "unset it") if is_set else ("the installation", "install rltrain again")
    os.write(2, f"rltrain: error: {what}; {place}; {fix}\n".encode())
    os._exit(2 if is_set else 4)


def main() -> None:
    """Run the command line. What happens while it is imported, Ctrl-C too, ends the process with one line."""
    try:
        start_again()
        from rltrain.cli import main as run
    except KeyboardInterrupt:
        os.write(2, b"\nrltrain: error: stopped by Ctrl-C (SIGINT); before the run began; start it again\n")
        os._exit(130)
    except ModuleNotFoundError as error:
        _give_up(f"Python does not find the package {error.name or error}")
    run()


if __name__ == "__main__":
    main()
