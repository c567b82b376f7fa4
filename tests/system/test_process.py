"""A command ends when it is done, and needs a working directory."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import rltrain
from rltrain.errors import DiskError
from rltrain.system import out_of_memory, process, ram, signals


def test_a_thread_that_an_environment_left_does_not_keep_the_process(tmp_path):
    """Bug: after "done" the process waits for a thread that never ends."""
    code = (
        "import sys, threading; from rltrain.system import process; process.exit_s = 0.2\n"
        "threading.Thread(target=threading.Event().wait).start(); process.end_soon(5); sys.exit(5)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 5


def test_a_timer_that_an_environment_left_does_not_change_the_exit_code(tmp_path):
    """Bug: the process of a run that was done ended by SIGPROF."""
    code = (
        "import signal, sys; from rltrain.system import process; signal.signal(signal.SIGPROF, lambda *_: None)\n"
        "signal.setitimer(signal.ITIMER_PROF, 0.0005, 0.0005); process.end_soon(5); sys.exit(5)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 5


@pytest.mark.parametrize("place", ["atexit.register(stop)", "last.append(Last())"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_after_the_end_does_not_change_the_exit_code(number, place):
    """Bug: a sweep whose jobs were all done ended by SIGTERM."""
    code = (
        "import atexit, os, sys; from rltrain.system import process; process.prepare()\n"
        f"def stop(kill=os.kill, me=os.getpid()): kill(me, {int(number)})\n"
        "class Last:\n    def __del__(self, stop=stop): stop()\n"
        f"last = []; {place}; process.end_soon(5); sys.exit(5)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 5


def test_what_must_not_be_destroyed_is_not_when_the_process_ends(tmp_path):
    """Bug: after "done" the process waits in the destructor of an environment. Other exit hooks have their turn."""
    code = (
        "import atexit, sys, time; from rltrain.system import process; process.prepare()\n"
        f"log = open({str(tmp_path / 'log')!r}, 'w'); log.write('a trade')\n"
        "class Sleepy:\n    def __del__(self): time.sleep(60)\n"
        "atexit.register(print, 'hook'); process.undead.append(Sleepy()); process.end_soon(5); sys.exit(5)"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=30, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (5, "hook\n")
    assert (tmp_path / "log").read_text() == "a trade", "the log of an environment, which Python writes at the end"


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (errno.EMFILE, 7, "no further file can be opened: Too many open files; the limit of open files; raise it"),
        (errno.EAGAIN, 6, "no further process can be started: Resource temporarily unavailable; the limit of proc"),
        (errno.ENOENT, 7, "there is no folder for temporary files; TMPDIR; set TMPDIR to a folder"),
    ],
)
@pytest.mark.parametrize(
    "where", ["rltrain.algos.q_learning.train", "rltrain.app.hydra_app.resolve", "rltrain.cli._compose"]
)
def test_a_limit_of_the_system_is_told(where, number, code, words, command, monkeypatch):
    """Bug: "a bug in rltrain" where an environment or the shell had lowered the limit of open files or processes."""

    def refuse(*args):
        raise OSError(number, "No usable temporary directory" if number == errno.ENOENT else os.strerror(number))

    monkeypatch.setattr(where, refuse)
    outcome = command("algo=q_learning", "env=maze", "total_steps=60", "progress=false")
    assert outcome.code == code and words in outcome.last_line
    if where.endswith("train"):
        assert outcome.json("status.json")["exit_code"] == code


def test_a_working_directory_that_was_deleted_is_one_line(command, tmp_path, monkeypatch):
    """Bug: a traceback of FileNotFoundError from inside Hydra."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    os.rmdir(tmp_path / "gone")
    for words in (["runs"], ["algo=ppo", "env=cartpole"]):
        done = command(*words)
        assert done.code == 2
        assert "the working directory was deleted" in done.last_line
    monkeypatch.chdir(tmp_path)


def test_shared_memory_that_is_too_small_is_told_before_it_is_used(monkeypatch):
    """Bug: a bus error, without any message."""
    with pytest.raises(DiskError, match=r"8 Doom engines need .* MB of shared memory"):
        ram.require_shared(10**15, "8 Doom engines need", "use a smaller num_envs")
    ram.require_shared(1, "one engine needs", "")


def test_errors_of_loading_a_library_without_address_space_are_shortages():
    """Bug: `ulimit -v` ends an import with "a bug in rltrain"."""
    assert out_of_memory.is_shortage(ImportError("libx.so: failed to map segment from shared object"))
    assert out_of_memory.is_shortage(OSError(12, "Cannot allocate memory"))
    try:
        try:
            raise OSError("libllvmlite.so: failed to map segment from shared object")
        except OSError:
            raise OSError("Could not find/load shared object file")  # noqa: B904 (as llvmlite does)
    except OSError as error:
        assert out_of_memory.is_shortage(error)
    assert not out_of_memory.is_shortage(ImportError("No module named x"))


