"""A run folder may come from somebody else: reading it and going on in it writes nothing outside and never hangs."""

import json
import os
import re
import shutil

import numpy as np
import pytest
from in_time import fails_after
from run_folders import write_run
from small_runs import TABLE

from rltrain import cli
from rltrain.run import checkpoint_files, curves

FILES = ["config.yaml", "config.resume-1.yaml", "status.json", "meta.json", "result.json", "metrics.jsonl",
         "episodes.csv", "command.txt", ".lock", "q_table.csv", "error.log", "checkpoints/last", "checkpoints/best",
         "checkpoints/step_000000400/manifest.json", "checkpoints/step_000000400/state.json",
         "checkpoints/step_000000400/q_table.npy"]  # fmt: skip
FOLDERS = ["checkpoints", "checkpoints/step_000000400", "eval", "videos"]


@pytest.fixture(autouse=True)
def in_time():
    with fails_after(120):
        yield


@pytest.fixture
def copy(made, tmp_path):
    """A copy of the run, and a folder outside with what nobody may touch."""
    numbers = iter(range(1000))

    def make():
        folder = tmp_path / f"run{next(numbers)}"
        shutil.copytree(made, folder, symlinks=True)
        return folder

    return make


def outside(tmp_path):
    """A folder that looks like each folder of a run, so that whoever follows a link finds what it likes to delete."""
    place = tmp_path / "outside"
    shutil.rmtree(place, ignore_errors=True)
    for name in ("step_000000001", ".partial-000000400-1", ".last-1"):
        (place / name).mkdir(parents=True)
    (place / "file").write_text("mine")
    return place


def state_of(place):
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(place.rglob("*"))}


COMMANDS = (["resume", "total_steps=500", "progress=false"], ["eval", "episodes=1"], ["runs"])


def call(command, folder, capfd):
    """Returns the code and the last line on stderr."""
    words = [command[0], f"run_dir={folder}"] if command[0] == "runs" else [command[0], str(folder), *command[1:]]
    capfd.readouterr()
    code = cli.run(words)
    return code, (capfd.readouterr().err.strip().splitlines() or [""])[-1]


@pytest.mark.parametrize("name", FILES + FOLDERS)
def test_what_is_a_link_or_a_pipe_is_refused_or_replaced(copy, tmp_path, monkeypatch, capfd, name):
    """Bugs: `resume` deletes checkpoints in a folder that `checkpoints` links to, empties what `.lock` links to, and
    appends metrics to a file outside; `eval` writes its result outside; `runs` waits for a pipe for ever.
    """
    monkeypatch.chdir(tmp_path)
    for command in COMMANDS:
        for kind in ("link", "pipe"):
            place, folder = outside(tmp_path), copy()
            path = folder / name
            if os.path.lexists(path):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            if kind == "pipe":
                os.mkfifo(path)
            else:
                path.symlink_to(place if name in FOLDERS else place / "file")
            before = state_of(place)
            code, line = call(command, folder, capfd)
            assert code in (0, 2, 3), (command, kind, line)
            assert "a bug in rltrain" not in line
            assert state_of(place) == before, (command, kind)


@pytest.mark.parametrize("name", [name for name in FILES if name not in (".lock", "q_table.csv", "error.log")])
def test_content_of_any_kind_is_an_answer(copy, tmp_path, monkeypatch, capfd, name):
    """Bugs: a RecursionError, a traceback of a TypeError or OverflowError, for values that rltrain would not write."""
    monkeypatch.chdir(tmp_path)
    wrong = b'{"step": 1e999, "state": 3, "pid": "x", "final": {"mean_reward": []}, "created": 1, "members": [1]}\n'
    for content in (b"[" * 100_000, b"\xff\xfe", wrong):
        folder = copy()
        path = folder / name
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        for command in COMMANDS:
            code, line = call(command, folder, capfd)
            assert code in (0, 2, 3), (command, content[:20], line)
            assert "a bug in rltrain" not in line


def test_a_damaged_run_does_not_hide_the_others(copy, tmp_path, command):
    """Bug: one status.json that is a list ends `rltrain runs`."""
    (copy() / "status.json").write_text("[3]")
    copy()
    done = command("runs", f"run_dir={tmp_path}")
    assert done.code == 0
    assert sorted(line.split()[0] for line in done.out.splitlines()) == ["damaged", "done", "state"]


def test_control_characters_of_a_run_are_shown_and_not_sent(copy, tmp_path, command):
    """Bugs: a folder's name, or a state in status.json, moves the cursor of whoever lists runs."""
    folder = copy()
    (folder / "status.json").write_text(json.dumps({"state": "\x1b[2J"}))
    folder.rename(tmp_path / "a\x1b]0;b\x07")
    done = command("runs", f"run_dir={tmp_path}")
    assert "\x1b" not in done.out
    assert "\\x1b[2J" in done.out


