"""One machine, one command: prepare the data directory (`setup`), then run every process under a supervisor."""