def test_torchs_compiler_leaves_no_folder_among_the_temporary_files(tmp_path, monkeypatch):
    """Bugs: /tmp/torchinductor_root after each run; a traceback for a user whose home cannot be written or entered."""
    for name in ("TORCHINDUCTOR_CACHE_DIR", "XDG_CACHE_HOME", "GOMP_SPINCOUNT", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # restored after the test
        monkeypatch.delenv(name)
    (tmp_path / "file").touch()
    for home in ("none", str(tmp_path / "file")):
        monkeypatch.setenv("HOME", home)
        process.prepare()
        assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
    forbidden, stat = str(tmp_path / "theirs" / ".cache"), os.stat

    def refuse(path, **given):
        if str(path) == forbidden:
            raise PermissionError(13, "Permission denied", path)
        return stat(path, **given)

    with monkeypatch.context() as patch:  # root may enter any folder
        patch.setattr(os, "stat", refuse)
        patch.setattr(os, "access", lambda path, mode: False)
        patch.setenv("HOME", str(tmp_path / "theirs"))
        process.prepare()
        assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
    monkeypatch.setenv("HOME", str(tmp_path / "new"))
    process.prepare()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "new" / ".cache" / "rltrain" / "torch")
    assert not (tmp_path / "new").exists()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "mine")
    process.prepare()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "mine"


def test_too_little_address_space_is_code_6(tmp_path):
    """Bugs: tracebacks of numba's library, of a thread that cannot start at the end, of measuring the free memory."""
    run = f"exec {sys.executable} -m rltrain algo=q_learning env=frozen_lake total_steps=500 progress=false"
    done = subprocess.run(
        ["bash", "-c", f"ulimit -v 150000; {run}"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 6, done.stderr
    assert done.stderr.splitlines()[-1].startswith("rltrain: error: out of memory")
    assert done.stderr.splitlines()[-1].endswith("raise the limit: ulimit -v unlimited")


def test_every_command_has_the_same_hashes(tmp_path):
    """Bug: an environment that takes its actions from a set of words had others in a resumed run, and in A3C's
    evaluations others than in its workers."""
    (tmp_path / "orders.py").write_text("print('order', *{f'word {i}' for i in range(20)})\n")

    def order(hash_seed=None):
        env = {key: value for key, value in os.environ.items() if key != "PYTHONHASHSEED"}
        env |= {"PYTHONHASHSEED": hash_seed} if hash_seed else {}
        command = [sys.executable, "-m", "rltrain", "list", "algos", "plugins=[orders]"]
        told = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True).stdout
        return next(line for line in told.splitlines() if line.startswith("order"))

    assert order() == order() == order("0") != order("3")


def test_a_program_that_runs_rltrain_in_its_own_process_is_not_started_again(tmp_path):
    """Bug: a script that calls `runpy.run_module("rltrain")` began again, and made everything twice."""
    code = "import runpy, sys; print('begun', flush=True); sys.argv = ['rltrain', '--version']; "
    code += "runpy.run_module('rltrain', None, '__main__')"
    env = {key: value for key, value in os.environ.items() if key != "PYTHONHASHSEED"}
    told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True).stdout
    assert told.splitlines()[0] == "begun" and len(told.splitlines()) == 2, told


def test_a_script_that_calls_main_finds_the_modules_beside_it(tmp_path):
    """Bug: it was started again without its folder, and ended with ModuleNotFoundError."""
    (tmp_path / "beside_the_script.py").write_text("")
    script = tmp_path / "launch.py"
    script.write_text("import beside_the_script\nfrom rltrain.__main__ import main\nmain()\n")
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, script, "--version"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("rltrain "), done.stderr


_FOREIGN = """import os, sys
here = os.path.dirname(os.path.abspath(__file__))
open(os.path.join(here, "ran.txt"), "a").write(" ".join(sys.orig_argv) + "\\n")
path = sys.path[:]
sys.path[:] = [folder for folder in path if os.path.abspath(folder) != here]
del sys.modules["socket"]
import socket
sys.path[:] = path
"""
"""A `socket.py` in the working directory. It hands the real one over, so that nothing fails."""
_SMALL = ["env=cartpole", "total_steps=64", "eval_every_steps=0", "final_eval_episodes=1", "progress=false"]


def _foreign_code(folder, *words):
    """Run `rltrain` beside a foreign `socket.py`. Return the command lines of the processes that imported it."""
    (folder / "socket.py").write_text(_FOREIGN)
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "rltrain", *words]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return (folder / "ran.txt").read_text() if (folder / "ran.txt").exists() else ""


