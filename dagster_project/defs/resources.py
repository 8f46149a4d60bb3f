"""What every asset shares: the project, and one process a run."""

import dagster as dg

from dagster_project.lib.project_resource import ProjectResource, project_directory


@dg.definitions
def resources() -> dg.Definitions:
    return dg.Definitions(resources={"project": ProjectResource(directory=project_directory())}, executor=dg.in_process_executor)