def rewrite(step, name, change):
    """Change an array of a checkpoint, and its manifest with it."""
    np.save(step / name, change(np.load(step / name)))
    facts = json.loads((step / "manifest.json").read_text())
    size = (step / name).stat().st_size
    facts["members"][name] = {"size": size, "sha256": checkpoint_files.digest(step / name)}
    (step / "manifest.json").write_text(json.dumps(facts))


def with_field(field, value):
    def change(array):
        array[field] = value
        return array

    return change


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("walk~place.npy", with_field("state", 10**9)),
        ("walk~place.npy", with_field("state", -1)),
        ("walk~place.npy", with_field("action", 4)),
        ("walk~place.npy", with_field("length_steps", 10**6)),
        ("walk~place.npy", lambda array: array[:0]),
        ("walk~place.npy", lambda array: np.zeros(1)),
        ("q_table.npy", lambda q: q[:1]),
        ("q_table.npy", lambda q: q[:, :1]),
        ("q_table.npy", lambda q: np.zeros(())),
        ("q_table.npy", lambda q: q.astype(np.complex128)),
        ("q_table.npy", lambda q: q * np.nan),
    ],
    ids=range(11),
)
def test_numbers_that_index_memory_or_mean_nothing_are_checked(copy, command, name, change):
    """Bugs: a state of a billion in compiled code is a segmentation fault; a table of one row is broadcast to all; a
    table of NaN was evaluated and resumed with exit code 0."""
    folder = copy()
    for array in (folder / "checkpoints").glob(f"step_*/{name}"):  # an evaluation's checkpoint has the agent alone
        rewrite(array.parent, name, change)
    for words in (["resume", folder, "total_steps=500", "progress=false"], ["eval", folder, "checkpoint=best"]):
        done = command(*words)
        assert done.code == (3 if words[0] == "resume" or name == "q_table.npy" else 0), done.err
        assert "a bug in rltrain" not in done.err


@pytest.mark.parametrize("name", ["q_table.npy", "tensors.safetensors"])
def test_a_checkpoint_that_claims_to_be_huge_is_refused_at_once(copy, command, monkeypatch, name):
    """Bugs: hashing a file of 10 TB, of which the disk holds 4 kB; hashing one file under many names."""
    folder = copy()
    many = copy()
    for step in (folder / "checkpoints").glob("step_*"):
        facts = json.loads((step / "manifest.json").read_text())
        (step / name).touch()
        os.truncate(step / name, 10**13)
        facts["members"][name] = {"size": 10**13, "sha256": "0" * 64}
        (step / "manifest.json").write_text(json.dumps(facts))
    with fails_after(10):
        for words in (["resume", folder, "total_steps=500", "progress=false"], ["eval", folder]):
            done = command(*words)
            assert done.code == 3, done.err
            assert "is almost empty" in done.err
        disk = shutil.disk_usage(many)
        monkeypatch.setattr(checkpoint_files.shutil, "disk_usage", lambda path: disk._replace(total=100))
        done = command("eval", many)
        assert done.code == 3 and "more than its disk" in done.last_line


def test_names_of_a_run_reach_no_terminal_and_no_formula(copy, tmp_path, command):
    """Bugs: `plot` prints the environment's name of a foreign run raw, and takes a `$` in it for a formula."""
    folder = write_run(tmp_path / "one", {10: 1.0, 20: 2.0}, env="\x1b[2J$x^{", algo="$\x07$y_{")
    done = command("plot", folder, f"out={tmp_path / 'picture.png'}")
    assert done.code == 0, done.err
    assert "\x1b" not in done.out + done.err
    assert "\\x1b[2J$x^{  $\\x07$y_{  1 seed" in done.out


def test_a_path_that_is_no_text_is_refused_before_anything_is_made(copy, tmp_path, command):
    """Bug: TensorBoard's writer encodes the path of a run as UTF-8: a traceback, and an unfinished folder."""
    wrong = os.fsdecode(b"r\xffb")
    done = command(*TABLE, f"run_dir={wrong}")
    assert done.code == 2
    assert "no text in UTF-8; run_dir; " in done.last_line
    assert not (tmp_path / wrong).exists()
    folder = copy().rename(tmp_path / wrong)
    assert command("eval", folder).code == 0
    before = state_of(folder)
    assert command("resume", folder, "total_steps=500").code == 3
    assert state_of(folder) == before


