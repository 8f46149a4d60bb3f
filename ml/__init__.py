"""Learning and deciding, without network and without orchestrator."""
