"""The suites of CONTRIBUTING.md."""

from pathlib import Path

HERE = Path(__file__).parent


def test_every_long_test_exists():
    """Bug: a test that was renamed comes back to the quick suite without notice."""
    lines = (HERE / "long.txt").read_text().splitlines()
    assert len(lines) > 100 and lines == sorted(lines)
    for line in lines:
        name, _, test = line.partition("[")[0].partition("::")
        assert f"\ndef {test}(" in (HERE / name).read_text(), line
