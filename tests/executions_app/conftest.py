import pytest

from executions_app import instructions


@pytest.fixture(autouse=True)
def _no_prepared_tasks():
    """Rolled-back tests give out the same ids and versions again, and with a stopped clock the same times."""
    instructions._prepared.clear()
