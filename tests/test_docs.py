"""What README and docs point at is there: files, headings, names in the code, keys, a curve for each algorithm."""

import ast
import dataclasses
import re
from pathlib import Path

import pytest

from rltrain import config
from rltrain.envs import registry

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ALGORITHMS = sorted({schema.__module__.split(".")[-1].removesuffix("_config") for schema in config.ALGOS.values()})


def links(page: Path) -> list[tuple[Path, str]]:
    """The files that a page links to, and the heading where one is named; pictures too."""
    found = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    local = [link for link in found if not re.match(r"[a-z]+:", link)]
    return [
        (page.parent / path if path else page, anchor) for path, _, anchor in (link.partition("#") for link in local)
    ]


def anchors(page: Path) -> set[str]:
    """Headings as links name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def names(path: Path) -> set[str]:
    """Functions, classes, methods as `Class.method`, and what is assigned."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            members = [member for member in node.body if isinstance(member, ast.FunctionDef)]
            found |= {node.name, *(f"{node.name}.{member.name}" for member in members)}
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
    return found


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_lead_somewhere(page):
    for path, anchor in links(page):
        assert path.exists(), f"{page.name} links to {path}"
        assert not anchor or anchor in anchors(path), f"{page.name} links to a heading #{anchor} of {path.name}"


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_page_of_an_algorithm_tells_all_of_it_and_names_what_is_in_the_code(algo):
    """Bug: a method gets another name, and the page goes on naming the old one."""
    page = ROOT / "docs" / f"{algo}.md"
    text = page.read_text()
    for part in ("## The idea", "```bash\nrltrain algo=", "| term | where |", "(img/", "## What usually goes wrong"):
        assert part in text, part
    files = {path.resolve() for path, _ in links(page) if path.suffix == ".py"}
    known = set().union(*(names(path) for path in files), names(ROOT / "rltrain" / "walk.py"))
    rows = re.findall(r"^\| .+ \| (.+) \|$", text, re.MULTILINE)
    cited = {name for row in rows for name in re.findall(r"`([A-Za-z_][\w.]*)`", row)}
    assert cited, "no row names anything"
    assert not cited - known - {field.name for field in dataclasses.fields(config.ALGOS[algo])}


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_keys_that_are_named_exist(page):
    schemas = {
        "algo": config.ALGOS.values(),
        "env": [family.config for family in registry.FAMILIES.values()],
        "network": [config.NetworkConfig],
    }
    known = {
        f"{group}.{field.name}" for group, of in schemas.items() for one in of for field in dataclasses.fields(one)
    }
    for key in re.findall(r"(?<![\w./])((?:algo|env|network)\.[a-z]\w*)(?=[=` ,;:)])", page.read_text()):
        assert key in known, f"{page.name} names {key}"
