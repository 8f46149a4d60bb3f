"""The pages for people: links that lead somewhere, commands and options that exist, settings that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from waymark.cli.reference import command_lines, pages
from waymark.core.settings_fields import setting_groups

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
# A command ends where its line, its backtick or its pipe does; what stands in quotes is SQL or a file name.
COMMAND = re.compile(r"(?<![\w/-])waymark ((?:[a-z]+)(?: [^`\n|;]*)?)")
QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")


def _commands(text: str) -> list[str]:
    fenced = "".join(re.findall(r"^```[a-z]*\n(.*?)^```", text, flags=re.M | re.S))
    inline = "\n".join(re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)))
    cleaned = QUOTED.sub("Q", fenced + "\n" + inline)
    return [re.split(r"\s{2,}#|\s#\s|[),]", found)[0].strip() for found in COMMAND.findall(cleaned)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_that_a_page_names_exists(page: Path) -> None:
    known = {command.name: {option for names, _, _ in command.options for option in re.findall(r"`(-[\w-]+)`", names)} for command in command_lines()}
    known["reference"], groups = set(), {name.split(" ")[0] for name in known if " " in name}
    for typed in _commands(page.read_text(encoding="utf-8")):
        words = typed.split()
        name = " ".join(words[:2]) if words[0] in groups and len(words) > 1 and words[1] in {"list", "show", "replay", "verify"} else words[0]
        if words[0] in groups and name == words[0]:
            continue  # the group by itself
        assert name in known, f"{page.name}: waymark {typed}"
        assert {word for word in words if word.startswith("-")} <= known[name] | {"--help"}, f"{page.name}: waymark {typed}"


@pytest.mark.parametrize("page", [*PAGES, *sorted((REPOSITORY / "docs" / "reference").glob("*.md"))], ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if "://" not in target and not (page.parent / target).exists()] == []


def test_the_readme_leads_to_every_page() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    missing = [page.name for page in PAGES[1:] if f"docs/{page.name}" not in text] + [name for name in pages() if f"docs/reference/{name}" not in text]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_that_a_page_names_exists(page: Path) -> None:
    known = {field.path for group in setting_groups() for field in group.fields}
    groups = {group.name for group in setting_groups() if group.name}
    named = {name for name in re.findall(r"`([a-z_]+\.[a-z_]+)`", page.read_text(encoding="utf-8")) if name.split(".")[0] in groups - {"identity", "quality"}}
    assert named - known - {"sources.md"} == set()


def test_what_does_not_exist_is_seen() -> None:
    assert _commands('`waymark nix --odd` and\n```\nwaymark sql --project x "select -1"   # said\n```\n') == ["sql --project x Q", "nix --odd"]