def test_paths_with_a_zero_byte_are_refused(copy, tmp_path, command):
    """Bug: "embedded null byte", a bug in rltrain."""
    folder = copy()
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(re.sub("(?m)^run_dir: .*", 'run_dir: "a\\\\0b"', config))
    assert command("reproduce", folder).code in (2, 3)
    path = tmp_path / "my.yaml"
    path.write_text('algo: q_learning\nenv: maze\nrun_dir: "a\\0b"\n')
    done = command(f"config={path}")
    assert done.code == 2 and "zero byte; run_dir" in done.last_line


@pytest.mark.parametrize("made_for", [["a"], {"a": 1}, 7])
def test_a_checkpoint_made_for_something_that_is_no_text_is_damaged(copy, command, made_for):
    """Bug: "unhashable type", a bug in rltrain."""
    folder = copy()
    for path in (folder / "checkpoints").glob("step_*/manifest.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"made_for": made_for}))
    for words in (["eval", folder], ["resume", folder, "total_steps=500"]):
        done = command(*words)
        assert done.code == 3 and "manifest is incomplete" in done.last_line, done.err


def test_the_state_of_another_generator_makes_a_checkpoint_unfit(copy, command):
    """Bug: it was restored when the algorithm first drew a number, and told as a bug in rltrain."""
    folder = copy()

    def spoil(step):
        text = (step / "state.json").read_text()
        assert "PCG64" in text
        (step / "state.json").write_text(text.replace("PCG64", "MT199"))
        facts = json.loads((step / "manifest.json").read_text())
        facts["members"]["state.json"]["sha256"] = checkpoint_files.digest(step / "state.json")
        (step / "manifest.json").write_text(json.dumps(facts))

    older, newest = sorted(state.parent for state in folder.glob("checkpoints/step_*/walk~place.npy"))[-2:]
    spoil(newest)
    done = command("resume", folder, "total_steps=500", "progress=false")
    assert done.code == 0, done.err
    assert f"resumed at step {int(older.name[5:])}" in done.err


def test_episodes_in_other_columns_are_not_continued(copy, command):
    """Bug: `resume` took rewards for steps, dropped lines that seemed to be later, and appended in its own order."""
    folder = copy()
    path = folder / "episodes.csv"
    text = path.read_text()
    rows = [line.split(",") for line in text.splitlines()]
    path.write_text("".join(f"{reward},{step},{length},{frames}\n" for step, reward, length, frames in rows))
    changed = path.read_bytes()
    done = command("resume", folder, "total_steps=500", "progress=false")
    assert done.code == 3 and "episodes.csv has other columns than rltrain writes" in done.last_line, done.err
    assert path.read_bytes() == changed
    path.write_text("\ufeff" + text.replace("\n", "\r\n"))  # as a spreadsheet saves it
    assert command("resume", folder, "total_steps=500", "progress=false").code == 0


def test_logs_of_another_layout_are_not_continued(copy, command):
    """Bug: `resume` dropped every line of the earlier training, as if it were the beginning of one."""
    for name, change in {
        "metrics.jsonl": lambda text: text.replace("{", "{\n ").encode(),
        "metrics.jsonl in UTF-16": lambda text: text.encode("utf-16"),
        "metrics.jsonl as a list": lambda text: f"[{text.strip()}]".replace("\n", ", ").encode(),
        "episodes.csv": lambda text: text.replace("\n", '\n"').encode(),
    }.items():
        folder = copy()
        path = folder / name.split()[0]
        path.write_bytes(change(path.read_text()))
        changed = path.read_bytes()
        done = command("resume", folder, "total_steps=500", "progress=false")
        assert done.code == 3 and f"{path.name} has other lines than rltrain writes" in done.last_line, done.err
        assert path.read_bytes() == changed


def test_logs_that_other_programs_have_saved_are_continued(copy, command):
    """Bugs: `resume` dropped lines with steps such as 200.0, a first line after the mark of UTF-8, and a last one
    without an end. A line that nothing can read was dropped in silence."""
    folder = copy()
    metrics, episodes = folder / "metrics.jsonl", folder / "episodes.csv"
    lines, rows = metrics.read_text().splitlines(), episodes.read_text().splitlines()
    floats = [rows[0], *(",".join(f"{float(value):e}" for value in row.split(",")) for row in rows[1:])]
    episodes.write_text("".join(f"{row}\n" for row in floats))
    step = json.loads(lines[-1])["step"]
    lines[-1] = json.dumps(json.loads(lines[-1]) | {"step": float(step)})
    metrics.write_text("\ufeff" + "\n".join([*lines[:-1], "edited", lines[-1]]))
    done = command("resume", folder, "total_steps=500", "progress=false")
    assert done.code == 0 and "warning: 1 of the lines of metrics.jsonl cannot be read and are left out" in done.err
    assert episodes.read_text().splitlines()[: len(floats)] == floats and len(floats) > 1
    assert metrics.read_text().splitlines()[: len(lines)] == lines
    (curve,) = curves.read_curves([str(folder)], "time_s")
    assert step in curve.step and len(curve.step) > len({json.loads(line)["step"] for line in lines})


def test_the_beginning_of_a_line_of_a_killed_process_is_dropped_in_silence(copy, command):
    folder = copy()
    (folder / "metrics.jsonl").write_text('{"step": 1')
    (folder / "episodes.csv").write_text("step,reward,length,frames\n2")
    done = command("resume", folder, "total_steps=500", "progress=false")
    assert done.code == 0 and "left out" not in done.err, done.err
    assert "\n2\n" not in (folder / "episodes.csv").read_text()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("seed", 1, "a run with seed=1, this"), ("made_for", "x", "another configuration"), ("step", 7, "is of step 7")],
)
def test_a_checkpoint_of_another_run_is_not_taken(copy, command, key, value, words):
    """Bugs: the checkpoint of another seed was resumed, that of another configuration evaluated, and one that was
    renamed taken for another step, without a word."""
    folder = copy()
    newest = folder / "checkpoints" / "last"
    facts = json.loads((newest / "manifest.json").read_text())
    assert facts["seed"] == 0
    (newest / "manifest.json").write_text(json.dumps(facts | {key: value}))
    done = command("eval", folder)
    assert done.code == 3 and words in done.last_line, done.err
    done = command("resume", folder, "total_steps=500", "progress=false")
    assert done.code == 0 and words in done.err and "; trying step_" in done.err, done.err