@pytest.mark.parametrize(
    "words",
    [
        ("doctor",),
        ("algo=ppo", "env.workers=1", "num_envs=2", "algo.num_steps=16", "batch_size=16", *_SMALL),
        ("algo=a3c", "algo.num_workers=1", *_SMALL),
        ("algo=ppo", "runtime=torchrun", "num_envs=2", "algo.num_steps=16", "batch_size=16", *_SMALL),
        ("-m", "hydra/launcher=joblib", "seed=1,2", "algo=a2c", *_SMALL),
    ],
    ids=["doctor", "workers", "forkserver", "torchrun", "joblib"],
)  # fmt: skip
def test_a_started_process_runs_no_module_of_the_working_directory(tmp_path, words):
    """Bug: `rltrain` did not look there for modules of the library, but the processes that it started did."""
    assert not _foreign_code(tmp_path, *words)


def test_processes_are_started_without_the_working_directory(tmp_path):
    """As above, for every process that multiprocessing starts, and for those of `process.python`."""
    (tmp_path / "of_processes.py").write_text(
        "import subprocess\nfrom multiprocessing import spawn\nfrom rltrain.system.process import python\n"
        "assert '-P' in spawn.get_command_line()\n"
        "subprocess.run(python('import socket; assert sys.path[0]'), check=True)\n"
    )
    assert not _foreign_code(tmp_path, "list", "algos", "plugins=[of_processes]")


def test_numbas_file_of_settings_in_the_working_directory_is_refused(command, tmp_path):
    """Bug: in a run folder of somebody else's it led to compiled files outside, and to pickles that numba loads."""
    assert command("list").code == 0, "the control"
    (tmp_path / ".numba_config.yaml").write_text("cache_dir: /tmp/elsewhere\n")
    refused = command("list")
    assert refused.code == 2 and ".numba_config.yaml; stand in another folder" in refused.last_line


def test_vizdooms_file_of_settings_in_the_working_directory_is_refused(command, tmp_path, monkeypatch):
    """Bug: `DoomGame.init` reads it. It started a program of somebody's; an old one of one's own changed the game."""
    run = command("algo=ppo", "env=cartpole", "total_steps=64", "progress=false").folder
    (tmp_path / "_vizdoom.cfg").write_text("living_reward = 5\n")
    assert command("algo=ppo", "env=cartpole", "dry_run=true").code == 0, "the control: a project may have one"
    refused = command("algo=ppo", "env=doom_basic", "dry_run=true")
    assert refused.code == 2 and "_vizdoom.cfg; stand in another folder" in refused.last_line
    (run / "_vizdoom.cfg").write_text("vizdoom_path = ./theirs.sh\n")
    monkeypatch.chdir(run)
    refused = command("eval", ".")  # an environment of gymnasium's may make a game of Doom
    assert refused.code == 2 and "_vizdoom.cfg; stand in another folder" in refused.last_line


def test_no_program_of_somebodys_run_is_started(command, tmp_path, monkeypatch):
    """Bug: with an empty entry in PATH, which means the working directory, its `git` was started."""
    folder = command("algo=ppo", "env=cartpole", "total_steps=64", "progress=false").folder
    (folder / "git").write_text("#!/bin/sh\necho theirs >> theirs\n")
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f":.:{os.environ['PATH']}")
    words = ["reproduce", str(folder), "total_steps=64", "progress=false", f"run_dir={tmp_path / 'other'}"]
    for where, is_started in ((folder, False), (tmp_path, True)):
        monkeypatch.chdir(where)
        shutil.copy(folder / "git", tmp_path / "git")
        assert command(*words).code == 0
        assert (where / "theirs").exists() == is_started, "the control: a project's own programs are the user's"
        monkeypatch.setenv("PATH", f":.:{os.environ['PATH']}")


@pytest.mark.parametrize("link", ["runs", "runs/cartpole", "runs/sweeps"])
def test_a_link_in_somebodys_run_leads_no_new_run_out_of_it(link, command, tmp_path, monkeypatch):
    """Bug: `reproduce .` there made a run in another folder of the user's, and moved its `latest`."""
    words = ["algo=ppo", "env=cartpole", "total_steps=64", "progress=false"]
    theirs, (project, mine) = command(*words).folder, (tmp_path / "project", tmp_path / "mine")
    words = ["-m", "seed=0,1", *words] if link == "runs/sweeps" else words
    mine.mkdir()
    for place in (project, theirs):
        (place / link).parent.mkdir(parents=True, exist_ok=True)
        (place / link).symlink_to(mine)
        monkeypatch.chdir(place)
        before = set(mine.rglob("*"))
        outcome = command(*words)
        is_refused = outcome.code == 2 and "which may be somebody else's run, leads to" in outcome.last_line
        assert (outcome.code == 0, is_refused) == (place == project, place == theirs), outcome.err
        assert (set(mine.rglob("*")) == before) == is_refused
    assert command(*words, "run_dir=here").code == 0


