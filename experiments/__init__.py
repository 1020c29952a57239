"""Claims of the field, tested: one command an experiment. See README.md."""
