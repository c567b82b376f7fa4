"""A run's copy of the user's own modules shows whether a command uses other code than the run began with."""

import importlib.util
import io
import json
import os
import py_compile
import shutil
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from py_compile import PycInvalidationMode
from types import SimpleNamespace

import numpy.random._common
import pytest
from small_runs import small

from rltrain.config import plugin_modules
from rltrain.run import own_code, own_libraries

WORDS = ["run", "env.id=maze_of_mine:Maze-v0", "plugins=[parts_of_mine]"]
FILES = {
    "maze_of_mine.py": "R = 1",
    "maze_beside.py": "STEPS = 20",
    "parts_of_mine/__init__.py": "",
    "parts_of_mine/net.py": "N = 2",
}


def write(folder, files=FILES):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run folder in the working directory, beside the modules that it was trained with."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    write(tmp_path)
    write(tmp_path / "run", {"config.yaml": "", "meta.json": "{}"})
    write(tmp_path / "run" / "code")
    return tmp_path / "run"


def test_the_code_with_which_a_run_began_is_used_without_a_word(run, capsys):
    own_code.find(WORDS)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("changed", FILES)
def test_other_code_than_the_run_began_with_is_told(changed, run, tmp_path, capsys):
    """Bug: `eval` in a folder with another module of the same name scores 5000 where the training reached 10."""
    write(tmp_path, {changed: "R = 500"})
    own_code.find(WORDS)
    (line,) = capsys.readouterr().err.splitlines()
    what = f"{tmp_path / changed} differs from {run / 'code' / changed}, the run's copy"
    assert line == f"rltrain: warning: the run began with other code: {what}"


@pytest.mark.parametrize("reward", ["1", "500"])
def test_a_module_that_became_a_package_is_compared_too(reward, run, tmp_path, capsys):
    """Bug: after such a refactoring, no line told of another reward."""
    (tmp_path / "maze_of_mine.py").unlink()
    shutil.rmtree(tmp_path / "parts_of_mine")
    parts = "maze_of_mine/__init__.py", "parts_of_mine/__init__.py", "parts_of_mine/net/__init__.py"
    write(tmp_path, dict(zip(parts, (f"R = {reward}", "", "N = 2"), strict=True)))
    own_code.find(WORDS)
    assert capsys.readouterr().err.count("began with other code") == (reward == "500")


@pytest.mark.parametrize("kind", ["elsewhere", "package", "both"])
def test_a_helper_that_moved_is_compared_too(kind, run, tmp_path, monkeypatch, capsys):
    """Bug: the game was the same, and its helper, in another folder or as a package, was another one in silence."""
    (tmp_path / "maze_beside.py").unlink() if kind != "both" else None
    name = "maze_beside/__init__.py" if kind == "package" else "lib/maze_beside.py"
    write(tmp_path, {name: "STEPS = 30"})
    monkeypatch.syspath_prepend(tmp_path / "lib")
    own_code.find(WORDS)
    assert f"{tmp_path / name} differs from {run / 'code' / 'maze_beside.py'}" in capsys.readouterr().err


def test_a_package_beside_the_old_module_is_what_python_takes(run, tmp_path, capsys):
    write(tmp_path, {"maze_of_mine/__init__.py": "R = 500"})
    own_code.find(WORDS)
    assert "maze_of_mine/__init__.py differs" in capsys.readouterr().err


def test_a_helper_with_the_name_of_a_library_and_a_copied_package_are_no_news(run, tmp_path, capsys):
    """Bugs: Python's own `trace` was compared with the user's; a copy of the folder's own __init__.py was a bug."""
    for place in (tmp_path, run / "code"):
        write(place, {"trace.py": "MINE = 1", "__init__.py": ""})
    own_code.find(WORDS)
    assert capsys.readouterr().err == ""


def test_what_python_finds_first_is_compared(run, tmp_path, monkeypatch, capsys):
    """Bugs: the place where the run was trained is compared; a file of the same name in another folder is told."""
    other = {"maze_of_mine.py": "R = 2", "maze_beside.py": "OTHER = 3", "parts_of_mine/__init__.py": "N = 3"}
    monkeypatch.syspath_prepend(write(tmp_path / "first", other))
    own_code.find(WORDS[:2])
    assert "maze_beside.py differs" in capsys.readouterr().err
    write(tmp_path / "first", {"maze_of_mine.py": FILES["maze_of_mine.py"]})
    shutil.rmtree(tmp_path / "first" / "parts_of_mine")
    own_code.find(WORDS)
    assert "first/maze_beside.py differs" in capsys.readouterr().err
    (tmp_path / "first" / "maze_beside.py").unlink()
    own_code.find(WORDS)
    assert capsys.readouterr().err == ""


