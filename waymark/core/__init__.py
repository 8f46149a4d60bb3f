"""The floor: settings, paths, locks, the one connection helper, clock, digests, errors. Imports nothing of ours."""
