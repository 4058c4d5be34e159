"""/api/schema/: the API's description in OpenAPI, and pages that show it. For people with an account."""

from typing import Any

from django.contrib.auth.decorators import login_required
from django.urls import URLPattern, re_path
from django.utils.decorators import method_decorator
from django.views.generic import TemplateView
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiYamlRenderer
from drf_spectacular.views import SpectacularAPIView

urlpatterns: list[URLPattern]


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


urlpatterns = [
    re_path(r"^/?$", SchemaView.as_view(), name="api-schema"),
    re_path(r"^/swagger/?$", PageView.as_view(template_name="api/swagger.html"), name="api-swagger"),
    re_path(r"^/redoc/?$", PageView.as_view(template_name="api/redoc.html"), name="api-redoc"),
]
