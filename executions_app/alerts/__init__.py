"""Alerts (PRD P1, FR-6.5): what happened becomes events, rules make alerts of them, channels carry them to people."""
