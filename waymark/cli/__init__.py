"""The command line: a module a command group, whatever is heavy imported late."""
