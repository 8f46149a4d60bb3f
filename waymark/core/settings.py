"""One typed `waymark.yml`, and the only reader of the environment.

A project is a folder with a `waymark.yml`; `load_project` reads it and refuses what cannot work, with the file, the field and the remedy.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
from collections.abc import Mapping
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from waymark.core.errors import SettingsError
from waymark.core.home import Home
from waymark.core.people_settings import NAME_PATTERN, AccessSettings, ConsentSettings
from waymark.core.people_settings import Strict as _Strict

PROJECT_FILE = "waymark.yml"
STAGES = ("awareness", "consideration", "intent", "purchase", "post_sale")
Stage = Literal["awareness", "consideration", "intent", "purchase", "post_sale"]
# Settings, and groups of them, whose change alters tables already built. Settings.refresh_digest is of these; a test tries each setting there is.
FULL_REFRESH = frozenset({
    "time.reporting_timezone", "time.session_gap_minutes", "time.journey_timeout_days", "counting", "identity", "money", "learning.horizon_days", "consent",
    "goals", "stages", "micro_conversions", "channels",
})  # fmt: skip
# A source that a project has without naming it, once an operator has said something about who is who: `waymark identity split|merge` write its files.
OPERATOR_SOURCE = "waymark_operator"
_OPERATOR_MAPPING = Path(__file__).resolve().parents[1] / "ingestion" / "builtin" / f"{OPERATOR_SOURCE}.yml"
VARIABLES = {
    "WAYMARK_HOME": "the home: where everything that a run makes is kept; default: `.waymark` in the project folder",
    "WAYMARK_SECRET": "the secret under which e-mail, phone and other identifiers are hashed; default: one that is made once and kept in the home",
    "WAYMARK_PROJECT": "the project folder that Dagster's code location serves; `waymark` sets it by itself",
    "WAYMARK_SERVICES": "marks what `waymark dev` started, so that it is found again; `waymark` sets it by itself",
}
Period = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,4} days$")]
EVERY_TYPE = "*"  # of events; a period alone is one for them all
Periods = Annotated[dict[str, Period], BeforeValidator(lambda rule: rule if isinstance(rule, dict) else {EVERY_TYPE: rule})]


class SourceEntry(_Strict):
    """A source of the project: its mapping and where its files are."""

    mapping: Path = Field(description="the source's mapping (docs/sources.md), relative to the project folder")
    files: list[str] = Field(min_length=1, description="globs, relative to the project folder; {landing} is the source's folder in the home")


class TimeSettings(_Strict):
    """Where days, sessions and journeys end."""

    reporting_timezone: str = Field("UTC", description="day boundaries of daily tables, an IANA name")
    session_gap_minutes: int = Field(30, ge=1, le=24 * 60, description="a session ends by a gap greater than this")
    journey_timeout_days: int = Field(30, ge=1, le=3650, description="without a touch for this long, a journey has lapsed")
    max_future_skew_days: int = Field(2, ge=0, le=3650, description="an event further beyond its file's median day is quarantined")

    @field_validator("reporting_timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"unknown time zone '{value}'; use an IANA name such as Europe/Zurich") from error
        return value


class CountingSettings(_Strict):
    """What counts toward sessions and journeys."""

    exclude_bots: bool = Field(True, description="crawlers stay in fct_events, out of sessions, journeys and identity")
    exclude_internal: bool = Field(True, description="staff likewise")
    bot_user_agents: list[str] = Field(default_factory=list, description="further substrings that mark a crawler, lower case")


class IdentityThresholds(_Strict):
    """How sure an estimated link must be for each use: a probability, 0.5 to 1. Other links are not asked."""

    analysis: float = Field(0.95, ge=0.5, le=1, description="a probable link of less joins nobody")
    scoring: float = Field(0.95, ge=0.5, le=1, description="an identifier that needs an estimated link of less counts for no feature and no score")
    sending: float = Field(0.99, ge=0.5, le=1, description="an identifier that needs an estimated link of less is not written to in its customer's name")

    @model_validator(mode="after")
    def _in_order(self) -> IdentityThresholds:
        if not self.analysis <= self.scoring <= self.sending:
            raise ValueError("thresholds must not fall from analysis over scoring to sending: what is sent to must be sure enough to be analysed")
        return self


class IdentitySettings(_Strict):
    """Who is linked to whom."""

    max_neighbours: int = Field(20, ge=1, description="an identifier linked to more than this many others merges nobody")
    one_account: bool = Field(
        True, description="two accounts of one source are one person's by an operator's word or an estimated link alone; false: also by what they share"
    )
    thresholds: IdentityThresholds = Field(
        IdentityThresholds(), description="how sure an estimated link must be, 0.5 to 1: for `analysis` (one of less joins nobody), for `scoring` (an "
        "identifier that needs an estimated link of less counts for no feature and no score), for `sending` (likewise: it is not written to in its "
        "customer's name). Other links are not asked",
    )  # fmt: skip


class MoneySettings(_Strict):
    """In which currency values are reported, and by which rates."""

    reporting_currency: str = Field("USD", pattern="^[A-Z]{3}$", description="currency of value_reporting, ISO 4217")
    rates: Path | None = Field(None, description="CSV: valid_from, currency, rate (one unit in reporting_currency)")


class IngestionSettings(_Strict):
    """How files are taken in; they bind files that come after."""

    max_field_bytes: int = Field(1_000_000, ge=1_000, description="a longer field sends its row to quarantine")
    quarantine_days: int = Field(90, ge=1, description="refused rows are kept this long")
    lock_timeout_seconds: int = Field(600, ge=0, description="how long a second run waits for the first")


class EngineSettings(_Strict):
    """What DuckDB may use; results do not depend on it."""

    threads: int | None = Field(None, ge=1, description="default: all cores")
    memory_limit: str = Field("4GB", pattern=r"^\d+(\.\d+)?\s?(MB|GB|MiB|GiB)$", description="what DuckDB keeps in memory; beyond it, it spills to disk")

    @property
    def memory_bytes(self) -> int:
        """memory_limit in bytes."""
        units = {"MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}
        unit = self.memory_limit.lstrip("0123456789. ")
        return int(float(self.memory_limit.removesuffix(unit)) * units[unit])


class LearningSettings(_Strict):
    """What is predicted, and when a model is trained; all but horizon_days bind the next training."""

    horizon_days: int = Field(7, ge=1, le=90, description="a label says whether somebody converts within so many days")
    maturity_days: int = Field(0, ge=0, le=90, description="labels of the last so many days are left out, for sources whose events arrive late")
    min_positives: int = Field(200, ge=20, description="a split with fewer converting rows trains nothing")
    max_training_rows: int = Field(60_000, ge=1_000, description="of larger splits a sample of customers is kept")
    retrain_after_days: int = Field(7, ge=1, description="a champion older than this, in days of data, is challenged")
    seed: int = Field(7, description="equal seeds and rows give equal models")


class QualitySettings(_Strict):
    """Thresholds of the checks. A factor or share that is too small alarms on ordinary weeks."""

    max_value: float = Field(1_000_000, gt=0, description="an event worth more, in its currency, is a fault")
    volume_factor: float = Field(3.0, gt=1, description="the last week's, or the last day's, events over, or under, the median of those before it")
    least_weekly_events: int = Field(200, ge=10, description="with fewer events a week, or on a weekday, there is not enough history to judge their volume")
    max_category_shift: float = Field(0.25, gt=0, description="population stability index between the latest point and the eight weeks before it")
    max_null_rate_shift: float = Field(0.25, gt=0, le=1, description="change of a feature's share of undefined values, likewise")
    history_days: int = Field(365, ge=1, description="check results are kept this long")


class OrchestrationSettings(_Strict):
    """No full refresh: when runs start by themselves, and who is told of one that failed. Dagster reads them when it starts."""

    run_schedules: bool = Field(False, description="true starts the schedules with Dagster; else they are started by hand in its UI")
    watch_files: bool = Field(False, description="true starts the sensor of the landing files with Dagster; else it is started by hand in its UI")
    refresh_cron: str = Field("0 * * * *", description="when the schedule `hourly_refresh` takes in new files, UTC")
    audit_cron: str = Field("0 4 * * 0", description="when the schedule `weekly_full_audit` checks whole tables, UTC")
    sensor_seconds: int = Field(60, ge=5, description="how often the sensor looks for new files")
    freshness_hours: int = Field(26, ge=1, description="a snapshot older than this is shown as overdue")
    max_retries: int = Field(2, ge=0, le=10, description="how often a step is repeated that failed by a fault of the disk; what data or settings cause is not")
    retry_seconds: int = Field(30, ge=0, description="the wait before the first repetition; doubled each time")
    webhook_url: str | None = Field(None, pattern="^https?://", description="where a failed run is told by a JSON POST; no log ever shows it")
    webhook_timeout_seconds: int = Field(5, ge=1, le=60, description="how long the webhook may take to answer")
    first_day: date | None = Field(None, description="the first day that can be re-stated by itself; default: the data's first day")

    @field_validator("refresh_cron", "audit_cron")
    @classmethod
    def _five_fields(cls, value: str) -> str:
        if len(value.split()) != 5 or not re.fullmatch(r"[\d\w*/,\- ]+", value):
            raise ValueError(f"'{value}' is not a schedule: minute, hour, day, month, weekday, such as 0 * * * *")
        return value


class Goal(_Strict):
    """A conversion goal: a journey leads to one of its events."""

    name: str = Field(description="lower-case letters, digits and _; stands in the column goal")
    event_types: list[str] = Field(min_length=1, description="events that reach it")

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not NAME_PATTERN.match(value):
            raise ValueError(f"'{value}' is not a name: lower-case letters, digits and _ only")
        return value


class StageRule(_Strict):
    """Events of these types put the journey in this stage. The first rule that matches wins."""

    stage: Stage = Field(description="the stage that they mean")
    event_types: list[str] = Field(min_length=1, description="events of this stage")


class MicroConversion(_Strict):
    """A step on the way that is worth counting."""

    name: str = Field(description="stands in the column micro_conversion")
    event_types: list[str] = Field(min_length=1, description="events that are one")


class ChannelRule(_Strict):
    """One's own channel, tried before GA4's default definitions: a regular expression (RE2) over one field, ignoring case."""

    channel: str = Field(description="the channel's name")
    field: Literal["utm_source", "utm_medium", "utm_campaign", "referrer_host", "click_id_type", "source_channel", "source"] = Field(
        description="what the pattern is tried on"
    )
    pattern: str = Field(description="what is found anywhere in the field")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"'{value}' is not a regular expression: {error}") from error
        return value


class Settings(_Strict):
    """The whole of `waymark.yml`. Each threshold stands here once; dbt gets them as vars. FULL_REFRESH names those that bind tables already built."""

    name: str = Field(description="the project's name")
    demo: bool = Field(False, description="true only in the shipped demo: uses the fixed public secret")
    sources: dict[str, SourceEntry] = Field(min_length=1, description="by name: lower-case letters, digits and _")
    time: TimeSettings = TimeSettings()
    counting: CountingSettings = CountingSettings()
    identity: IdentitySettings = IdentitySettings()
    consent: ConsentSettings = ConsentSettings()
    money: MoneySettings = MoneySettings()
    ingestion: IngestionSettings = IngestionSettings()
    engine: EngineSettings = EngineSettings()
    learning: LearningSettings = LearningSettings()
    quality: QualitySettings = QualitySettings()
    orchestration: OrchestrationSettings = OrchestrationSettings()
    access: AccessSettings = AccessSettings()
    retention: dict[str, Period] = Field(
        default_factory=dict, description="by event type, how long its events are kept, such as `400 days`; other types stay (docs/retention.md)",
    )  # fmt: skip
    retention_without_consent: dict[str, Periods] = Field(
        default_factory=dict, description="by scope, how long events of a person who does not grant it are kept, such as `30 days`; or so by event type",
    )  # fmt: skip
    goals: list[Goal] = Field(
        default_factory=lambda: [Goal(name="purchase", event_types=["order_completed"])], min_length=1,
        description="what a journey leads to",
    )  # fmt: skip
    stages: list[StageRule] = Field(
        default_factory=list, description="the first rule that names the event's type wins; none: those of dbt/macros/definitions/stage.sql",
    )  # fmt: skip
    micro_conversions: list[MicroConversion] = Field(default_factory=list, description="steps on the way that are worth counting")
    channels: list[ChannelRule] = Field(default_factory=list, description="rules of one's own, tried before GA4's default channel groups")

    @model_validator(mode="after")
    def _good_combinations(self) -> Settings:
        for name in self.sources:
            if not NAME_PATTERN.match(name):
                raise ValueError(f"source '{name}' is not a name: lower-case letters, digits and _ only")
        if OPERATOR_SOURCE in self.sources:
            raise ValueError(f"source '{OPERATOR_SOURCE}' is Waymark's own; give yours another name")
        names = [goal.name for goal in self.goals] + [micro.name for micro in self.micro_conversions]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"declared twice: {', '.join(doubled)}")
        if unknown := sorted(set(self.retention_without_consent) - set(self.consent.all_scopes)):
            raise ValueError(f"retention_without_consent.{unknown[0]} is no scope; known: {', '.join(self.consent.all_scopes)}; others go under consent.scopes")
        if self.time.session_gap_minutes >= self.time.journey_timeout_days * 24 * 60:
            raise ValueError("session_gap_minutes is not under journey_timeout_days: a session would outlast its journey")
        return self

    @property
    def retention_days(self) -> dict[str, int]:
        """By event type, for how many days its events are kept."""
        return {kind: _days(period) for kind, period in self.retention.items()}

    @property
    def retention_as_published(self) -> dict[str, object]:
        """What the events of a snapshot depend on: by event type, and by scope under `without_consent`, where the settings say so."""
        return {**self.retention, **({"without_consent": self.retention_without_consent} if self.retention_without_consent else {})}

    @property
    def retention_days_without_consent(self) -> dict[str, dict[str, int]]:
        """By scope and event type, or EVERY_TYPE, for how many days events of a person who does not grant the scope are kept."""
        return {scope: {kind: _days(period) for kind, period in rules.items()} for scope, rules in self.retention_without_consent.items()}

    def refresh_digest(self, rates_text: str = "") -> str:
        """Digest of the settings whose change needs a full refresh."""
        bound = self.model_dump(mode="json", include={"counting", "identity", "money", "goals", "stages", "micro_conversions", "channels"})
        bound["time"] = self.time.model_dump(exclude={"max_future_skew_days"})
        bound["horizon_days"] = self.learning.horizon_days
        if self.consent != ConsentSettings():  # what is as it always was makes no home rebuild
            bound["consent"] = self.consent.model_dump(mode="json")
        bound["rates_text"] = rates_text
        return hashlib.sha256(json.dumps(bound, sort_keys=True).encode()).hexdigest()[:16]


def _days(period: str) -> int:
    return int(period.split(" ", maxsplit=1)[0])


class Project:
    """A project folder: its settings and its home."""

    def __init__(self, directory: Path, settings: Settings, home: Home) -> None:
        self.directory, self.settings, self.home = directory, settings, home

    def mapping_path(self, source: str) -> Path:
        return (self.directory / self.settings.sources[source].mapping).resolve()

    def file_globs(self, source: str) -> list[str]:
        """The source's globs, absolute. `{landing}` stands for the source's landing folder in the home. Of these two folders no character is a pattern."""
        folder, landing = (glob.escape(str(path)) for path in (self.directory, self.home.landing / source))
        return [os.path.normpath(os.path.join(folder, said.replace("{landing}", landing))) for said in self.settings.sources[source].files]

    @cached_property
    def rates_text(self) -> str:
        if self.settings.money.rates is None:
            return ""
        path = self.directory / self.settings.money.rates
        try:
            return path.read_text(encoding="utf-8")
        except OSError as error:
            raise SettingsError(f"the rate table cannot be read ({error.strerror})", where=str(path), remedy="Mend money.rates in waymark.yml.") from error

    @property
    def refresh_digest(self) -> str:
        return self.settings.refresh_digest(self.rates_text)


def environment() -> Mapping[str, str]:
    """The process's environment; no other module reads it."""
    return os.environ


