"""Whatever code derives tables is in the digest by which a run knows that they must be rebuilt."""

from __future__ import annotations

from pathlib import Path

import pytest

from waymark.pipeline import code


def test_any_changed_or_moved_file_of_identity_changes_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (code.IDENTITY / "linkage" / "scoring.py").is_file()
    monkeypatch.setattr(code, "IDENTITY", tmp_path)
    monkeypatch.setattr(code, "shipped_files", list)
    (tmp_path / "linkage").mkdir()
    (tmp_path / "resolve.py").write_text("1")
    found = [code.code_digest()]
    for name, text in (("linkage/scoring.py", "1"), ("linkage/scoring.py", "2")):
        (tmp_path / name).write_text(text)
        found.append(code.code_digest())
    (tmp_path / "linkage" / "scoring.py").rename(tmp_path / "scoring.py")
    found.append(code.code_digest())
    assert len(set(found)) == len(found)
