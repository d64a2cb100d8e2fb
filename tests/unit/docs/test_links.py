"""What code and pages refer to exists: files, sections, numbered rules, anchors, modules."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^(#{1,6}) +(.+)$", re.MULTILINE)
_STEP = re.compile(r"^\d+\. +\*\*([^*]+?)\.?\*\*", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PAGE = re.compile(r"(?<![\w./-])docs/[\w/-]+\.md\b")
_CITATION = re.compile(r"(?<![\w./-])(docs/[\w/-]+\.md), ([A-Z][^\"`.;:()|]*)")
_CONTINUATION = re.compile(r"\n[ \t]*(?:#|//|\*(?!/))?[ \t]*")
_MODULE = re.compile(r"`([a-z]+)/([\w/]+\.py)`")
_BINARY = frozenset({".png", ".jpg", ".gz", ".lock", ".sum"})


def _files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=30,
    ).stdout.decode()
    paths = (ROOT / name for name in listed.split("\0") if name)
    return [p for p in paths if p.is_file() and p.suffix not in _BINARY and p != Path(__file__)]


def _text(path: Path) -> str:
    return path.read_text(errors="replace")


def sections(page: str) -> dict[str, str]:
    """Heading → text up to the next heading of the same or a higher level."""
    plain = _FENCE.sub("", page)
    found = list(_HEADING.finditer(plain))
    result = {}
    for index, match in enumerate(found):
        level = len(match[1])
        end = next((m.start() for m in found[index + 1 :] if len(m[1]) <= level), len(plain))
        result[match[2].strip()] = plain[match.end() : end]
    return result


def slug(heading: str) -> str:
    """The anchor that forges give to a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


def citation_problem(page: str, cited: str) -> str | None:
    """Why `page` does not have `cited`: a heading or its first words, then perhaps a rule's
    number; or the bold word that begins a step."""
    words = re.sub(r"\s+", " ", cited).strip()
    match = re.fullmatch(r"(.*?)(?:,? (\d+))?", words)
    assert match
    name, number = match[1].rstrip(","), match[2]
    for heading, text in sections(page).items():
        if (heading + " ").startswith(name + " "):
            if number and not re.search(rf"^{number}\. ", text, re.MULTILINE):
                return f"section {heading!r} has no item {number}"
            return None
    if not number and name in _STEP.findall(_FENCE.sub("", page)):
        return None
    return f"no section {name!r}"


def test_every_page_that_is_named_exists() -> None:
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in _files()
        for name in _PAGE.findall(_text(path))
        if not (ROOT / name).is_file()
    }
    assert not missing


def test_every_section_that_is_cited_exists() -> None:
    problems = []
    for path in _files():
        text = _CONTINUATION.sub(" ", _text(path))
        for page, cited in _CITATION.findall(text):
            target = ROOT / page
            problem = citation_problem(_text(target), cited) if target.is_file() else "no such page"
            if problem:
                problems.append(f"{path.relative_to(ROOT)}: {page}, {cited.strip()}: {problem}")
    assert not problems


def test_every_relative_link_and_anchor_of_a_page_resolves() -> None:
    problems = []
    for path in _files():
        if path.suffix != ".md":
            continue
        for link in _LINK.findall(_FENCE.sub("", _text(path))):
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = link.partition("#")
            target = (path.parent / name) if name else path
            if not target.exists():
                problems.append(f"{path.relative_to(ROOT)}: {link}")
            elif anchor and anchor not in {slug(h) for h in sections(_text(target))}:
                problems.append(f"{path.relative_to(ROOT)}: {link}: no such heading")
    assert not problems


def test_every_module_that_a_page_names_exists() -> None:
    missing = []
    for path in _files():
        if path.suffix != ".md":
            continue
        for top, rest in _MODULE.findall(_text(path)):
            places = (
                ROOT / top / "src" / "slurmlet" / top / rest,
                ROOT / top / rest,
                path.parent / top / rest,
            )
            if not any(place.is_file() for place in places):
                missing.append(f"{path.relative_to(ROOT)}: {top}/{rest}")
    assert not missing


@pytest.mark.parametrize(
    ("cited", "problem"),
    [
        ("Rules", None),
        ("Rules that keep jobs alive", None),
        ("Rules, 2", None),
        ("Hello", None),
        ("Rules 2", None),
        ("Rules, 3", "section 'Rules that keep jobs alive' has no item 3"),
        ("Rule", "no section 'Rule'"),
        ("Decisions", "no section 'Decisions'"),
    ],
)
def test_a_citation_is_checked_to_the_number(cited: str, problem: str | None) -> None:
    page = "# A\n\n## Rules that keep jobs alive\n\n1. a\n2. **Hello.** b\n\n## Other\n\n3. c\n"
    assert citation_problem(page, cited) == problem


def test_anchors_are_those_of_forges() -> None:
    assert slug("Pod → job") == "pod--job"
    assert slug("Agent ⇄ supervisor") == "agent--supervisor"
    assert slug("What exists today") == "what-exists-today"
