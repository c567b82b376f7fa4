"""What README and docs point at is there: files, headings, keys, a curve for each algorithm."""

import dataclasses
import re
from pathlib import Path

import pytest

from rltrain.config.algorithms import ALGOS, base_name
from rltrain.config.environments import ENVIRONMENTS
from rltrain.config.network import NetworkConfig

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]
ALGORITHMS = sorted({base_name(name) for name in ALGOS})
PARTS = (
    "## What is the idea?",
    "## How do I run it?",
    "```bash\nrltrain algo=",
    "## Where is each equation in the code?",
    "| term | where |",
    "(img/",
    "## Why is it not learning?",
)


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


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page):
    for path, anchor in links(page):
        assert path.exists(), f"{page.name} links to {path}"
        assert not anchor or anchor in anchors(path), f"{page.name} links to a heading #{anchor} of {path.name}"


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_page_of_an_algorithm_has_all_its_parts(algo):
    text = (ROOT / "docs" / f"{algo}.md").read_text()
    for part in PARTS:
        assert part in text, part


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_keys_that_are_named_exist(page):
    schemas = {
        "algo": ALGOS.values(),
        "env": ENVIRONMENTS.values(),
        "network": [NetworkConfig],
    }
    known = {
        f"{group}.{field.name}" for group, of in schemas.items() for one in of for field in dataclasses.fields(one)
    }
    for key in re.findall(r"(?<![\w./])((?:algo|env|network)\.(?!py\b)[a-z]\w*)(?=[=` ,;:)])", page.read_text()):
        assert key in known, f"{page.name} names {key}"
