"""What was measured, as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

# Which of the floor's statements do the work of which model.
BESIDE: dict[str, tuple[str, ...]] = {
    "int_events": ("losers", "lake", "agents", "arrivals", "types", "stages", "rates"),
    "identity": ("lists", "nodes", "links", "members", "persons", "list_persons"),
    "int_events_sessionized": ("narrow", "sessionized", "fct_events"),
    "int_conversions_deduplicated": ("conversions",),
    "fct_sessions": ("sessions", "fct_sessions"),
    "fct_touchpoints": ("fct_touchpoints",),
    "int_journey_steps": ("runs", "touches", "fct_journey_steps"),
    "fct_journeys": ("fct_journeys",),
    "fct_conversions": ("fct_conversions",),
    "dim_customers": ("dim_customers",),
    "dim_customer_aliases": ("dim_customer_aliases",),
}
BESIDE_FEATURES: dict[str, tuple[str, ...]] = {
    "int_node_days": ("shared", "activity", "days"),
    "int_customer_activity": ("grid", "known", "points"),
    "int_customer_labels": ("label_conversion",),
}
_VIEWS = (
    *("stg_events", "stg_pending_events", "fct_events", "fct_journey_steps"),
    *("feat_customer_behavior", "feat_customer_channels", "feat_customer_value", "label_conversion", "train_conversion", "score_points"),
)
_TRANSFORM = ("before identity", "after identity")
_START_UP = ("imports", "parse")


def sql_seconds(measured: dict[str, Any]) -> tuple[float, float]:
    """(wall, CPU) seconds in the journeys' models and identity: what the floor does too."""
    return _sum([*(pair for name, pair in measured["models"].items() if name not in BESIDE_FEATURES), measured["seconds"]["identity"]])


def feature_seconds(measured: dict[str, Any]) -> tuple[float, float]:
    """(wall, CPU) seconds in the feature models."""
    return _sum(measured["models"][name] for name in BESIDE_FEATURES)


def floor_seconds(measured: dict[str, Any]) -> tuple[float, float]:
    return _sum(measured["statements"].values())


def _sum(pairs: Iterable[Sequence[float]]) -> tuple[float, float]:
    listed = list(pairs)
    return float(sum(wall for wall, _ in listed)), float(sum(cpu for _, cpu in listed))


def markdown(results: dict[str, Any]) -> str:
    """All tables of one run of `benchmarks.run`."""
    parts = [_heading(results)]
    if "floor" in results:
        parts += [_side_by_side(results), _by_model("By model", results, "floor", BESIDE)]
    if "floor-features" in results:
        parts += [_features(results), _by_model("Features by model", results, "floor-features", BESIDE_FEATURES)]
    if "increments" in results:
        parts.append(_increments(results))
    if "main_job" in results:
        parts.append(_main_job(results))
    parts.append(_checks(results))
    if "sessions" in results:
        parts.append(_sessions(results))
    if "seconds" in results["ingest"] and "floor" in results:
        parts.append(_ingestion(results))
    return "\n\n".join(parts)


def table(header: list[str], lines: list[list[str]]) -> str:
    marks = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, marks, *lines])


def _heading(results: dict[str, Any]) -> str:
    about, rows = results["about"], results["full"]["rows"]
    versions = ", ".join(f"{name} {number}" for name, number in sorted(about["versions"].items()))
    counted = ", ".join(f"{name.rpartition('.')[2]} {count:,}" for name, count in sorted(rows.items()) if count)
    return (
        f"{results['ingest']['rows_accepted']:,} events, seed {about['seed']}; {about['cores']} cores, {about['memory_gib']} GiB, "
        f"DuckDB's memory limit {about['memory_limit']}; load average at the end {about['load']:.1f}; {versions}. Rows: {counted}."
    )


def _start_up(measured: dict[str, Any]) -> float:
    return float(sum(measured["seconds"][name][0] for name in _START_UP))


def _orchestration(measured: dict[str, Any]) -> float:
    """What a dbt invocation costs beside its nodes: selecting, compiling, writing its results."""
    return float(sum(measured["seconds"][name][0] for name in _TRANSFORM) - _sum(measured["models"].values())[0] - measured["check_seconds"])


def _line(name: str, measured: dict[str, Any], against: tuple[float, float], features: tuple[float, float]) -> list[str]:
    wall, cpu = sql_seconds(measured)
    features_wall, features_cpu = feature_seconds(measured)
    return [
        name, f"{wall:.1f}", f"{wall / against[0]:.2f}", f"{cpu:.1f}", f"{cpu / against[1]:.2f}",
        f"{features_wall:.1f}", f"{features_wall / features[0]:.2f}", f"{features_cpu:.1f}", f"{features_cpu / features[1]:.2f}",
        f"{measured['check_seconds']:.1f}", f"{_orchestration(measured):.1f}", f"{_start_up(measured):.1f}",
        f"{measured['seconds']['publish'][0]:.1f}", f"{measured['wall']:.1f}", f"{measured['cpu']:.1f}", f"{measured['peak_mib']:,.0f}",
    ]  # fmt: skip


_COLUMNS = [
    "", "journeys SQL s", "ratio", "CPU s", "ratio", "features SQL s", "ratio", "CPU s", "ratio",
    "checks s", "dbt's own s", "start-up s", "publish s", "wall s", "CPU s", "peak MiB",
]  # fmt: skip


