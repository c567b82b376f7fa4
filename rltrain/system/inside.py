"""Read, open and remove what is inside a run folder.

A run folder may come from somebody else, or be damaged. A file in it may be a link that leads out, a pipe that never
answers, larger than the memory, or nested deeper than a parser can follow. So nothing in a run folder is opened by
other means than these (`atomic.write_text` replaces links, `folder` and `make_folder` check the folders).

Each function checks the last part of its path. The folder that holds it must be the run folder or checked itself.
"""

import contextlib
import errno
import functools
import io
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import yaml

from rltrain.errors import CheckpointError, lacking
from rltrain.system import atomic, plain_json

JSON_BYTES = 16_000_000
"""The largest JSON file to read. A manifest of 8 GB of replay has 200 kB."""
YAML_BYTES = 256_000
"""The largest YAML file to read. A configuration has 3 kB; the parser takes 10 s for 1 MB."""
LINE_BYTES = 1_000_000
"""The longest line to read. A line of metrics has 1 kB."""
LOG_BYTES = 4_000_000_000
"""The largest log to read line by line."""
_HOLLOW_BYTES = 64_000_000
"""The smallest file whose holes matter: reading it takes less than 0.1 s."""
_STRETCHES = 100_000
"""The most stretches of data between holes to look at."""
_LEVELS = 50
"""The deepest nesting of a YAML file."""
_LEFT_BEHIND = re.compile(
    r"\.(config[\w.-]*\.yaml|command\.txt|error\.log|(meta|status|result|nonfinite)\.json|metrics\.jsonl"
    r"|(q_table|episodes)\.csv)-[0-9]+"
)
"""Temporary names of `atomic.write_text` in a run folder."""


def is_file(path: Path) -> bool:
    """Return True for a regular file, False for a link, a folder, a pipe, a device, or nothing."""
    return _has_kind(path, stat.S_ISREG)


def is_folder(path: Path) -> bool:
    """Return True for a folder, False for a link to one, or anything else."""
    return _has_kind(path, stat.S_ISDIR)


def _has_kind(path: Path, kind: Any) -> bool:
    try:
        return bool(kind(os.lstat(path).st_mode))
    except OSError:
        return False


def stands_in_a_run() -> bool:
    """Return True if the working directory is the folder of a run or sweep, or lies in one.

    A project may have a config.yaml and a folder `checkpoints`, too, or be the folder of its sweep
    (`hydra.sweep.dir=.`).
    """
    try:
        return lies_in_a_run(os.getcwd())
    except FileNotFoundError:
        return False


@functools.cache
def lies_in_a_run(folder: str) -> bool:
    """Return True for the absolute path of the folder of a run or sweep, or of one in it."""
    return any(_is_run(place) or _is_sweep(place) for place in (Path(folder), *Path(folder).parents))


def _is_run(place: Path) -> bool:
    with contextlib.suppress(OSError, CheckpointError):
        found = read_yaml(place / "config.yaml")
        if isinstance(found, dict) and found.keys() >= {"algo", "env", "network", "seed", "total_steps"}:
            is_run = any(os.path.lexists(place / name) for name in ("meta.json", "command.txt"))
            return is_run or any(re.fullmatch(r"step_\d+", name) for name in os.listdir(place / "checkpoints"))
    return False


def _is_sweep(place: Path) -> bool:
    if not os.path.lexists(place / "sweep.json"):
        return False
    with contextlib.suppress(OSError, CheckpointError, LookupError, TypeError):
        return bool(read_yaml(place / "multirun.yaml")["hydra"]["runtime"]["cwd"] != str(place))
    return True


def folder(path: Path) -> Path:
    """Return `path` if it is a folder or missing. Raises CheckpointError for a link or a file."""
    if os.path.lexists(path) and not is_folder(path):
        raise _foreign(path, "folder")
    return path


def make_folder(path: Path) -> Path:
    """Make a folder unless it exists. Raises CheckpointError for a link or a file, OSError if it cannot be made."""
    with contextlib.suppress(FileExistsError):
        path.mkdir()
    return folder(path)


def entries(path: Path) -> list[Path]:
    """Return the paths in a folder, sorted; none if the folder is missing. Raises CheckpointError for a link, too."""
    try:
        return sorted(path.iterdir()) if is_folder(folder(path)) else []
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error


