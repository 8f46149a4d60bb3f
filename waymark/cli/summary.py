"""What a run shows: a line of progress while it works, a summary when it is done."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.text import Text

from waymark.cli.query import print_table
from waymark.core.home import read_json
from waymark.core.quoting import project_option
from waymark.core.settings import Project
from waymark.ingestion import Refusal
from waymark.pipeline.progress import Notice, StageReport
from waymark.pipeline.published import open_published

EXAMPLES = {
    "the customers most likely to convert, and why": (
        "select customer_id, round(score, 3) as score, round(score_low, 3) as low, round(score_high, 3) as high, reasons "
        "from marts.fct_propensity_scores order by score desc, customer_id limit 5"
    ),
    "journeys and revenue by the channel of the first touch": (
        "select first_channel, count(*) as journeys, count(*) filter (where status = 'converted') as converted, sum(conversion_value) as value "
        "from marts.fct_journeys group by all order by value desc nulls last, first_channel"
    ),
    "how many customers reach which stage": (
        "select stage, count(distinct customer_id) as customers from marts.fct_journey_steps group by all order by customers desc, stage"
    ),
    "sessions a day": (
        "select cast(started_at as date) as day, count(*) as sessions, count(distinct customer_id) as customers "
        "from marts.fct_sessions group by all order by day desc limit 7"
    ),
}


class RunView:
    """Listens to a run: shows what is going on, keeps what the stages report."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, markup=False)
        self.stages: list[StageReport] = []
        self.refused: list[str] = []
        self._status = self.console.status("starting")

    def __enter__(self) -> RunView:
        self._status.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._status.__exit__(kind, error, trace)

    def hear(self, news: StageReport | Refusal | Notice | str) -> None:
        if isinstance(news, StageReport):
            self.stages.append(news)
            self.console.print(f"  {news.stage:<28} {news.seconds:6.1f} s   {news.detail}", highlight=False, soft_wrap=True)
        elif isinstance(news, Refusal):
            self.refused.append(str(news))
        elif isinstance(news, Notice):
            self.console.print(f"  note: {news.text}", highlight=False, soft_wrap=True)
        else:
            self._status.update(Text(news))


def print_summary(project: Project, stages: list[StageReport], seconds: float) -> None:
    """Rows and seconds by stage, what was left out and why, and where to look next."""
    with open_published(project.home) as connection:
        counted = connection.execute("""
            select count(*), count(*) filter (where is_bot), count(*) filter (where is_internal), count(*) filter (where is_counted),
                   count(*) filter (where is_counted and customer_id is null)
            from marts.fct_events
        """).fetchall()[0]
        quarantined = connection.execute(
            "select coalesce(sum(rows_quarantined), 0)::bigint, coalesce(sum(rows_duplicate), 0)::bigint from raw.ingestion_log"
        ).fetchall()[0]
        consent = connection.execute("""
            select count(distinct event_id), count(distinct customer_id),
                   (select count(distinct customer_id) from marts.dim_consent_now where state <> 'granted')
            from marts.fct_consent_intervals
        """).fetchall()[0]
        tables = connection.execute("""
            select (select count(*) from marts.dim_customers), (select count(*) from marts.fct_sessions),
                   (select count(*) from marts.fct_journeys), (select count(*) from marts.fct_conversions)
        """).fetchall()[0]
    print_table(["stage", "rows", "seconds"], [(stage.stage, f"{stage.rows:,}" if stage.rows else "", f"{stage.seconds:.1f}") for stage in stages])
    console = Console(width=160, highlight=False, markup=False)
    console.print(
        f"\n{counted[0]:,} events: {counted[1]:,} by bots, {counted[2]:,} by staff, {counted[3]:,} count toward journeys, "
        f"of which {counted[4]:,} are unattributed.\n"
        f"{quarantined[1]:,} duplicate rows, {quarantined[0]:,} quarantined (waymark quarantine list).\n"
        f"{tables[0]:,} customers, {tables[1]:,} sessions, {tables[2]:,} journeys, {tables[3]:,} conversions published in {seconds:.0f} s."
    )
    if consent[0]:
        console.print(
            f"{consent[0]:,} acts of consent by {consent[1]:,} customers stand or stood; {consent[2]:,} of them have withdrawn a scope, or let it lapse. "
            "Ask marts.dim_consent_now."
        )
    for line in _learning_lines(project):
        console.print(line, soft_wrap=True)
    console.print("\nAsk them:")
    option = project_option(project.directory)
    for title, query in EXAMPLES.items():
        console.print(f"  # {title}", soft_wrap=True)
        console.print(f'  waymark sql{option} "{query}"', soft_wrap=True)
    console.print(f"\nThe runs and their lineage: waymark dev{option}", soft_wrap=True)
    console.print(f"Trainings and models: waymark mlflow{option}", soft_wrap=True)
    console.print(f"What the checks found: waymark quality{option}", soft_wrap=True)


def _learning_lines(project: Project) -> list[str]:
    """What the last training came to, with its metrics on the test split, or why there was none."""
    last = read_json(project.home.mlflow / "last_training.json")
    if not last:
        return []
    sentences, metrics = last.get("sentences"), last.get("metrics")
    lines = [f"Propensity: {'; '.join(str(sentence) for sentence in sentences)}."] if isinstance(sentences, list) else []
    if isinstance(metrics, dict) and metrics:
        lines.append("On its test split, with 95 % intervals: " + ", ".join(f"{str(name).replace('_', ' ')} {text}" for name, text in metrics.items()) + ".")
    return lines