def test_further_files_are_counted(run, tmp_path, capsys):
    write(tmp_path, dict.fromkeys(FILES, "CHANGED = 1"))
    own_code.find(WORDS)
    assert capsys.readouterr().err.endswith("the run's copy (and 3 more)\n")


def test_other_code_than_that_of_the_first_weights_is_told(run, tmp_path, capsys):
    """Bug: the weights of a network with relu in one with tanh, after an edit of the plugin, without a word."""
    cfg, what = tmp_path / "mine.cfg", "rltrain: warning: the run of init_from began with other"
    sys.path.append(str(tmp_path))
    cfg.write_text("available_buttons = { A B }")
    shutil.copyfile(cfg, run / "code" / "game.cfg")
    (run / "config.yaml").write_text(f"env: {{cfg: {cfg}}}\n")
    config = SimpleNamespace(plugins=["parts_of_mine"], env=SimpleNamespace(cfg=str(cfg)))
    own_code.tell_of_first_weights(config, run)
    assert capsys.readouterr().err == ""
    write(tmp_path, {"parts_of_mine/net.py": "N = 3"})
    cfg.write_text("available_buttons = { B A }")
    own_code.tell_of_first_weights(config, run)
    code, game = capsys.readouterr().err.splitlines()
    assert code.startswith(f"{what} code: ") and "net.py differs" in code
    assert game.startswith(f"{what} settings of the game: {cfg} differs")
    config.env.cfg = str(tmp_path / "another.cfg")
    own_code.tell_of_first_weights(config, run)
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("kind", ["link", "pipe", "missing", "of no run"])
def test_a_copy_that_cannot_be_compared_stops_no_command(kind, run, tmp_path, capsys):
    """Bugs: a pipe in the copy is waited for; a user's own folder `code` beside a file of settings is a run's copy."""
    write(tmp_path, {"maze_of_mine.py": "R = 500"})
    if kind == "of no run":
        (run / "meta.json").unlink()
    else:
        shutil.rmtree(run / "code")
    if kind == "link":
        (run / "code").symlink_to(write(tmp_path / "elsewhere"))
    elif kind == "pipe":
        (run / "code").mkdir()
        os.mkfifo(run / "code" / "maze_of_mine.py")
    own_code.find(WORDS)
    assert capsys.readouterr().err == ""


def test_a_copy_of_another_size_is_not_read(run, tmp_path, monkeypatch, capsys):
    """Bug: 3,000 files of 5 MB that are holes made `eval` read 15 GB before it began."""
    for name in ("maze_of_mine.py", "stranger.py"):
        os.truncate(run / "code" / name, 4_999_999) if name in FILES else write(run / "code", {name: "x" * 4_999_999})
    read, original = [], own_code.inside.read_bytes

    def noted(path, *given):
        read.append(path.name)
        return original(path, *given)

    monkeypatch.setattr(own_code.inside, "read_bytes", noted)
    own_code.find(WORDS)
    assert "maze_of_mine.py differs" in capsys.readouterr().err
    assert "maze_beside.py" in read and not {"maze_of_mine.py", "stranger.py"} & set(read)


def test_a_place_that_no_path_can_have_is_none(tmp_path):
    """Bug: a zero byte in somebody else's meta.json, a bug in rltrain."""
    (tmp_path / "meta.json").write_text(json.dumps({"modules": {"mine": "/tmp/\0x"}}))
    assert own_code.place_of("mine", tmp_path) is None


def test_nothing_is_copied_to_outside_of_the_copy(run, tmp_path, monkeypatch):
    """Bug: a helper found by `sys.path.append("..")` was written over a file of the user's beside the runs."""
    shutil.rmtree(run / "code")
    project = write(tmp_path / "project", {"helper_of_mine.py": "X = 1", "x/deep_of_mine.py": "import helper_of_mine"})
    monkeypatch.syspath_prepend(project / "x")
    sys.path.append(str(project / "x" / ".."))
    before = {path for path in tmp_path.rglob("*") if path.suffix == ".py"}
    for name in ("deep_of_mine", "helper_of_mine"):
        monkeypatch.setitem(sys.modules, name, importlib.import_module(name))
    config = SimpleNamespace(env=SimpleNamespace(id="deep_of_mine:X-v0"), plugins=[])
    assert ".." in sys.modules["helper_of_mine"].__file__, "the control"
    own_code.copy(config, run)
    assert {path for path in tmp_path.rglob("*.py")} - before == {run / "code" / "deep_of_mine.py"}


