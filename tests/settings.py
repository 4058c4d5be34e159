"""Settings of the tests: the product's own, with a data directory that lasts as long as the test process."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

DIRECTORY = Path(tempfile.mkdtemp(prefix="quartzflow-test-"))
(DIRECTORY / "static").mkdir()  # whitenoise warns where there is none
atexit.register(shutil.rmtree, DIRECTORY, ignore_errors=True)

for name in [name for name in os.environ if name.startswith("QF_") or name in ("DATABASE_URL", "REDIS_URL")]:
    del os.environ[name]
os.environ["QF_DATA_DIR"] = str(DIRECTORY)
os.environ["QF_SECRET_KEY"] = "for-tests-only-" + "x" * 32

from quartzflow.settings import *  # noqa: E402, F403
from quartzflow.settings import ALLOWED_HOSTS, DATABASES, LOGGING, STORAGES  # noqa: E402

# A file, not memory: threads and processes share it as they do in production.
DATABASES["default"]["TEST"] = {"NAME": DIRECTORY / "test.sqlite3"}
ALLOWED_HOSTS.append("testserver")
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
LOGGING["loggers"]["httpx"] = {"level": "WARNING"}
