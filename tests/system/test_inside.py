"""Nothing in a run folder hangs a reader, eats its memory, or leads it out of the folder."""

import os

import pytest
from in_time import fails_after

from rltrain.errors import CheckpointError
from rltrain.system import atomic, inside


@pytest.fixture(autouse=True)
def in_time():
    """A reader that waits for a pipe, or goes on without end, fails instead of hanging the suite."""
    with fails_after(20):
        yield


READERS = (inside.read_bytes, inside.read_text, inside.read_json, inside.read_yaml, inside.append, inside.open_lock,
           inside.open_binary, lambda path: list(inside.lines(path)), lambda path: inside.tail(path, 100))  # fmt: skip


@pytest.mark.parametrize("kind", ["a link", "a dangling link", "a link to zeros", "a pipe", "a folder"])
def test_only_regular_files_are_opened(tmp_path, kind):
    """Bugs: open() follows a link out of the run, waits for the other end of a pipe, reads /dev/zero without end."""
    path, outside = tmp_path / "run.json", tmp_path / "outside"
    outside.write_text("{}")
    targets = {"a link": outside, "a dangling link": tmp_path / "new", "a link to zeros": "/dev/zero"}
    if kind in targets:
        path.symlink_to(targets[kind])
    elif kind == "a pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    for reader in READERS:
        with pytest.raises(CheckpointError, match="instead of a file"):
            reader(path)
    assert not inside.is_file(path)
    assert outside.read_text() == "{}"
    assert not (tmp_path / "new").exists()


def test_a_link_is_replaced_and_not_written_through(tmp_path):
    """Bugs: a temporary name or the target that is a link empties a file outside."""
    outside, path = tmp_path / "outside", tmp_path / "status.json"
    outside.write_text("mine")
    for name in (path, tmp_path / f".status.json-{os.getpid()}"):
        name.symlink_to(outside)
    atomic.write_text(path, "new")
    assert (path.read_text(), path.is_symlink(), outside.read_text()) == ("new", False, "mine")


def test_a_file_with_a_second_name_is_copied_before_it_grows(tmp_path):
    """Bug: a log of a run, or of its copy by `cp -al`, was a hard link, so what it names outside grew, too."""
    mine, log = tmp_path / "mine", tmp_path / "run.log"
    mine.write_text("mine\n")
    os.link(mine, log)
    with inside.append(log) as file:
        file.write("more\n")
    assert mine.read_text() == "mine\n" and log.read_text() == "mine\nmore\n"
    log.unlink()
    os.truncate(mine, inside.LOG_BYTES + 1)
    os.link(mine, log)
    with pytest.raises(CheckpointError, match="too large to copy"):
        inside.append(log)


def test_a_linked_folder_is_no_folder_of_the_run(tmp_path):
    """Bugs: what a killed process left is swept, or checkpoints are removed, in a folder outside."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / ".last-12").write_text("mine")
    (tmp_path / "checkpoints").symlink_to(tmp_path / "outside")
    for call in (inside.folder, inside.make_folder, inside.entries, inside.sweep):
        with pytest.raises(CheckpointError, match="is a link instead of a folder"):
            call(tmp_path / "checkpoints")
    inside.remove(tmp_path / "checkpoints")
    assert (tmp_path / "outside" / ".last-12").exists()


MULTIPLYING = "\n".join(["x0: &a0 [l, l]", *(f"x{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40))])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (MULTIPLYING.encode(), "alias"),
        (b"a: &x [*x]", "alias"),
        (b"[" * 200_000, "nested"),
        (b"".join(b" " * i + b"a:\n" for i in range(300)), "nested"),
        (b"a: \xff", "UTF-8"),
        (b"a: \x00", "not YAML"),
        (b"a: 2001-99-99", "not YAML"),
        (b"a: " + b"1" * 5000, "not YAML"),
        (b"? [a]\n: b", "not YAML"),
        (b"!!python/object/apply:os.system [ls]", "not YAML"),
        (b"a: b\n" * 100_000, "more than"),
    ],
    ids=range(11),
)
def test_yaml_that_multiplies_nests_or_is_no_yaml_is_one_error(tmp_path, content, reason):
    """Bugs: 400 bytes of aliases take the memory, 200 kB of brackets the stack; a wrong date is a traceback."""
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=reason):
        inside.read_yaml(path)


@pytest.mark.parametrize("content", [b"[" * 200_000, b"{}x", b"[1]", b"", b"\xff", b'{"a":' * 5000, b" " * 17_000_000])
def test_json_of_any_kind_is_an_object_or_one_error(tmp_path, content):
    """Bugs: RecursionError, a list where an object is read, a file as large as the memory."""
    path = tmp_path / "status.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"status\.json cannot be read"):
        inside.read_json(path)


def test_a_line_or_a_log_without_end_is_refused_at_once(tmp_path):
    """Bugs: one line of 2 MB, or a sparse file of 1 TB, is read into the memory."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + b"x" * 2_000_000)
    with pytest.raises(CheckpointError, match="a line of more than"):
        list(inside.lines(path))
    os.truncate(path, 10**12)
    with pytest.raises(CheckpointError, match="it has more than"):
        list(inside.lines(path))
    assert inside.tail(path, 100) == ["\0" * 100]


def test_a_file_of_holes_is_told_from_a_file_of_zeros(tmp_path):
    """Bugs: a file of terabytes in an archive of kilobytes is read for hours; a dense file of zeros is refused."""
    path = tmp_path / "file"
    path.write_bytes(b"x")
    os.truncate(path, 10**13)
    assert inside.is_hollow(path)
    os.truncate(path, inside._HOLLOW_BYTES - 1)
    assert not inside.is_hollow(path)
    path.write_bytes(bytes(inside._HOLLOW_BYTES))
    assert not inside.is_hollow(path)
    with path.open("r+b") as file:  # data of 2 %, in two stretches
        file.truncate(0)
        file.write(bytes(10**6))
        file.seek(5 * 10**7)
        file.write(bytes(10**6))
        file.truncate(10**8)
    assert not inside.is_hollow(path)


WHOLE = "algo: {}\nenv: {}\nnetwork: {}\nseed: 0\ntotal_steps: 5\n"


@pytest.mark.parametrize(
    ("files", "is_run"),
    [
        ({"config.yaml": WHOLE, "checkpoints/step_1": ""}, True),
        ({"config.yaml": WHOLE, "meta.json": "{}"}, True),  # without its checkpoints
        ({"config.yaml": WHOLE, "command.txt": ""}, True),
        ({"config.yaml": "model: !include m.yaml\n", "checkpoints/step_1": "", "meta.json": ""}, False),
        ({"config.yaml": WHOLE, "checkpoints/model.pt": ""}, False),  # a copy, which a project may have
        ({"config.yaml": "model: gpt\n", "checkpoints/model.pt": ""}, False),  # another program's
        ({"sweep.json": "{}", "multirun.yaml": "hydra: {runtime: {cwd: /elsewhere}}\n"}, True),
        ({"sweep.json": "{}", "multirun.yaml": "hydra: 1\n"}, True),
        ({"sweep.json": "{}"}, True),
        ({"sweep.json": "{}", "multirun.yaml": "hydra: {runtime: {cwd: HERE}}\n"}, False),  # hydra.sweep.dir=.
    ],
)
def test_the_folder_of_a_run_or_sweep_is_known_as_working_directory(files, is_run, tmp_path, monkeypatch):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text.replace("HERE", str(tmp_path)))
    (tmp_path / "below").mkdir()
    for place in (tmp_path, tmp_path / "below"):
        monkeypatch.chdir(place)
        assert inside.stands_in_a_run() == is_run
