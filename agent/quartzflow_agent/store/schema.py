"""Tables of the store. Times are Unix ms on the server's clock, days are UTC."""

VERSION = 1

SCHEMA = """
CREATE TABLE executions (
    execution_id   TEXT PRIMARY KEY,
    task_id        TEXT NOT NULL,
    task_name      TEXT NOT NULL,
    instruction    BLOB NOT NULL,               -- TaskExecution of the current attempt
    local          INTEGER NOT NULL,            -- fired by the agent itself
    scheduled_at   INTEGER NOT NULL,
    attempt        INTEGER NOT NULL,            -- 0: the first
    status         INTEGER NOT NULL,            -- the wire's ExecutionStatus, of the current attempt
    day            TEXT NOT NULL,               -- of the start, or of the schedule when there was none
    started_at     INTEGER,
    finished_at    INTEGER,
    exit_code      INTEGER,
    failure_reason TEXT NOT NULL DEFAULT '',
    log            TEXT NOT NULL DEFAULT '',    -- DATE/TASK_EXECUTION.log
    pid            INTEGER,                     -- leader of the process group, while it runs
    pid_created    REAL,                        -- when that process was started, so that a later pid is not mistaken
    synced         INTEGER NOT NULL DEFAULT 0   -- the server has the current attempt's end
);
-- history and views: the executions of a day, in order of arrival
CREATE INDEX executions_day ON executions (day);
-- recount of one task's day, last log of a task, history of a task
CREATE INDEX executions_task_day ON executions (task_id, day);
-- what is to be picked up after a restart: few rows, whatever the size of the table
CREATE INDEX executions_open ON executions (execution_id) WHERE status < 2;

-- The end of each attempt, on its way to the server.
CREATE TABLE results (
    execution_id TEXT NOT NULL,
    attempt      INTEGER NOT NULL,
    day          TEXT NOT NULL,
    result       BLOB NOT NULL,                 -- TaskResult; without its output once the server has it
    acknowledged INTEGER NOT NULL DEFAULT 0,    -- 0 not yet, 1 committed by the server, 2 refused by it
    sync_attempts INTEGER NOT NULL DEFAULT 0,
    last_sync_at INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (execution_id, attempt)
);
-- what the server lacks, oldest first
CREATE INDEX results_pending ON results (acknowledged) WHERE acknowledged = 0;

-- Counters of one task's day: each finished execution once, by its last attempt.
CREATE TABLE daily_stats (
    day        TEXT NOT NULL,
    task_id    TEXT NOT NULL,
    task_name  TEXT NOT NULL,
    success    INTEGER NOT NULL DEFAULT 0,
    failure    INTEGER NOT NULL DEFAULT 0,
    timeout    INTEGER NOT NULL DEFAULT 0,
    cancelled  INTEGER NOT NULL DEFAULT 0,
    timed      INTEGER NOT NULL DEFAULT 0,      -- those that had started; durations are theirs
    total_ms   INTEGER NOT NULL DEFAULT 0,
    max_ms     INTEGER NOT NULL DEFAULT 0,
    min_ms     INTEGER NOT NULL DEFAULT 0,
    hourly     TEXT NOT NULL,                   -- JSON list of 24 counts
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (day, task_id)
) WITHOUT ROWID;

-- Which state of a day's statistics the server has.
CREATE TABLE stats_days (
    day      TEXT PRIMARY KEY,
    revision INTEGER NOT NULL,                  -- counts the changes of the day
    synced   INTEGER NOT NULL DEFAULT 0         -- the revision that the server has
) WITHOUT ROWID;

CREATE TABLE tasks (
    task_id TEXT PRIMARY KEY,
    name    TEXT NOT NULL,
    version INTEGER NOT NULL,
    config  BLOB NOT NULL,                      -- TaskConfig
    changed_at INTEGER NOT NULL,                -- since when it has this schedule here
    fired_at INTEGER NOT NULL DEFAULT 0         -- nominal time of the latest scheduled firing we know of
) WITHOUT ROWID;

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
"""
