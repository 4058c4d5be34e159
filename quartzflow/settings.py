"""Settings of every server process. Values come from the environment through quartzflow.env, and only there."""

import os
import sys
from pathlib import Path
from typing import Any

import environ
import structlog
from django.utils.translation import gettext_lazy as _
from whitenoise.compress import Compressor

from .env import load

BASE_DIR = Path(__file__).resolve().parent.parent
ENV = load(os.environ)
# The host's own, before Django sets it to TIME_ZONE for this process and all that it starts.
HOST_TZ = os.environ.get("TZ")
QF_DATA_DIR = ENV.data_dir

SECRET_KEY = ENV.secret_key
DEBUG = ENV.debug
ALLOWED_HOSTS = list(ENV.allowed_hosts)
CSRF_TRUSTED_ORIGINS = list(ENV.csrf_trusted_origins)

INSTALLED_APPS = [
    "daphne",
    "quartzflow",
    "groups_app",
    "tasks_app",
    "executions_app",
    "quic_bridge",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "channels",
    "rest_framework",
    "django_filters",
    "knox",
    "guardian",
    "axes",
    "csp",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "django_prometheus",
]

MIDDLEWARE = [
    "quartzflow.request_context.RequestContextMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "quartzflow.middleware.UserLocaleMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "quartzflow.urls"
ASGI_APPLICATION = "quartzflow.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.template.context_processors.tz",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# --- Data ---

DATABASES: dict[str, dict[str, Any]] = {
    "default": environ.Env.db_url_config(ENV.database_url or f"sqlite:///{QF_DATA_DIR / 'db.sqlite3'}")
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # Several processes write. IMMEDIATE takes the write lock at BEGIN, so that no transaction fails half-way
    # when it turns from reading to writing; NORMAL is durable in WAL mode but for the last commits at a power loss,
    # which the agents then report again.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 30,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-20000;"
        " PRAGMA mmap_size=134217728; PRAGMA journal_size_limit=67108864;",
    }
else:
    DATABASES["default"]["CONN_MAX_AGE"] = 60
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CHANNEL_LAYERS: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {
            # The layer waits 5 s for a message; redis-py's own time limit must not be the same.
            "hosts": [{"address": ENV.redis_url, "socket_timeout": 15}],
            "prefix": "qf",
            "capacity": 5000,
            "expiry": 30,
        },
    }
}
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": ENV.redis_url,
        "KEY_PREFIX": "qf",
    }
}

# --- Celery ---

