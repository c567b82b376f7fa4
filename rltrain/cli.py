"""The `rltrain` command. A first word such as `eval` runs that command; anything else goes to Hydra, which trains."""

import importlib
import os
import re
import shlex
import signal
import sys
import threading
import traceback

from rltrain.app import usage
from rltrain.config import plugin_modules
from rltrain.errors import (
    ConfigError,
    DiskError,
    EnvironmentFailure,
    Halt,
    OutOfMemory,
    RltrainError,
    lacking,
    nearest,
    of_a_file,
    printable,
)
from rltrain.system import process, signals, terminal

_HYDRA_OPTIONS = {"cfg", "package", "info", "experimental_rerun", "c", "p", "i"}
"""Hydra options that look like settings with dashes, such as `--cfg=job`."""

_VARIABLES = {"numba": "NUMBA_", "torch": "TORCH_", "google.protobuf": "PROTOCOL_BUFFERS_"}
"""How the variables begin that a library reads when it is imported."""

_HYDRA_WORDS = (
    *("cfg", "config-dir", "config-name", "config-path", "experimental-rerun", "hydra-help", "info", "multirun"),
    *("package", "resolve", "run", "shell-completion"),
)
"""Hydra options with two dashes and without `=`. Hydra accepts abbreviations of them."""


_MEANT = {
    "continue": "write rltrain resume RUN",
    "watch": "write rltrain play RUN",
    "record": "write rltrain play RUN video=true",
    "render": "write rltrain play RUN video=true",
    "test": "write rltrain eval RUN",
    "tensorboard": "write tensorboard --logdir runs",
    "tune": "write rltrain -m KEY=A,B ...",
    "sweep": "write rltrain -m KEY=A,B ...",
}
"""What to write instead of commands of other tools."""


def main() -> None:
    """Run the console script and end the process with an exit code, as listed in docs/design.md."""
    try:
        process.prepare()
        terminal.guard()
    except OSError as error:  # a chroot without /dev/null; no memory for a file
        os.write(2, f"rltrain: error: {error}; the system; give this process what every program needs\n".encode())
        process.exit_now(of_the_system.exit_code if (of_the_system := lacking(error)) else DiskError.exit_code)
    if threading.current_thread() is not threading.main_thread():
        what = "rltrain answers signals, so it needs the main thread of a process"
        print_error(ConfigError(what, "the program that calls it", "start a process: subprocess.run(['rltrain', ...])"))
        sys.exit(ConfigError.exit_code)
    signals.pass_over_unraisable()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell starts what ends in & with it ignored
        signal.signal(signal.SIGINT, signals.interrupt)
    code = run(sys.argv[1:])
    if signals.interrupts:  # nothing has begun: do not wait for what a thread still imports or computes
        process.leave(code)
    process.end_soon(code)
    sys.exit(code)


def _stopped(argv: list[str]) -> int:
    """Print the line for Ctrl-C before anything began that can be kept. Returns the exit code."""
    command = argv[0] if argv and argv[0] in usage.COMMANDS else None
    where = f"rltrain {command}" if command else "before the run began"
    print_error(RltrainError("stopped by Ctrl-C (SIGINT)", where, "start it again"))
    return 128 + signal.SIGINT


