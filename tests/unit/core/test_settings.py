from __future__ import annotations

from pathlib import Path

import pytest

from waymark.core.errors import SettingsError
from waymark.core.settings import OPERATOR_SOURCE, load_project

GOOD = "name: shop\nsources:\n  shop: {mapping: shop.yml, files: ['data/*.csv']}\n"


def _project(folder: Path, text: str) -> Path:
    (folder / "waymark.yml").write_text(text)
    return folder


def test_a_minimal_project_gets_the_defaults(tmp_path: Path) -> None:
    project = load_project(_project(tmp_path, GOOD))
    assert project.settings.time.session_gap_minutes == 30
    assert project.home.root == tmp_path.resolve() / ".waymark"
    assert project.file_globs("shop") == [str(tmp_path.resolve() / "data" / "*.csv")]


def test_the_home_can_be_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAYMARK_HOME", str(tmp_path / "elsewhere"))
    assert load_project(_project(tmp_path, GOOD)).home.root == (tmp_path / "elsewhere").resolve()


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("name: [", "", "not readable as YAML"),
        ("- a list\n", "", "no settings"),
        ("name: shop\n", "sources", "Field required"),
        (GOOD + "unheard_of: 1\n", "unheard_of", "Extra inputs"),
        (GOOD + "time: {session_gap_minutes: 0}\n", "time.session_gap_minutes", "greater than or equal to 1"),
        (GOOD + "time: {reporting_timezone: Mars/Olympus}\n", "time.reporting_timezone", "unknown time zone"),
        (GOOD + "time: {session_gap_minutes: 1440, journey_timeout_days: 1}\n", "", "outlast its journey"),
        (GOOD + "money: {reporting_currency: usd}\n", "money.reporting_currency", "pattern"),
        (GOOD + "channels: [{channel: x, field: utm_source, pattern: '('}]\n", "channels.0.pattern", "not a regular expression"),
        (GOOD + "goals: [{name: a, event_types: [x]}, {name: a, event_types: [y]}]\n", "", "declared twice: a"),
        (GOOD + "retention_without_consent: {analytic: 30 days}\n", "retention_without_consent.analytic", "is no scope"),
        (GOOD + "retention_without_consent: {analytics: 30 weeks}\n", "retention_without_consent.analytics.*", "days"),
        (GOOD + "retention_without_consent: {analytics: 30}\n", "retention_without_consent.analytics.*", "valid string"),
        ("name: shop\nsources:\n  Bad-Name: {mapping: a.yml, files: [b]}\n", "", "is not a name"),
        (GOOD + "consent: {when_absent: {profiling: {E.U.: denied}}, jurisdictions: {EU: [DE]}}\n", "consent", "names 'E.U.', which"),
        (GOOD + "consent: {when_absent: {email: {DE: denied}}, jurisdictions: {EU: [DE]}}\n", "consent", "declare it there"),
        (GOOD + "consent: {jurisdictions: {EU: [DE], ' eu': [FR]}}\n", "consent", "more than case and blanks"),
    ],
)
def test_a_bad_setting_is_named_with_its_file_and_a_remedy(tmp_path: Path, text: str, field: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_project(_project(tmp_path, text))
    message = str(caught.value)
    assert "waymark.yml" in message and field in message and words in message
    assert caught.value.remedy


def test_a_jurisdiction_may_be_declared_without_countries(tmp_path: Path) -> None:
    text = GOOD + "consent: {when_absent: {sms: {US-CA: granted, default: denied}}, jurisdictions: {US-CA: []}}\n"
    assert load_project(_project(tmp_path, text)).settings.consent.denials() == {"sms": {"US-CA": False, "default": True}}


def test_retention_is_in_days_by_type_and_by_scope(tmp_path: Path) -> None:
    rules = "retention: {page_viewed: 400 days}\nretention_without_consent: {analytics: 30 days, email: {page_viewed: 9 days}}\n"
    settings = load_project(_project(tmp_path, GOOD + rules)).settings
    assert settings.retention_days == {"page_viewed": 400}
    assert settings.retention_days_without_consent == {"analytics": {"*": 30}, "email": {"page_viewed": 9}}
    by_scope = {"analytics": {"*": "30 days"}, "email": {"page_viewed": "9 days"}}
    assert settings.retention_as_published == {"page_viewed": "400 days", "without_consent": by_scope}
    assert load_project(_project(tmp_path, GOOD)).settings.retention_as_published == {}


def test_countries_tell_places_only_where_absence_differs_between_them(tmp_path: Path) -> None:
    places = "jurisdictions: {EU: [DE, FR], US: [US]}"
    listed = {"DE": "EU", "FR": "EU", "US": "US"}
    for absent, told in (
        ("granted", {}), ("denied", {}), ("{email: {EU: denied}}", listed), ("{email: {US: granted, default: denied}}", listed | {"default": "default"}),
    ):  # fmt: skip
        assert load_project(_project(tmp_path, f"{GOOD}consent: {{when_absent: {absent}, {places}}}\n")).settings.consent.telling_places() == told


def test_a_folder_without_a_project_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="waymark init"):
        load_project(tmp_path)


def test_only_settings_that_bind_tables_change_the_refresh_digest(tmp_path: Path) -> None:
    base = load_project(_project(tmp_path, GOOD)).refresh_digest
    assert load_project(_project(tmp_path, GOOD + "engine: {threads: 1, memory_limit: 1GB}\n")).refresh_digest == base
    assert load_project(_project(tmp_path, GOOD + "time: {max_future_skew_days: 9}\n")).refresh_digest == base
    assert load_project(_project(tmp_path, GOOD + "time: {session_gap_minutes: 31}\n")).refresh_digest != base
    assert load_project(_project(tmp_path, GOOD + "goals: [{name: lead, event_types: [form_sent]}]\n")).refresh_digest != base


def test_another_rate_table_changes_the_refresh_digest(tmp_path: Path) -> None:
    folder = _project(tmp_path, GOOD + "money: {rates: rates.csv}\n")
    (folder / "rates.csv").write_text("valid_from,currency,rate\n2026-01-01,EUR,1.1\n")
    before = load_project(folder).refresh_digest
    (folder / "rates.csv").write_text("valid_from,currency,rate\n2026-01-01,EUR,1.2\n")
    assert load_project(folder).refresh_digest != before


def test_words_that_the_lake_holds_are_a_source_whatever_became_of_their_files(tmp_path: Path) -> None:
    project = load_project(_project(tmp_path, GOOD))
    assert OPERATOR_SOURCE not in project.settings.sources
    (project.home.raw_lake / f"{OPERATOR_SOURCE}_events").mkdir(parents=True)
    assert OPERATOR_SOURCE in load_project(tmp_path).settings.sources
