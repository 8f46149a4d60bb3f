"""Jobs."""

import dagster as dg

refresh = dg.define_asset_job("refresh", selection=dg.AssetSelection.all(), description="New files to a published snapshot.")
