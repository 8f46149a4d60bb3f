"""What was promised to persons: erasures with their certificates, and the log of who read what."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from dagster_project.lib.figures import markdown_table
from dagster_project.lib.instance import POOL
from dagster_project.lib.policies import RETRIES
from dagster_project.lib.project_resource import ProjectResource
from waymark.pipeline.anchors import known_anchors, logs
from waymark.privacy.requests import audited_digests, problems, requests
from waymark.privacy.struck import struck

_KEY = dg.AssetKey(["privacy", "erasures"])


@dg.asset(
    key=_KEY, group_name="privacy", kinds={"python"}, deps=[["published", "snapshot"]], pool=POOL, retry_policy=RETRIES,
    description="Persons who were erased, request by request, and whether certificates and audit log still hold. `waymark privacy status` shows them.",
    check_specs=[
        dg.AssetCheckSpec("audit_log_holds", asset=_KEY, description="No entry of the audit log was altered, removed or cut off (waymark audit verify)."),
        dg.AssetCheckSpec("certificates_hold", asset=_KEY, description="Each erasure's certificate is as it was signed and logged (waymark privacy status)."),
    ],
)  # fmt: skip
def erasures(project: ProjectResource) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
    with project.step() as run:
        home = run.project.home
        found = {role or "home": log.verify(known_anchors(home, role), struck(home, role)) for role, log in logs(home).items()}
        known = requests(home)
        audited = audited_digests(home)
        broken = {request.request_id: problems(home, request, audited.get(request.request_id)) for request in known}
        listed = [(request.request_id, request.requested_at[:19], request.persons, request.completed_at[:19]) for request in known[-20:]]
        yield dg.MaterializeResult(
            asset_key=_KEY,
            metadata={
                "dagster/row_count": len(known), "persons": sum(request.persons for request in known),
                "audit_entries": sum(verdict.entries for verdict in found.values()),
                "latest": dg.MetadataValue.md(markdown_table(("request", "asked", "persons", "done"), listed) if listed else "Nobody has been erased."),
            },
        )  # fmt: skip
        yield dg.AssetCheckResult(
            passed=not any(verdict.problems for verdict in found.values()), check_name="audit_log_holds", asset_key=_KEY,
            metadata={"problems": "; ".join(problem for verdict in found.values() for problem in verdict.problems[:5]) or "none"},
        )  # fmt: skip
        yield dg.AssetCheckResult(
            passed=not any(broken.values()), check_name="certificates_hold", asset_key=_KEY,
            metadata={"problems": "; ".join(f"{name}: {said[0]}" for name, said in broken.items() if said) or "none"},
        )  # fmt: skip
