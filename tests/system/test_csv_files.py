"""Tables in CSV to which people add what is theirs."""

import pytest

from rltrain.system import csv_files

ROWS = [["state", "left", "right"], [0, 1.5, -2], [1, "a, b", ""]]
OURS = 'state,left,right\r\n0,1.5,-2\r\n1,"a, b",\r\n'


@pytest.mark.parametrize(
    "before",
    [None, "", OURS, "left,state\n1,2\n", "state\n-0.5\n\n", f"\ufeff{OURS}\r\n", f"state,left\n1,{'x' * 200_000}\n"],
)
def test_a_table_of_ours_is_replaced_in_silence(before, tmp_path, capsys):
    path = tmp_path / "q.csv"
    if before is not None:
        path.write_text(before, encoding="utf-8")
    csv_files.write(path, iter(ROWS))
    assert path.read_bytes().decode() == OURS and capsys.readouterr().err == ""
    assert [each.name for each in tmp_path.iterdir()] == ["q.csv"]


@pytest.mark.parametrize(
    "theirs",
    [
        "state,left,right,comment\n0,1,2,tell Anna\n",
        f"{OURS}# a remark\n",
        f"{OURS}# a remark,,\n",
        "state;left\n",
        "\xff\x00",
        "x" * 200_000,
    ],
)
def test_a_table_with_columns_or_lines_of_the_users_is_kept(theirs, tmp_path, capsys):
    """Bug: a sweep that was continued wrote its table anew, without the column of comments, and nothing said so."""
    path = tmp_path / "q.csv"
    for _ in range(2):
        path.write_bytes(theirs.encode("latin-1"))
        csv_files.write(path, ROWS)
        assert path.read_bytes().decode() == OURS
        assert capsys.readouterr().err.count("q.csv had columns or lines of yours: it is now q.csv.replaced") == 1
    kept = sorted(path for path in tmp_path.iterdir() if path.name != "q.csv")
    assert [each.name for each in kept] == ["q.csv.replaced", "q.csv.replaced-2"]
    assert {each.read_bytes().decode("latin-1") for each in kept} == {theirs}


def test_a_link_is_replaced_and_not_read(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "q.csv").symlink_to(tmp_path / "mine")
    csv_files.write(tmp_path / "q.csv", ROWS)
    assert (tmp_path / "mine").read_text() == "mine" and not (tmp_path / "q.csv").is_symlink()
