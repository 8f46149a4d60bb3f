"""The run's steps as plain functions: ingest, transform, resolve, finish, publish, verify, trace. No orchestrator is known here."""
