"""The agent's durable record: what it was told to run, what became of it, and what the server still lacks.

`database` opens it, `thread` owns it while the agent runs; the other modules are functions on a connection:
`executions` (their life), `outbox` (results on their way to the server), `statistics`, `tasks` (the configuration),
`reading` (what the command line and the views ask).
"""