def test_another_cfg_than_the_run_began_with_is_told(run, tmp_path, capsys):
    """Bug: two buttons of an edited .cfg in another order: the agent presses the wrong ones."""
    cfg, other = tmp_path / "mine.cfg", tmp_path / "mine_too.cfg"
    cfg.write_text("available_buttons = { A B }")
    config = SimpleNamespace(plugins=[], env=SimpleNamespace(cfg=str(cfg)))
    shutil.rmtree(run / "code")
    own_code.copy(config, run)
    assert os.listdir(run / "code") == ["game.cfg"]
    own_code.tell_other_cfg(str(cfg), run)
    other.write_text(cfg.read_text())
    own_code.tell_other_cfg(str(other), run)
    own_code.tell_other_cfg(None, run)
    assert capsys.readouterr().err == ""
    cfg.write_text("available_buttons = { B A }")
    own_code.tell_other_cfg(str(cfg), run)
    (line,) = capsys.readouterr().err.splitlines()
    what = f"{cfg} differs from {run / 'code' / 'game.cfg'}, the run's copy"
    assert line == f"rltrain: warning: the run began with other settings of the game: {what}"
    (run / "code" / "game.cfg").unlink()
    own_code.tell_other_cfg(str(cfg), run)
    assert capsys.readouterr().err == "", "an older run has no copy"


def test_code_that_nobody_can_read_in_a_runs_copy_is_not_executed(tmp_path, monkeypatch):
    """Bug: with the command that rltrain prints for a copy, a compiled file beside the text ran in place of it."""
    write(
        tmp_path / "run", {"config.yaml": "{algo: 0, env: 0, network: 0, seed: 0, total_steps: 1}", "meta.json": "{}"}
    )
    for place, hidden in (("run/code", False), ("mine", True)):
        folder, names = tmp_path / place, [f"{kind}_{place[:3]}" for kind in ("text", "compiled", "library")]
        write(folder, {f"{names[0]}.py": "X = 1", "two.py": "X = 2", f"{names[2]}{EXTENSION_SUFFIXES[0]}": ""})
        for compiled in (importlib.util.cache_from_source(folder / f"{names[0]}.py"), folder / f"{names[1]}.pyc"):
            py_compile.compile(folder / "two.py", compiled, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)
        monkeypatch.syspath_prepend(folder)
        plugin_modules.look_in_working_directory()
        assert (2 if hidden else 1) == importlib.import_module(names[0]).X
        if hidden:
            assert importlib.import_module(names[1]).X == 2, "the control: a module of one's own"
            continue
        for name in names[1:]:
            with pytest.raises(ImportError, match=r"lies in a run and is no \.py file"):
                importlib.import_module(name)


def test_what_is_imported_inside_a_method_is_copied_with_the_next_checkpoint(command, tmp_path, monkeypatch):
    """Bug: an edited helper was not told, and the run's own copy of the code could not be used."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    text = (Path(__file__).parent.parent / "envs/gym/drawn_at_import.py").read_text()
    text = text.replace("drawn_at_import", "importing_late").replace("Imported", "ImportingLate")
    late = "import late_rules\n        return WORLD, float(late_rules.PAY)"
    write(
        tmp_path, {"importing_late.py": text.replace("return WORLD, float(WORLD[0])", late), "late_rules.py": "PAY = 2"}
    )
    keys = ["env.id=importing_late:ImportingLate-v0", "total_steps=20", "eval_every_steps=0"]
    run = command(*small("a2c", "gym"), *keys).folder
    assert {path.name for path in (run / "code").iterdir()} == {"importing_late.py", "late_rules.py"}
    write(tmp_path, {"late_rules.py": "PAY = 3"})
    assert "late_rules.py differs from" in command("eval", str(run), keys[0], "episodes=1").err


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which libraries a process has loaded")
def test_a_library_that_was_built_anew_is_told(command, tmp_path, monkeypatch):
    """Bug: 9 points in the training and 45 in `eval`, as the rules were in an extension module, without a word."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    text = (Path(__file__).parent.parent / "envs/gym/drawn_at_import.py").read_text()
    text = text.replace("drawn_at_import", "with_library").replace("Imported", "WithLibrary")
    write(tmp_path, {"with_library.py": f"import ctypes\nctypes.CDLL({str(tmp_path / 'lib/sim.so')!r})\n{text}"})
    (tmp_path / "lib").mkdir()
    shutil.copy(numpy.random._common.__file__, tmp_path / "lib/sim.so")
    keys = ["env.id=with_library:WithLibrary-v0", "total_steps=20", "eval_every_steps=0"]
    run = command(*small("a2c", "gym"), *keys).folder
    assert {path.name for path in (run / "code").iterdir()} == {"with_library.py", "compiled.json"}
    assert "began with" not in command("eval", str(run), keys[0], "episodes=1").err, "the control"
    other = tmp_path / "other.so"  # a process that has the library keeps the old one
    other.write_bytes((tmp_path / "lib/sim.so").read_bytes() + b"another")
    other.replace(tmp_path / "lib/sim.so")
    assert f"{tmp_path / 'lib/sim.so'} differs from what {run}" in command("eval", str(run), keys[0], "episodes=1").err


