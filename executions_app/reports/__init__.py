"""Reports (FR-6.4): figures over a range of days, shown, built as files, and sent by mail."""
