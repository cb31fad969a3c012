"""Docstrings and pages are plain English, as far as a program can see."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import skdeeptd

ROOT = Path(__file__).parents[1]
PRIVATE_WORDS = re.compile(
    r"\b(planted|un?told|told|tells?|stands?(?! for)|in haste|twentieths?|in use|"
    r"a choice|hand(ed|s)? in)\b",
    re.IGNORECASE,
)
PRIVATE_NAMES = re.compile(
    r"tell|telling|told|untold|told_of|explaining|forgetting|forget|in_haste|"
    r"Ground|SharedGround|ground_of|of_weight|_?Known|Predicted|Documented|pilot|"
    r"silent|_take_in|_extend|in_stage|_in_race|_weigh|_keep|_fitted|_mixtures|"
    r"stacked|_trust|serves|may_promise_more|which_outliers_rule|ruled_by_outliers|"
    r"out_of_budget|_around|moves|exchange|Everything|moved_by|owners|behind_steps|"
    r"described|_Keeper|_Apart|OF_CHOICE|OF_CLIENT|OF_ONE_UNIT|READ_X"
)
NO_FIRST_WORDS = {"Of", "What", "Where", "That", "How", "Whether", "If", "When", "It"}
NO_PROSE = re.compile(  # blocks whose first line is like this, or a doctest or table
    r"\.\. (code|plot|math|image|figure|autosummary|toctree|include|\[|_|currentm)|"
    r">>>|[|<+={]"
)
HEADER = re.compile(r"[\w*., ]+ : |:|\.\. |(.)\1*$")  # parameter, option, heading
ITEM = re.compile(r"([-*]|\d+\.) +")


def paragraphs(text):
    """Yield the paragraphs of a text, without code, tables, formulas and references."""
    text = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    code_indent = None
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        indent, first = len(block) - len(block.lstrip(" ")), block.strip()
        if code_indent is None or indent <= code_indent:
            is_code = NO_PROSE.match(first)
            code_indent = indent if is_code or first.endswith("::") else None
            if not is_code:
                yield from parts_of_block(block)


def parts_of_block(block):
    """Yield list items, and neighbouring lines of the same indent."""
    lines, indent = [], None
    for line in block.partition(">>>")[0].splitlines():
        text, start = line.strip(), len(line) - len(line.lstrip())
        item = ITEM.match(text)
        if item or start != indent or HEADER.match(text):
            yield " ".join(lines)
            lines = []
        indent = start + item.end() if item else start
        if not HEADER.match(text):
            lines.append(text[item.end() :] if item else text)
    yield " ".join(lines)


def sentences(text):
    for paragraph in paragraphs(text):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", paragraph)
        plain = re.sub(r"(:[\w:]+:)?``?[^`]+``?_*|https?:\S+", "code", plain)
        yield from filter(None, re.split(r"(?<=[.?!])\s+", plain))


def faults(text):
    """Return the sentences of a text that are hard to read, each with the reason."""
    found = []
    for sentence in sentences(text):
        words = sentence.split()
        if len(words) > 35:
            found.append((f"{len(words)} words", sentence))
        if words.count("which") > 1:
            found.append(("'which' twice", sentence))
        if re.match(r"(Of|Where|What)\b.*[.:]$", sentence):
            found.append((f"begins with {words[0]}", sentence))
        found += [(match[0], sentence) for match in PRIVATE_WORDS.finditer(sentence)]
    return found


def pages():
    names = "README.md", "CONTRIBUTING.md", "docs/*.md", "docs/*.rst", "examples/*.rst"
    for path in sorted(p for name in names for p in ROOT.glob(name)):
        text = path.read_text()
        if path.suffix == ".md":
            text = re.sub(r"^    .*$", "", text, flags=re.MULTILINE)  # code
        yield pytest.param(text, id=str(path.relative_to(ROOT)))
    releases = (ROOT / "CHANGELOG.md").read_text().split("\n## ")
    yield pytest.param(releases[1], id="CHANGELOG.md")
    for path in sorted((ROOT / "examples").glob("*.py")):
        code = path.read_text()
        comments = re.sub(r"^(# ?|\w.*|\W$)", "", code.partition("# %%")[2], flags=re.M)
        text = f"{ast.get_docstring(ast.parse(code))}\n\n{comments}"
        yield pytest.param(text, id=str(path.relative_to(ROOT)))


@pytest.mark.parametrize("text", list(pages()))
def test_pages_are_plain(text):
    assert not faults(text)


def modules():
    for path in sorted((ROOT / "skdeeptd").rglob("*.py")):
        yield pytest.param(ast.parse(path.read_text()), id=str(path.relative_to(ROOT)))


@pytest.mark.parametrize("tree", list(modules()))
def test_docstrings_are_plain(tree):
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    nodes = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    docs = [doc for doc in map(ast.get_docstring, nodes) if doc]
    assert not [fault for doc in docs for fault in faults(doc)]
    assert not [doc for doc in docs if doc.split()[0] in NO_FIRST_WORDS]


def test_the_docstring_of_the_regressor_is_not_long():
    text = inspect.getdoc(skdeeptd.DeepTDRegressor)
    assert sum(len(sentence.split()) for sentence in sentences(text)) <= 750


@pytest.mark.parametrize("tree", list(modules()))
def test_names_are_standard(tree):
    fields = "id", "name", "attr", "arg"
    names = {getattr(node, field, None) for node in ast.walk(tree) for field in fields}
    assert not [name for name in names if name and PRIVATE_NAMES.fullmatch(name)]
