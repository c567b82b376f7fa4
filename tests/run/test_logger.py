"""The progress line: when it comes and what it says."""

import fcntl
import os
import struct
import termios
from types import SimpleNamespace

import pytest
from small_runs import small
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams import metadata

from rltrain.envs.pool import Episode
from rltrain.run import logger


class Times:
    """Two clocks that stand still until they are set: all of the time, and that in training."""

    def __init__(self):
        self.now_s = self.train_s = 0.0

    def at(self, now_s, train_s=None):
        self.now_s, self.train_s = now_s, now_s if train_s is None else train_s


@pytest.fixture
def times(monkeypatch):
    times = Times()
    monkeypatch.setattr(logger, "time", SimpleNamespace(monotonic=lambda: times.now_s))
    return times


@pytest.fixture
def progress(times):
    """Of a run of 1,000 steps, refreshed every 2 s on a terminal and every 20 s elsewhere, as here."""
    progress = logger.Progress(1000, 2.0, True, lambda: times.train_s)
    progress.facts = {"return": "3.00"}
    progress.show(0)
    return progress


def test_the_line_comes_when_its_time_has_come_and_not_before(progress, times, capsys):
    times.at(19)
    progress.show(190)
    assert capsys.readouterr().err == ""
    times.at(25)
    progress.show(250)
    progress.show(251)
    assert capsys.readouterr().err == " 25% 250/1,000  10 steps/s  1:15 left  return 3.00\n"


def test_evaluations_are_named_and_count_for_the_time_left_and_not_for_the_speed(progress, times, capsys):
    times.at(20)
    progress.show(100)
    times.at(60)
    progress.show(100, "evaluating 7 of 20")
    progress.evaluated(20, 40.0)
    progress.episodes_left = lambda step: 50
    times.at(80, train_s=40)
    progress.show(200)
    assert capsys.readouterr().err.splitlines() == [
        " 10% 100/1,000  5 steps/s  3:00 left  return 3.00",
        " 10% 100/1,000  evaluating 7 of 20  3:00 left  return 3.00",
        " 20% 200/1,000  5 steps/s  4:20 left  return 3.00",  # 160 s of training and 100 s of evaluations
    ]


def test_the_time_left_follows_the_recent_speed(progress, times, capsys):
    """Bug: a run that becomes ten times slower, once it learns, ends in five minutes for an hour."""
    for now_s, step in ((20, 400), (40, 440), (60, 480), (80, 520), (100, 560)):
        times.at(now_s)
        progress.show(step)
    left = capsys.readouterr().err.splitlines()[-1].split("  ")[2]
    assert left == "3:27 left", "440 steps at 2 steps/s, less what the first line still counts for"


def test_a_last_rollout_that_is_longer_than_what_was_left_is_no_more_than_all(progress, times, capsys):
    times.at(20)
    progress.show(1200)
    assert capsys.readouterr().err == "100% 1,200/1,000  60 steps/s  0:00 left  return 3.00\n"


def test_the_speed_before_the_first_update_says_nothing_of_the_time_left(progress, times, capsys):
    """Bug: DQN fills its replay ten times as fast as it learns later, and an hour is told as six minutes."""
    progress.learning_starts = 300
    for now_s, step in ((20, 200), (40, 310), (60, 320)):
        times.at(now_s)
        progress.show(step)
    before, across, after = capsys.readouterr().err.splitlines()
    assert "10 steps/s" in before and " left" not in before + across
    assert "22:40 left" in after, "680 steps at 0.5 steps/s"


def test_on_a_narrow_terminal_the_line_stays_one_line(times, monkeypatch):
    """Bugs: on 80 columns the line went on in the next one, and each refresh left a line behind; a word cut in two."""
    monkeypatch.setenv("TERM", "xterm")
    reader, writer = os.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    with open(reader, "rb", buffering=0) as screen, open(writer, "w") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        progress = logger.Progress(1000, 2.0, True, lambda: times.train_s)
        progress.facts = {"return": "3.00", "best eval": "4.00"}
        progress.show(0)
        times.at(2)
        progress.show(20)
        assert screen.read(4096).decode() == "\r\033[K" + "  2% 20/1,000  10 steps/s  1:38 left"


def test_a_resumed_run_counts_its_speed_from_where_it_goes_on(times, capsys):
    progress = logger.Progress(1000, 2.0, True, lambda: times.train_s)
    progress.show(500)
    times.at(20)
    progress.show(600)
    assert capsys.readouterr().err == " 60% 600/1,000  5 steps/s  1:20 left\n"


def test_the_line_is_asked_for_after_every_step_and_in_evaluations(command, monkeypatch):
    """Bug: nothing on the screen for minutes, as a hundredth of a long run passes between two lines of metrics."""
    asked = []
    monkeypatch.setattr(logger.Progress, "show", lambda self, step, doing="": asked.append((step, doing)))
    outcome = command(*small("dqn", "cartpole"), "total_steps=100", "log_every_steps=1000")
    assert outcome.code == 0, outcome.err
    assert {step for step, doing in asked if not doing} == set(range(3, 103, 3))
    assert (102, "evaluating 1 of 1") in asked


