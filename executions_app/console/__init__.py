"""Console pages of executions, logs, alerts and reports; `admin.py` above registers them."""