def open_binary(path: Path) -> io.BufferedReader:
    """Open a regular file to read bytes. Raises FileNotFoundError, CheckpointError."""
    with _reading(path):
        return open(_open(path, os.O_RDONLY), "rb")


def append(path: Path, buffering: int = 1) -> TextIO:
    """Open a regular file to append text. Makes it if it is missing. Raises CheckpointError, DiskError, OSError.

    Its descriptor can read, too.

    A file with a second name (a hard link) is replaced by a copy first: that name may be outside of the run.
    buffering: as of `open`; by default each line is written at once.
    """
    if is_file(path) and os.lstat(path).st_nlink > 1:
        if os.lstat(path).st_size > LOG_BYTES or is_hollow(path):
            raise _unreadable(path, "it is a second name of a file that is too large to copy")
        with open_binary(path) as file:
            atomic.write_parts(path, iter(functools.partial(file.read, 1 << 20), b""))
    return open(_open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT), "a", buffering, encoding="utf-8")


def open_lock(path: Path) -> BinaryIO:
    """Open a regular file for a lock, without changing its content. Makes it if it is missing.

    Raises CheckpointError, OSError.
    """
    return open(_open(path, os.O_RDWR | os.O_CREAT), "r+b", buffering=0)


def read_bytes(path: Path, limit: int = JSON_BYTES) -> bytes:
    """Return the content of a regular file. Raises FileNotFoundError, CheckpointError."""
    with _reading(path), open_binary(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise _unreadable(path, f"it has more than {limit:,} bytes")
    return content


def read_text(path: Path, limit: int = JSON_BYTES) -> str:
    """Return the text of a regular file in UTF-8. Raises FileNotFoundError, CheckpointError."""
    try:
        return read_bytes(path, limit).decode()
    except UnicodeDecodeError as error:
        raise _unreadable(path, "it is not text in UTF-8") from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a regular file. Raises FileNotFoundError, CheckpointError."""
    try:
        values = plain_json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, f"it is not JSON: {_short(error)}") from error
    if not isinstance(values, dict):
        raise _unreadable(path, "it is not a JSON object")
    return values


def read_yaml(path: Path) -> Any:
    """Return the plain data in a YAML file. Raises FileNotFoundError, CheckpointError.

    Aliases (`*name`) are refused, because a few lines of them stand for billions of values.
    """
    text = read_text(path, YAML_BYTES)
    try:
        return parse_yaml(text)
    except (yaml.YAMLError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        raise _unreadable(path, f"it is not YAML: {_short(error)}") from error


def parse_yaml(text: str) -> Any:
    """Return the plain data in a YAML text. Raises errors of many types for a text that is no YAML."""
    return _PlainLoader(text).get_single_data()


_NUMBERS = {
    "tag:yaml.org,2002:int": r"[-+]?(0|[1-9](_?[0-9])*)$",
    "tag:yaml.org,2002:bool": r"(true|True|TRUE|false|False|FALSE)$",
}
"""What is a whole number or a truth value on Hydra's command line, by YAML's tag."""


def plain_numbers(loader: Any) -> Any:
    """Let a class of YAML loaders read values as Hydra's command line does. Returns the class.

    By itself it follows YAML 1.1: 010 is 8, 0x10 is 16, 1:40 is 100, and `on` is true. Now they are texts.
    """
    loader.yaml_implicit_resolvers = {
        first: [
            (tag, re.compile(_NUMBERS[tag]) if tag in _NUMBERS else re.compile(f"(?!.*:){found.pattern}", found.flags))
            for tag, found in resolvers
        ]
        for first, resolvers in loader.yaml_implicit_resolvers.items()
    }
    return loader


def own_rules(kind: Any) -> Any:
    """Let a class of YAML loaders or dumpers keep its rules, whatever a module of the user's adds. Returns the class.

    `yaml.add_representer(float, two_decimals, Dumper=yaml.SafeDumper)` changes all classes that derive from that one.
    """
    for name in ("representers", "multi_representers", "constructors", "multi_constructors", "implicit_resolvers"):
        if rules := getattr(kind, f"yaml_{name}", None):
            kept = {key: list(rule) if isinstance(rule, list) else rule for key, rule in rules.items()}
            setattr(kind, f"yaml_{name}", kept)
    return kind


@own_rules
@plain_numbers
class _PlainLoader(yaml.SafeLoader):
    """A SafeLoader without aliases and deep nesting."""

    _level = 0

    def fetch_flow_collection_start(self, token: Any) -> None:
        # The scanner reads 1,000 characters ahead, and each open bracket slows it down.
        if self.flow_level > _LEVELS:
            raise yaml.YAMLError(f"it is nested more than {_LEVELS} levels deep")
        super().fetch_flow_collection_start(token)

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (*name)")
        self._level += 1
        if self._level > _LEVELS:
            raise yaml.YAMLError(f"it is nested more than {_LEVELS} levels deep")
        node = super().compose_node(parent, index)
        self._level -= 1
        return node


def lines(path: Path) -> Iterator[str]:
    """Yield the lines of a regular file with their line ends, if any. Bytes that are not UTF-8 become U+FFFD.

    The mark that some programs write before a text in UTF-8 is left out. Raises FileNotFoundError. Raises
    CheckpointError, also for a line or a file without end.
    """
    with open_binary(path) as file:
        if os.fstat(file.fileno()).st_size > LOG_BYTES:
            raise _unreadable(path, f"it has more than {LOG_BYTES:,} bytes")
        while True:
            with _reading(path):
                line = file.readline(LINE_BYTES)
            if not line:
                return
            if len(line) == LINE_BYTES:
                raise _unreadable(path, f"it has a line of more than {LINE_BYTES:,} bytes")
            yield line.decode(errors="replace").removeprefix("\ufeff")


def tail(path: Path, num_bytes: int) -> list[str]:
    """Return the lines in the last bytes of a regular file. Raises FileNotFoundError, CheckpointError."""
    with _reading(path), open_binary(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - num_bytes))
        return file.read(num_bytes).decode(errors="replace").splitlines()


def is_hollow(path: Path) -> bool:
    """Return True if hardly anything of a large regular file was ever written: the rest are holes, read as zeros.

    A hole takes no space, so an archive of some kilobytes can hold a file of terabytes. rltrain writes no holes; a copy
    may turn blocks of zeros into them. Raises CheckpointError, OSError.
    """
    with open_binary(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size < _HOLLOW_BYTES or not hasattr(os, "SEEK_DATA"):
            return False
        written, position = 0, 0
        for _ in range(_STRETCHES):
            try:
                begin = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # only holes until the end
                    break
                return False
            position = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            written += position - begin
            if written * 100 >= size:
                return False
        return True


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with its content, if it exists. Links are not followed. Raises OSError."""
    if is_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sweep(path: Path, names: re.Pattern[str] = _LEFT_BEHIND, folders: re.Pattern[str] | None = None) -> None:
    """Remove what a killed process left in a folder: files and links with these names. Errors are ignored.

    folders: the names of folders to remove with their content. Anything else is the user's. Call it while the run is
    locked.
    """
    for entry in entries(path):
        pattern = folders if is_folder(entry) else names
        if pattern is not None and pattern.fullmatch(entry.name):
            with contextlib.suppress(OSError):
                remove(entry)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn an OSError inside into a CheckpointError, but for a missing file and for what the system lacks."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError) or lacking(error):
            raise
        raise _unreadable(path, error.strerror or str(error)) from error


def _open(path: Path, flags: int) -> int:
    """Open a regular file. O_NONBLOCK: a pipe must not be waited for, even if it takes the file's place just now."""
    if os.path.lexists(path) and not is_file(path):
        raise _foreign(path, "file")
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _foreign(path, "file")
    return descriptor


def _foreign(path: Path, wanted: str) -> CheckpointError:
    kind = "a link" if path.is_symlink() else "a folder" if path.is_dir() else "a special file"
    kind = "a file" if wanted == "folder" and is_file(path) else kind
    what = f"{path.name} in the run folder is {kind} instead of a {wanted}"
    return CheckpointError(what, str(path), "put the run's own in its place, or use another run")


def _unreadable(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"the run's {path.name} cannot be read: {why}", str(path), "use another run")


def _short(error: Exception) -> str:
    return " ".join(f"{error or type(error).__name__}".split())[:200]
