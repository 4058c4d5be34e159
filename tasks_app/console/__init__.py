"""Console pages of tasks and calendars; `admin.py` above registers them."""