@pytest.mark.parametrize("name", ["/etc/hostname.so", "../beside.so", "data.bin", "a/../../beside.so", "./maze.so"])
def test_the_hashes_of_a_copy_make_no_command_read_other_files(name, run, tmp_path, capsys, monkeypatch):
    """Bug to prevent: /proc/kcore, which has 128 TB, in a folder of somebody else."""
    write(run / "code", {"compiled.json": json.dumps({name: "0", "maze.so": "0", "other.so": 1})})
    write(tmp_path, {"maze.so": "a library", "data.bin": "data"})
    monkeypatch.setattr(own_libraries, "_digest", lambda path: read.append(path) or "1")
    read = []
    own_code.find(WORDS)
    assert read == [tmp_path / "maze.so"] and "maze.so differs from what" in capsys.readouterr().err


def test_what_is_known_of_libraries_hides_no_edited_module(run, tmp_path, capsys):
    """Bug: with hashes that nobody can read, an edit of a module was not told."""
    write(run / "code", {"compiled.json": '{"a'})
    write(tmp_path, {"maze_of_mine.py": "R = 500"})
    own_code.find(WORDS)
    assert "maze_of_mine.py differs from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("loaded", "noted"),
    [
        ("sim.so", True), ("deep/er/sim.cpython-311.so", True), ("sim.so (deleted)", True), ("a\rb/sim.so", True),
        (".cache/sim.so", False), ("env/lib/libssl.so.3", False), ("venv/lib/python3/site-packages/a/b.so", False),
        ("../beside.so", False), ("sim", False),
    ],
)  # fmt: skip
def test_libraries_of_the_users_are_noted_alone(loaded, noted, tmp_path, monkeypatch):
    """Bugs: libraries of a Python below the user's folder; a carriage return in a path ended the training; one that was
    built anew while the run started was never told."""
    root, copy = tmp_path / "mine", tmp_path / "copy"
    copy.mkdir()
    place = loaded.removesuffix(" (deleted)")
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).write_text("a library")
    maps = f"7f00-7f01 r-xp 00000000 08:01 12 {' ' * 20}{root / loaded}\n7f00-7f01 rw-p 00000000 00:00 0\n"
    monkeypatch.setattr(own_libraries, "open", lambda *given: io.BytesIO(os.fsencode(maps)), raising=False)
    monkeypatch.setattr(sys, "prefix", str(root / "env"))
    own_libraries.note({root}, copy)
    found = own_libraries.hashes(copy)
    assert found.keys() == ({place} if noted else set())
    assert [path.name for path in own_libraries.changed([root], copy)] == (
        [Path(place).name] if "deleted" in loaded else []
    )


EDITED = """
from pathlib import Path
import gymnasium
import numpy as np
REWARD = 1.0
class Edited(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2, np.float32), {}
    def step(self, action):
        self.steps += 1
        path = Path(__file__)  # as its author does meanwhile
        path.write_text(path.read_text().replace("REWARD = 1.0", "REWARD = 9.0"))
        return np.zeros(2, np.float32), REWARD, self.steps == 10, False, {}
gymnasium.register("Edited-v0", Edited)
"""


@pytest.mark.parametrize("many", [["env.workers=1"], ["-m", "seed=0,1"]])
def test_a_run_goes_on_with_the_code_that_it_began_with(many, command, tmp_path, monkeypatch):
    """Bugs: evaluations and replaced workers played a module that was edited while the run trained, in silence; jobs of
    a sweep that began later kept a copy of code that they had not run."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "edited_of_mine", raising=False)
    monkeypatch.setattr(plugin_modules, "SOURCES", {})
    (tmp_path / "edited_of_mine.py").write_text(EDITED)
    words = [*small("a2c", "gym"), "env.id=edited_of_mine:Edited-v0", "total_steps=100", "run_dir=runs"]
    outcome = command(*words, *many)
    assert outcome.code == 0 and "REWARD = 9.0" in (tmp_path / "edited_of_mine.py").read_text(), outcome.err
    results = sorted(tmp_path.glob("runs/**/result.json"))
    assert [json.loads(path.read_text())["final"]["mean_reward"] for path in results] == [10.0] * len(many)
    for path in results:
        assert (path.parent / "code" / "edited_of_mine.py").read_text() == EDITED
