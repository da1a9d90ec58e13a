import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PAPERS = README[README.index("## From the papers") : README.index("## What it reaches")]
PLACES = [
    (file, name)
    for file, names in re.findall(r"`([\w/]+\.py)`(?:: ((?:`\w+`(?:, )?)+))?", PAPERS)
    for name in re.findall(r"\w+", names) or [None]
]


@pytest.mark.parametrize(("file", "name"), PLACES)
def test_a_formula_of_the_papers_stands_where_the_table_says(file, name):
    tree = ast.parse((ROOT / "src/earmark" / file).read_text())
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert name is None or name in defined


def test_every_wing_is_told_and_the_page_is_short():
    wings = {path.name for path in (ROOT / "src/earmark").iterdir() if (path / "__init__.py").exists()}
    assert wings == set(re.findall(r"`(\w+)/` \|", README))
    assert len(README.splitlines()) <= 120


def test_every_link_leads_to_a_file():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)|src=\"([^\"]+)\"", page.read_text()):
            assert (page.parent / "".join(target)).exists(), (page.name, target)