def test_no_program_looks_for_libraries_in_the_working_directory():
    """Bug: OpenCV puts its folder before an empty LD_LIBRARY_PATH, and ffmpeg loaded a library of a run folder."""
    code = "import os; from rltrain.system import process; process.prepare(); import cv2; import sys; sys.stdout.write("
    clean = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    command = [sys.executable, "-c", f"{code}os.environ.get('LD_LIBRARY_PATH', ''))"]
    done = subprocess.run(command, timeout=60, capture_output=True, text=True, env=clean, check=True)
    assert "" not in done.stdout.split(":")


def test_a_library_is_imported_from_elsewhere_and_the_folder_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with contextlib.suppress(ValueError), process.elsewhere():
        assert os.getcwd() == "/"
        raise ValueError
    assert os.getcwd() == str(tmp_path)


def test_a_ctrl_c_that_arrives_twice_is_one(monkeypatch):
    """Bug: the second one of a program that passes it on, such as uv, ended the run without a save."""
    now_s = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now_s[0])
    for first in (signal.SIGINT, signal.SIGTERM):
        presses = signals.Presses()
        assert not presses.is_second(first)
        for later_s, is_second in ((0.0, False), (0.9, False), (0.2, True)):
            now_s[0] += later_s
            assert presses.is_second(signal.SIGINT) == is_second
            assert not presses.is_second(signal.SIGTERM)


CALLING = """
import multiprocessing, runpy, sys, threading

def train():
    sys.argv = ["rltrain", *sys.argv[2:]]
    try:
        runpy.run_module("rltrain", run_name="__main__")
    except SystemExit as end:
        print("code", end.code, flush=True)

if __name__ == "__main__":
    kind = sys.argv[1]
    if kind == "thread":
        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
    else:
        with multiprocessing.get_context(kind).Pool(1) as pool:
            pool.apply(train)
"""


@pytest.mark.parametrize(
    ("kind", "more", "said"),
    [
        ("spawn", "env.workers=1", "this process is daemonic"), ("spawn", "", "code 0"), ("fork", "", "code 0"),
        ("thread", "", "needs the main thread of a process"),
    ],
)  # fmt: skip
def test_a_program_may_call_rltrain_in_a_pool_and_not_in_a_thread(kind, more, said, tmp_path):
    """Bugs: "a bug in rltrain" and a traceback of signal; a forked process that began the program anew, for which its
    pool waited without end."""
    (tmp_path / "calling.py").write_text(CALLING)
    words = "algo=a2c env=cartpole total_steps=20 num_envs=1 eval_every_steps=0 final_eval_episodes=1 device=cpu"
    env = {key: value for key, value in os.environ.items() if key != "PYTHONHASHSEED"}
    env |= {"PYTHONPATH": str(Path(rltrain.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "calling.py", kind, *words.split(), *more.split()]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200)
    assert said in done.stdout + done.stderr and "Traceback" not in done.stderr, done.stderr
    assert ("code 2" in done.stdout) == (said != "code 0")


def test_a_process_with_a_name_of_its_own_knows_its_interpreter(tmp_path):
    """Bug: after `exec -a NAME python -m rltrain` each process that it started was "a bug in rltrain"."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    env["PYTHONPATH"] = f"{Path(rltrain.__file__).parents[1]}{os.pathsep}{env['PYTHONPATH']}"
    words = "algo=a2c env=cartpole env.workers=1 total_steps=20 num_envs=1 eval_every_steps=0 final_eval_episodes=1"
    script = 'exec -a myjob "$0" -m rltrain "$@"'
    command = ["bash", "-c", script, os.path.realpath(sys.executable), *words.split(), "device=cpu"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr


def test_an_interpreter_that_is_gone_is_one_line():
    """Bug: a traceback for every command, where a launcher of an older Python had left PYTHONEXECUTABLE."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    gone = clean | {"PYTHONEXECUTABLE": "/gone/bin/python3", "PYTHONPATH": str(Path(rltrain.__file__).parents[1])}
    program = [sys.executable, "-m", "rltrain", "list", "networks"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, env=gone)
    # A Python in a virtual environment does not find its packages then.
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 0 or "PYTHONEXECUTABLE; unset it" in done.stderr


def test_a_system_without_dev_null_is_one_line():
    """Bug: a traceback for every command in a chroot whose /dev is empty."""
    code = "import os, sys; os.devnull = '/gone/null'; sys.argv = ['rltrain', 'list']; "
    code += "from rltrain.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 7 and "Traceback" not in done.stderr, done.stderr
    assert "/gone/null" in done.stderr and done.stderr.count("\n") == 1