def test_what_varies_in_a_sweep_is_a_column_also_of_a_run_that_lacks_it(tmp_path):
    """Bug: TensorBoard takes the columns from the first run alone, so what only the other algorithm has is missing."""
    for algo in ({"name": "ppo", "num_steps": 5}, {"name": "dqn"}):
        folder = tmp_path / algo["name"]
        folder.mkdir()
        settings = {"algo": algo, "env": {"name": "pong", "kwargs": {"name": "x"}}, "seed": 3}
        logger.Logger(folder, settings, None, varies={"algo": algo["name"], "algo.num_steps": "5"}).close()
        (events,) = folder.glob("events.out.tfevents.*")
        values = [value for event in EventFileLoader(str(events)).Load() for value in event.summary.value]
        content = {value.tag: value.metadata.plugin_data.content for value in values}
        experiment = metadata.parse_experiment_plugin_data(content[metadata.EXPERIMENT_TAG])
        marked = [info.name for info in experiment.hparam_infos if info.differs]
        assert marked == ["algo", "env", "seed", "algo.num_steps"]
        own = metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG]).hparams
        assert own["algo"].string_value == algo["name"] and own["env.kwargs.name"].string_value == "x"
        assert own["algo.num_steps"].number_value == algo.get("num_steps", 0)


def test_a_choice_that_is_no_setting_is_told_in_the_hparams_tab(tmp_path):
    """Bug: the column `hparams` says None in every row, and `algo` names what two files of one's own are made from."""
    settings = {"algo": {"name": "ppo"}, "env": {"name": "pong"}, "seed": 3}
    logger.Logger(tmp_path, settings, None, varies={"algo": "slow", "hparams": "low", "seed": "3"}).close()
    (events,) = tmp_path.glob("events.out.tfevents.*")
    values = [value for event in EventFileLoader(str(events)).Load() for value in event.summary.value]
    (content,) = (
        value.metadata.plugin_data.content for value in values if value.tag == metadata.SESSION_START_INFO_TAG
    )
    own = metadata.parse_session_start_info_plugin_data(content).hparams
    assert (own["algo"].string_value, own["hparams"].string_value, own["seed"].number_value) == ("slow", "low", 3)


@pytest.mark.parametrize("name", ["metrics.jsonl", "episodes.csv"])
@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_log_whose_name_was_taken_away_is_put_back_before_a_checkpoint(name, how, tmp_path, capsys):
    """Bug: after an editor had saved it, all later lines went into a file without a name, and the run said "done"."""
    log = logger.Logger(tmp_path, {}, None)
    path, other = tmp_path / name, tmp_path / f"{name}.replaced"

    def lines(step):
        log.metrics(step, {"eval/mean_reward": 1.0})
        log.episodes(step, [Episode(0, 1.0, 2, 3)])
        log.sync()

    lines(1)
    lines(2)
    assert capsys.readouterr().err == ""
    before = path.read_text()
    path.unlink()
    if how == "replaced":
        path.write_text("edited")
    lines(3)
    lines(4)
    log.close()
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and f"{name} was {how} while the run trains" in told
    assert path.read_text().startswith(before) and len(path.read_text().splitlines()) == 4 + (name == "episodes.csv")
    assert other.exists() == (how == "replaced") and (how == "removed" or other.read_text() == "edited")


@pytest.mark.parametrize("name", ["metrics.jsonl", "episodes.csv"])
def test_a_log_that_another_program_saves_in_place_is_told_once(name, tmp_path, capsys):
    """Bug: nano, VS Code, `cp` and logrotate's copytruncate write into the same file, and its lines were gone."""
    logger.Logger(tmp_path, {}, None).close()
    log = logger.Logger(tmp_path, {}, 0)
    for step in range(1, 5):
        log.metrics(step, {"eval/mean_reward": 1.0})
        log.episodes(step, [Episode(0, 1.0, 2, 3)])
        if step == 2:
            assert capsys.readouterr().err == ""
            (tmp_path / name).write_text("")
        log.sync()
    log.close()
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and f"another program wrote into {name} while the run trains: it has" in told


def test_a_log_that_could_not_be_written_blames_no_other_program(tmp_path, capsys):
    log = logger.Logger(tmp_path, {}, None)
    log.episodes(1, [Episode(0, 1.0, 2, 3)])
    log.sync()
    with log.warned():
        raise OSError("no space left")
    (tmp_path / "episodes.csv").write_text("")
    log.sync()
    log.close()
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "no space left" in told


@pytest.mark.parametrize(("change", "is_told"), [("none", False), ("rounded", False), ("cut", True), ("other", True)])
def test_episodes_of_another_agent_are_told(change, is_told, tmp_path, capsys):
    """Returns of any size are compared, also as a spreadsheet rounds them."""
    returns = [1e6 / 3, -1455.032475831, 1e-12, 1.7e300, -0.0, 21.0] * 20
    logger.Logger(tmp_path, {}, None).close()
    log = logger.Logger(tmp_path, {}, 0)
    log.episodes(9_999_999_999, [Episode(0, number, 100_000, 400_000) for number in returns])
    log.sync()
    path = tmp_path / "episodes.csv"
    header, *lines = path.read_text().splitlines()
    if change == "rounded":
        cells = [line.split(",") for line in lines]
        lines = [",".join([cell[0], f"{float(cell[1]):.10g}", *cell[2:]]) for cell in cells]
    lines = lines[:-1] if change == "cut" else [*lines[:-1], "1,22,100000,9"] if change == "other" else lines
    path.write_text("\n".join([header, *lines, ""]))
    log.tell_of_other_episodes([(number, 100_000) for number in returns[-100:]])
    log.close()
    assert ("does not end with" in capsys.readouterr().err) == is_told


def test_each_file_that_takes_the_place_of_a_log_is_kept(tmp_path):
    """Bug: the second one replaced the first."""
    log = logger.Logger(tmp_path, {}, None)
    for text in ("one", "two"):
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").rename(tmp_path / "metrics.jsonl")
        log.sync()
    log.close()
    assert {path.read_text() for path in tmp_path.glob("metrics.jsonl.replaced*")} == {"one", "two"}
