"""URLs: the console, the API, health."""

from django.urls import include, path, re_path
from django.views.generic import RedirectView
from django.views.i18n import JavaScriptCatalog, set_language

from . import health
from .api import docs
from .api.observe import MetricsView
from .console.site import site

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    re_path(r"^metrics/?$", MetricsView.as_view(), name="metrics"),
    path("api/v1/", include("quartzflow.api.urls")),
    *docs.urlpatterns,
    path("i18n/setlang/", set_language, name="set_language"),
    path("i18n/catalog.js", JavaScriptCatalog.as_view(packages=["quartzflow"]), name="javascript-catalog"),
    path("console/", site.urls),
]
