"""The pages of the algorithms name what there is: every name in a table that says where a term is found."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = {path.relative_to(ROOT / "rltrain"): path.read_text() for path in (ROOT / "rltrain").rglob("*.py")}
PAGES = [page for page in sorted((ROOT / "docs").glob("*.md")) if "| term | where |" in page.read_text()]


def named(page: Path) -> list[str]:
    """Names in backquotes in the second column of the page's table, as far as they are names of Python."""
    rows = re.findall(r"^\| (?!term)[^|]+ \| (.+) \|$", page.read_text().split("| term | where |")[1], re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([A-Za-z_][\w.]*)`", row)]


def defined(name: str, source: str) -> bool:
    """Whether a class, a function or a variable is defined under this name."""
    patterns = rf"(class|def) {name}\b", rf"for {name} in ", rf"{name}(: [^=]+)? = "
    return any(re.search(rf"^\s*{pattern}", source, re.MULTILINE) for pattern in patterns)


def test_every_algorithm_has_a_page_with_a_table():
    algorithms = {path.stem for path in ROOT.glob("rltrain/algos/*.py")} - {"__init__", "registry"}
    assert algorithms and {page.stem for page in PAGES} >= algorithms


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_names_is_there(page):
    names = named(page)
    own = SOURCE[Path("algos", f"{page.stem}.py")]
    assert names
    for name in names:
        owner, _, member = name.rpartition(".")
        if owner:
            assert defined(owner, own) and defined(member, own), f"{name} is not there"
        else:
            assert any(defined(name, source) for source in SOURCE.values()), f"{name} is nowhere"