def set_environment(values: Mapping[str, str]) -> None:
    """Sets variables that libraries read (dbt, Dagster, telemetry switches)."""
    os.environ.update(values)


def quiet_libraries() -> None:
    """Switches off the telemetry of every library that has some, and lets idle threads of OpenMP sleep. Called before they are imported.

    Threads that spin while they wait make training many times slower wherever something else runs on the machine.
    """
    set_environment({
        "OMP_WAIT_POLICY": "PASSIVE",
        "DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true", "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "GX_ANALYTICS_ENABLED": "false", "DAGSTER_DISABLE_TELEMETRY": "true",
        "DAGSTER_EVENT_BATCH_SIZE": "1000",  # events that come together are written together
    })  # fmt: skip


def load_project(directory: Path | str = ".") -> Project:
    """Reads `waymark.yml` of a project folder.

    Raises SettingsError, naming the file, the field and the remedy; StorageError where no home can be in its folder.
    """
    folder = Path(directory).resolve()
    path = folder / PROJECT_FILE
    if not path.is_file():
        raise SettingsError(
            f"no {PROJECT_FILE} here",
            where=str(folder),
            remedy="Make a project: waymark init DIR --source MAPPING.yml --files PATH, or name one with --project.",
        )
    try:
        document: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"not readable as YAML: {error}", where=str(path), remedy="Mend the file; `waymark init` in an empty folder shows one that works."
        ) from error
    if not isinstance(document, dict):
        raise SettingsError("the file holds no settings", where=str(path), remedy="It needs at least: name and sources.")
    try:
        settings = Settings.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        message = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{field}: {message}", where=str(path), remedy=f"Mend {field} in {PROJECT_FILE}.") from error
    home = home_of(folder)
    home.check_path()
    return Project(folder, _with_operator(settings, home), home)


def _with_operator(settings: Settings, home: Home) -> Settings:
    """The settings, with the source of operator's words where there are some: words to take in, or such as the lake holds, whatever became of their files."""
    if not ((home.landing / OPERATOR_SOURCE).is_dir() or (home.raw_lake / f"{OPERATOR_SOURCE}_events").is_dir()):
        return settings
    entry = SourceEntry(mapping=_OPERATOR_MAPPING, files=["{landing}/*.ndjson"])
    return settings.model_copy(update={"sources": {**settings.sources, OPERATOR_SOURCE: entry}})


def home_of(directory: Path) -> Home:
    """The home of a project folder, whether or not its settings can be read: WAYMARK_HOME, else `.waymark/` in it."""
    return Home(Path(environment().get("WAYMARK_HOME") or directory / ".waymark").resolve())