# kombu spells a unix socket its own way.
CELERY_BROKER_URL = ENV.redis_url.replace("unix://", "redis+socket://", 1)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    # Seconds. What a worker had taken when it died comes to another after this time and up to 10 s more. A task that
    # takes longer runs twice, which changes nothing.
    "visibility_timeout": 15,
    "global_keyprefix": "qf.",
    # A redis that swallows packets must not hold beat until its lease has gone.
    "socket_connect_timeout": 3,
    "socket_timeout": 5,
}
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True  # every task may run twice: ids and conditional updates make that harmless
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 4
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULER = "tasks_app.scheduler:QuartzScheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = 0.5  # seconds; an edit is noticed within one loop
DJANGO_CELERY_BEAT_TZ_AWARE = True
CELERY_BEAT_SCHEDULE = {
    "housekeeping": {
        "task": "executions_app.tasks.housekeeping",
        "schedule": 5.0,
        "options": {"expires": 10},  # a queue that stood still must not bring them all at once
    },
    "find-missing": {
        "task": "executions_app.tasks.find_missing",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "look-for-alerts": {
        "task": "executions_app.alerts.look",
        "schedule": 10.0,
        "options": {"expires": 20},
    },
    "forget-old-alerts": {
        "task": "executions_app.alerts.forget",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
    "look-for-reports": {
        "task": "executions_app.reports.look",
        "schedule": 10.0,
        "options": {"expires": 20},
    },
    "forget-old-reports": {
        "task": "executions_app.reports.forget",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
    "forget-old-firings": {
        "task": "executions_app.tasks.forget_old",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
    "forget-old": {
        "task": "quartzflow.tasks.forget_old",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
    "index-outputs": {
        "task": "executions_app.log_search.index",
        "schedule": 3.0,
        "options": {"expires": 3},
    },
    "remove-old": {
        "task": "executions_app.retention.remove_old",
        "schedule": 30.0,
        "options": {"expires": 30},
    },
    "refresh-calendars": {
        "task": "executions_app.tasks.refresh_calendars",
        "schedule": 3600.0,
        "options": {"expires": 3600},
    },
}

# --- Mail ---

QF_MAIL = bool(ENV.mail_url)
if QF_MAIL:
    _mail = environ.Env.email_url_config(ENV.mail_url)
    EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    EMAIL_HOST, EMAIL_PORT = _mail["EMAIL_HOST"], _mail["EMAIL_PORT"]
    EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = _mail["EMAIL_HOST_USER"] or "", _mail["EMAIL_HOST_PASSWORD"] or ""
    EMAIL_USE_TLS, EMAIL_USE_SSL = _mail.get("EMAIL_USE_TLS", False), _mail.get("EMAIL_USE_SSL", False)
EMAIL_TIMEOUT = 10  # seconds
DEFAULT_FROM_EMAIL = ENV.mail_from

# --- Scheduling ---

QF_DISPATCH_LOOKAHEAD = 2.0  # seconds that a firing is sent out ahead of its time
QF_MISFIRE_THRESHOLD = (
    10.0  # seconds; a firing later than this is missed (up to it: late, and fired as usual)
)
QF_MISFIRE_LIMIT = 100  # missed firings of one task that `fire_all` makes up for at most
QF_RECONNECT_GRACE = (
    90  # seconds without heartbeat in which a host that went offline still counts as a target
)
QF_PENDING_GRACE = 60  # seconds after its time in which an instruction may still start on an agent
QF_ARCHIVE_DIR = ENV.archive_dir or QF_DATA_DIR / "archive"
QF_CHAINS_KEPT = 90  # days that the links between runs of dependent tasks are kept
QF_MAX_RUNNING = ENV.max_running  # executions that run at once in the whole system; what is beyond waits
QF_MAX_RUNNING_PER_CLIENT = ENV.max_running_per_host  # the same on one host, of all tasks together
QF_LONGEST_QUEUE = 24 * 3600  # seconds that an execution may wait on its host for those before it
QF_LOST_GRACE = 60  # seconds after timeout in which a lost agent's execution may still report
QF_LOG_FETCH_LIMIT = 256 * 1024 * 1024  # bytes of a full log that one request may fetch from its agent
QF_LEGACY_CLIENTS = ENV.legacy_clients
QF_BRIDGE_LEASE = 10  # seconds without a sign of life after which a bridge counts as dead
QF_CONFIG_CHANGES_KEPT = 10_000  # an agent further behind gets everything anew

# --- People ---

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
    "guardian.backends.ObjectPermissionBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
ANONYMOUS_USER_NAME = None  # guardian: nobody acts without an account
LOGIN_URL = "admin:login"
# System settings, which may change at run time.
AXES_FAILURE_LIMIT = "quartzflow.declared_settings.login_failures"
AXES_COOLOFF_TIME = "quartzflow.declared_settings.login_pause"
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_VERBOSE = False

# --- Web ---

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "object-src": ["'none'"],
        "base-uri": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_AGE = 7 * 24 * 3600
if ENV.behind_proxy:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    USE_X_FORWARDED_HOST = True
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True

# Several instances on one host (other ports, same name) must not overwrite each other's cookies.
SESSION_COOKIE_NAME = f"qf_session_{ENV.http_port}"
CSRF_COOKIE_NAME = f"qf_csrf_{ENV.http_port}"
LANGUAGE_COOKIE_NAME = "qf_language"

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = QF_DATA_DIR / "static"
# Until `collectstatic` has run (tests, DEBUG), files are served from where they lie.
WHITENOISE_USE_FINDERS = DEBUG
# Source maps of others' bundles: megabytes that nobody loads, and that would take half of the first start.
WHITENOISE_SKIP_COMPRESS_EXTENSIONS = (*Compressor.SKIP_COMPRESS_EXTENSIONS, "map")
STORAGES = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": QF_DATA_DIR / "media"},
    },
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEBUG
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}

LANGUAGE_CODE = "zh-hans"
LANGUAGES = [("zh-hans", _("Simplified Chinese")), ("en", _("English"))]
LOCALE_PATHS = [BASE_DIR / "quartzflow" / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = ENV.time_zone

# --- API ---

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "quartzflow.api.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_THROTTLE_CLASSES": ["quartzflow.api.throttling.RateLimit"],
    "DEFAULT_RENDERER_CLASSES": ["quartzflow.api.envelope.EnvelopeRenderer"],
    "DEFAULT_PARSER_CLASSES": ["quartzflow.api.parsers.BoundedJSONParser"],
    "DEFAULT_PAGINATION_CLASS": "quartzflow.api.pagination.PagePagination",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "EXCEPTION_HANDLER": "quartzflow.api.errors.exception_handler",
    "DEFAULT_SCHEMA_CLASS": "quartzflow.api.schema.ApiSchema",
    "URL_FORMAT_OVERRIDE": None,  # ?format= is a parameter of ours
}
KNOX_TOKEN_MODEL = "knox.AuthToken"  # noqa: S105 - a model
REST_KNOX = {"TOKEN_TTL": None, "AUTH_HEADER_PREFIX": "Token", "TOKEN_LIMIT_PER_USER": None}
SPECTACULAR_SETTINGS = {
    "TITLE": "Quartz-Flow API",
    "VERSION": "1.0.0",
    "OAS_VERSION": "3.1.1",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.IsAuthenticated"],
    "PREPROCESSING_HOOKS": ["quartzflow.api.schema.plain_paths"],
    "POSTPROCESSING_HOOKS": ["quartzflow.api.schema.finish"],
}

# --- Logs: one line an event; JSON where a machine reads ---

_log_pre: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
structlog.configure(
    processors=[
        *_log_pre,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.format_exc_info,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=True,
)
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "plain": {
            "()": structlog.stdlib.ProcessorFormatter,
            "foreign_pre_chain": _log_pre,
            "processors": [
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.KeyValueRenderer(
                    key_order=["timestamp", "level", "logger", "event"], drop_missing=True
                ),
            ],
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "stream": sys.stderr, "formatter": "plain"}},
    "root": {"handlers": ["stderr"], "level": ENV.log_level},
    "loggers": {
        "quic": {"level": "WARNING"},
        "daphne": {"level": "WARNING"},
        "django.channels.server": {"level": "WARNING"},
        # Their messages name credentials and addresses of channels; what went wrong is in ours.
        "apprise": {"level": "CRITICAL"},
        "urllib3": {"level": "WARNING"},
        "weasyprint": {"level": "WARNING"},  # a line a page
        "fontTools": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
    },
}
