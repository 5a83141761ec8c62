"""The `codax` command: parsing and wiring only, one file a command."""