@pytest.mark.parametrize("edited", ["config.yaml", "config.resume-1.yaml"])
def test_settings_that_were_edited_after_an_extension_are_noticed(copy, command, edited):
    """Bug: the fingerprint of either file was accepted, so `eval` and `resume` took the edited settings, or passed over
    them, without a word. Before the extension they were refused."""
    folder = copy()
    assert command("resume", folder, "total_steps=410", "progress=false").code == 0
    text = (folder / edited).read_text()
    for old, new, key in (
        ("gamma: 0.9", "gamma: 0.8", "algo.gamma"),
        ("seed: 0", "seed: 1", "seed"),
        ("\nfinal_eval_episodes: ", "\nfinal_eval_episodes: 1", "final_eval_episodes"),  # bug: one command took it
    ):
        assert old in text
        (folder / edited).write_text(text.replace(old, new, 1))
        for words in (["eval", folder, "episodes=1"], ["resume", folder, "total_steps=420", "progress=false"]):
            done = command(*words)
            assert done.code == 3, done.err
            assert f"config.yaml and config.resume-1.yaml differ in {key}" in done.last_line, done.err
        done = command("reproduce", folder)
        assert done.code == 3 and f"differ in {key}" in done.last_line, done.err
    (folder / edited).write_text(text)
    assert command("resume", folder, "total_steps=420", "progress=false").code == 0


def test_settings_that_resume_changes_are_edited_in_the_newest_file(copy, command):
    """Bug: `total_steps` that was edited in config.yaml after an extension had no effect, without a word."""
    folder = copy()
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("total_steps: 400", "total_steps: 405"))
    assert command("resume", folder, "progress=false").code == 0  # before it, the edit counts
    assert command("resume", folder, "total_steps=410", "progress=false").code == 0
    text = path.read_text()
    path.write_text(text.replace("total_steps: 405", "total_steps: 500"))
    for words in (["eval", folder], ["resume", folder, "progress=false"]):
        done = command(*words)
        assert done.code == 3 and "total_steps was edited in config.yaml, which is older than" in done.last_line
        assert done.last_line.endswith("undo the edit, and make it in config.resume-1.yaml"), done.err
    path.write_text(text)
    newest = folder / "config.resume-1.yaml"
    newest.write_text(newest.read_text().replace("total_steps: 410", "total_steps: 420"))
    assert "after 420 steps" in command("resume", folder, "progress=false").err


def test_an_edited_number_of_environments_is_not_passed_over(copy, command):
    """Bug: `algo.num_envs` counted, while config.resume-1.yaml and the label of a plot had the edited `num_envs`."""
    folder = copy()
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("\nnum_envs: 1\n", "\nnum_envs: 4\n"))
    for words in (["eval", folder], ["resume", folder, "total_steps=410", "progress=false"]):
        done = command(*words)
        assert done.code == 3 and "num_envs=4 and algo.num_envs=1 are two values of one setting" in done.last_line