def run(argv: list[str]) -> int:
    """Run a command line. Returns the exit code; every error becomes one line on stderr."""
    try:
        process.require_working_directory()
        process.distrust_working_directory()
        process.started_in = os.getcwd()
        code = _route(argv)
        terminal.check_stdout()
        return code
    except RltrainError as error:
        if signals.interrupts and error.exit_code < 128:
            return _stopped(argv)
        from rltrain.runtime import launch

        if not launch.report(error):  # the launcher of several processes prints it
            print_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return _stopped(argv)
    except Halt:
        raise
    except SystemExit as error:  # Hydra has printed what was asked for; or a package ends the process at its import
        if signals.interrupts:
            return _stopped(argv)
        if fault := _library_fault(error):
            print_error(fault)
            return fault.exit_code
        raise
    except BaseException as error:
        if signals.interrupts:  # a library has made another error of it
            return _stopped(argv)
        from rltrain.system import out_of_memory, ram

        if out_of_memory.is_shortage(error):
            is_limited = ram.address_space_bytes() is not None
            fix = "raise the limit: ulimit -v unlimited" if is_limited else "use device=cpu, or stop other programs"
            print_error(OutOfMemory(out_of_memory.describe(error), argv[0], fix))
            return OutOfMemory.exit_code
        own = plugin_modules.fault_of(error)
        if fault := own or lacking(error) or _library_fault(error) or _lost_directory() or of_a_file(error):
            print_error(fault)
            return fault.exit_code
        for line in traceback.format_exc().splitlines():
            print(printable(line), file=sys.stderr)
        bug = RltrainError(f"{type(error).__name__}: {error}", "a bug in rltrain", "please report the lines above")
        told = plugin_modules.unclear(error) or bug
        print_error(told)
        return told.exit_code
    finally:
        process.started_in = None