def _side_by_side(results: dict[str, Any]) -> str:
    base, features = floor_seconds(results["floor"]), floor_seconds(results["floor-features"])
    peak = max(results[floor]["peak_mib"] for floor in ("floor", "floor-features"))
    seconds = [cell for taken in (*base, *features) for cell in (f"{taken:.1f}", "1.00")]
    lines = [["the floors", *seconds, *["-"] * 6, f"{peak:,.0f}"], _line("dbt and identity", results["full"], base, features)]
    return "### Full refresh\n\n" + table(_COLUMNS, lines)


def _features(results: dict[str, Any]) -> str:
    lines = []
    base = floor_seconds(results["floor-features"])
    for name, pair, peak in (
        ("floor_features.sql", base, f"{results['floor-features']['peak_mib']:,.0f}"),
        ("dbt's feature models", feature_seconds(results["full"]), f"{results['full']['peak_mib']:,.0f}"),
    ):
        lines.append([name, f"{pair[0]:.1f}", f"{pair[0] / base[0]:.2f}", f"{pair[1]:.1f}", f"{pair[1] / base[1]:.2f}", peak])
    return "### Features, full refresh\n\n" + table(["", "SQL s", "ratio", "CPU s", "ratio", "peak MiB of the process"], lines)


def _by_model(title: str, results: dict[str, Any], floor: str, beside: dict[str, tuple[str, ...]]) -> str:
    statements = results[floor]["statements"]
    models = _by_name(results["full"])
    lines = []
    for model, names in beside.items():
        taken = _sum(statements[name] for name in names)
        lines.append([model, *(f"{number:.2f}" for number in (models[model][0], taken[0], models[model][1], taken[1])), ", ".join(names)])
    if beside is BESIDE:
        views = _sum(models[name] for name in _VIEWS)
        lines.append(["views", f"{views[0]:.2f}", "-", f"{views[1]:.2f}", "-", ""])
    return f"### {title}\n\n" + table(["model", "dbt s", "floor s", "dbt CPU s", "floor CPU s", "the floor's statements"], lines)


def _by_name(measured: dict[str, Any]) -> dict[str, Sequence[float]]:
    return dict(measured["models"]) | {name: pair for name, pair in measured["seconds"].items() if name == "identity"}


def _increments(results: dict[str, Any]) -> str:
    found = results["increments"]
    base, features = sql_seconds(results["full"]), feature_seconds(results["full"])
    lines = [_line("full refresh", results["full"], base, features)]
    for part, name in (("scattered", "1 % scattered"), ("last", "last 1 % by arrival")):
        measured = found[part]
        lines.append(_line(f"{name}: {measured['events']:,} events", measured, base, features))
    scopes = [
        [name, *(f"{found[part]['restated'][name]:,}" for part in ("scattered", "last"))]
        for name in found["last"]["restated"]
    ]
    runs = [_by_name(measured) for measured in (results["full"], found["scattered"], found["last"])]
    models = [[model, *(f"{run[model][which]:.2f}" for which in (0, 1) for run in runs)] for model in (*BESIDE, *BESIDE_FEATURES)]
    header = ["model", "full s", "1 % scattered s", "last 1 % s", "full CPU s", "1 % scattered CPU s", "last 1 % CPU s"]
    unequal = [name for name, equal in found["equal"].items() if not equal]
    verdict = f"NOT EQUAL to the full refresh: {', '.join(unequal)}." if unequal else "After both increments every mart and feature equals the full refresh."
    return "\n\n".join([
        "### Increments beside the full refresh", table(_COLUMNS, lines), verdict,
        table(["re-stated", "1 % scattered", "last 1 %"], scopes), table(header, models),
    ])  # fmt: skip


def _main_job(results: dict[str, Any]) -> str:
    lines = [[name, f"{found['wall']:.1f}", f"{found['cpu']:.1f}", f"{found['peak_mib']:,.0f}"] for name, found in results["main_job"].items()]
    return "### The main job, the demo's world\n\n" + table(["", "wall s", "CPU s", "peak MiB"], lines)


def _checks(results: dict[str, Any]) -> str:
    slowest = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in results["full"]["slowest_checks"][:4])
    return f"{results['full']['check_count']} checks; the slowest of a full refresh: {slowest}."


def _sessions(results: dict[str, Any]) -> str:
    lines = []
    for name in ("sql", "pandas"):
        if name not in results["sessions"]:
            continue
        measured = results["sessions"][name]
        if "failed" in measured:
            lines.append([name, measured["failed"], "", "", ""])
        else:
            ratio = measured["seconds"] / results["sessions"]["sql"]["seconds"]
            found = f"{measured['sessions']:,} of {measured['events']:,} events"
            lines.append([name, f"{measured['seconds']:.2f}", f"{ratio:.1f}", f"{measured['peak_mib']:,.0f}", found])
    return "### Sessions alone, from the lake's files\n\n" + table(["", "s", "ratio", "peak MiB", "sessions"], lines)


def _ingestion(results: dict[str, Any]) -> str:
    found = results["ingest"]
    seconds, cpu = found["seconds"]["ingest"]
    return (
        f"### Ingestion\n\n{found['rows_read']:,} rows read, {found['rows_accepted']:,} accepted, in {seconds:.1f} s "
        f"({cpu:.1f} CPU-s): {found['rows_read'] / seconds:,.0f} rows/s; "
        f"peak {found['peak_mib']:,.0f} MiB; lake {found['lake_bytes'] / 1e6:,.0f} MB (taken {found['taken_at']})."
    )
