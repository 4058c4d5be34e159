"""/api/schema/: the API's description in OpenAPI, and pages that show it. For people with an account."""

from typing import Any

from csp.decorators import csp_update
from django.contrib.auth.decorators import login_required
from django.urls import URLPattern, re_path
from django.utils.decorators import method_decorator
from django.views.generic import TemplateView
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiYamlRenderer
from drf_spectacular.views import SpectacularAPIView

# The hashes of nothing, and of the comment that Redoc's library writes into a style before it uses it.
EMPTY_STYLES = (
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='",
    "'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='",
)


class SchemaView(SpectacularAPIView):
    """The description: YAML, or JSON by Accept or ?format=json."""

    renderer_classes = [OpenApiYamlRenderer, OpenApiJsonRenderer]

    def perform_content_negotiation(self, request: Any, force: bool = False) -> Any:
        if request.query_params.get("format") == "json":
            return OpenApiJsonRenderer(), OpenApiJsonRenderer.media_type
        return super().perform_content_negotiation(request, force)


@method_decorator(login_required, name="dispatch")
class PageView(TemplateView):
    """A page that loads its scripts as files: the content security policy allows no others."""


@method_decorator(csp_update({"style-src": ["'self'", *EMPTY_STYLES]}), name="dispatch")
class RedocView(PageView):
    """Redoc makes empty style elements, and fills them by script."""

    template_name = "api/redoc.html"


urlpatterns: list[URLPattern] = [
    re_path(r"^api/schema/?$", SchemaView.as_view(), name="api-schema"),
    re_path(
        r"^api/schema/swagger/?$", PageView.as_view(template_name="api/swagger.html"), name="api-swagger"
    ),
    re_path(r"^api/schema/redoc/?$", RedocView.as_view(), name="api-redoc"),
]