def _library_fault(error: BaseException) -> RltrainError | None:
    """Return the error of a library that cannot be imported.

    It may read a variable then, such as NUMBA_NUM_THREADS=0.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    importing = [str(frame.f_globals.get("__name__")) for frame in frames if frame.f_code.co_name == "<module>"]
    while importing and importing[0].split(".")[0] in ("rltrain", "__main__"):
        importing.pop(0)
    if not importing:
        return None
    reason = f"it ends the process (SystemExit: {error})" if isinstance(error, SystemExit) else error
    what = " ".join(f"{importing[0]} cannot be imported: {reason}".split())[:300]
    begins = [
        prefix
        for name, prefix in _VARIABLES.items()
        if any(f"{module}.".startswith(f"{name}.") for module in importing)
    ]
    if variables := [name for name in sorted(os.environ) if name.startswith(tuple(begins))]:
        return ConfigError(what, ", ".join(variables), "correct or unset these variables")
    return EnvironmentFailure(what, "the installation", "install it again; `rltrain doctor` looks at the installation")


def _lost_directory() -> RltrainError | None:
    """Return the error of a working directory that was deleted, which libraries meet in their own ways."""
    try:
        process.require_working_directory()
    except RltrainError as error:
        return error
    return None


def print_error(error: RltrainError) -> None:
    """Print an error as the last line on stderr."""
    plugin_modules.put_back_builtins()
    print(f"{terminal.styled('rltrain: error:', 'red', sys.stderr)} {error}", file=sys.stderr, flush=True)


def _route(argv: list[str]) -> int:
    if not argv:
        print(f"{usage.short()}\n\n  rltrain --help     explain all keys")
        return 0
    first = argv[0]
    if first == "help":
        argv = [*argv[1:], "--help"]
        first = argv[0]
    if first in usage.COMMANDS:
        if first not in ("eval", "play", "reproduce", "resume"):  # these let them through when they answer
            signals.let_through(signals.STOP_SIGNALS)
        _find_modules(argv[1:])
        plugin_modules.load(plugin_modules.given(argv))
        if first != "reproduce":  # which composes a new run, with its plugins
            argv = [arg for arg in argv if not arg.startswith("plugins=")]
        module = importlib.import_module(f"rltrain.commands.{first}")
        if {"-h", "--help"} & set(argv[1:]):
            print(usage.fitted(f"{usage.COMMANDS[first]}\nusage: {module.USAGE}"))
            return 0
        return int(module.main(argv[1:]))
    if "--version" in argv:
        print(f"rltrain {usage.version()}")
        return 0
    if {"-h", "--help"} & set(argv):
        print(usage.text(argv))
        return 0
    if argv[:1] == ["-sc"] and argv[1:2] != [] and argv[1].startswith("query="):
        from rltrain.app import completion

        return completion.query(_compose)
    _check_form(argv)
    from rltrain.commands import arguments

    arguments.note_repeated(argv)
    if any(arg.startswith("config=") for arg in argv):
        from rltrain.commands import reproduce

        _find_modules(argv)
        return reproduce.from_file(argv)
    return _compose(argv)


def _find_modules(words: list[str]) -> None:
    if plugin_modules.named(words):
        from rltrain.run import own_code

        own_code.find(words)


def _compose(argv: list[str]) -> int:
    from rltrain.app import hydra_app

    return hydra_app.run(argv)


def _check_form(argv: list[str]) -> None:
    """Raise ConfigError for mistakes that Hydra would not explain: spaces next to `=`, dashes, unknown commands."""
    for word, after in zip(argv, [*argv[1:], ""], strict=True):
        key, _, _ = word.partition("=")
        if key != "run_dir" and any("\ud800" <= sign <= "\udfff" for sign in word):  # bytes that Python could not read
            raise ConfigError(f"'{word}' is no text in UTF-8", key, "write it in UTF-8; rename a file with such a name")
        if word == "=" or after == "=" or (word.endswith("=") and after and "=" not in after and after[0] not in "-+~"):
            key = argv[0] if word == "=" else word.rstrip("=")
            raise ConfigError("there is a space next to '='", " ".join(argv), f"write {key}=VALUE")
        if re.fullmatch(r"--?(config|config-file|file|settings)(=.*)?", word):
            file = word.partition("=")[2] or after or "FILE"
            raise ConfigError("settings take no dashes", word, f"for a file of settings write config={file}")
        dashed = re.fullmatch(r"--?([a-z_]+(?:\.\w+)*)=(.*)", word)
        if dashed and dashed[1] not in _HYDRA_OPTIONS:
            raise ConfigError("settings take no dashes", word, f"write {dashed[1]}={dashed[2]}")
        shortened = re.fullmatch(r"--([a-z-]+)(=.*)?", word)
        meant = [known for known in _HYDRA_WORDS if shortened and known.startswith(shortened[1])]
        if shortened and meant and shortened[1] not in meant:  # Hydra would take it, and rltrain not see it
            raise ConfigError(f"'{word}' is not written in full", word, f"write --{meant[0]}{shortened[2] or ''}")
        option = re.fullmatch(r"--([a-z][\w.-]*)", word)
        if option and not any(known.startswith(option[1]) for known in _HYDRA_WORDS):
            value = after if re.fullmatch(r"[^-+~=][^=]*", after) else "VALUE"
            raise ConfigError("settings take no dashes", word, f"write {option[1].replace('-', '_')}={value}")
    if len(places := [word for word in argv if re.fullmatch(r"-cd|--config-dir(=.*)?", word)]) > 1:
        fix = "give one, or hydra.searchpath=[A,B]"
        raise ConfigError("--config-dir is given twice, and Hydra takes the last one alone", " ".join(places), fix)
    first = argv[0]
    if first == "train":
        settings = " ".join(argv[1:]) or "algo=ppo env=cartpole"
        raise ConfigError("there is no command `train`", "rltrain train", f"leave it out: rltrain {settings}")
    if "=" not in first and first[:1] not in ("-", "+", "~"):
        from rltrain.config.algorithms import ALGOS

        if first.endswith((".yaml", ".yml")):
            fix = f"for a file of settings write config={first}"
        elif first in ALGOS:
            fix = f"write algo={first} env=NAME"
        else:
            fix = _MEANT.get(first) or nearest(first, [*usage.COMMANDS, "help"])
        raise ConfigError(f"unknown command '{first}'", f"rltrain {first}", fix)
    words = [word for before, word in zip(["", *argv], argv, strict=False) if not before.startswith("-")]
    if places and (command := next((word for word in words if word in usage.COMMANDS), None)):
        rest = shlex.join([word for word in argv if word != command])
        raise ConfigError(f"the command {command} stands first", shlex.join(argv), f"write rltrain {command} {rest}")
