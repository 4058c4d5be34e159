"""The API's description in OpenAPI: the envelope around every answer, and the errors that every endpoint may give.

Views say what is theirs with drf-spectacular's `extend_schema`; what all have in common is said here, once.
"""

from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers

ERRORS: dict[int, Any] = {
    400: _("Something in the request is not valid; `errors` names the fields."),
    401: _("No account, or a token that is not valid."),
    403: _("The account, or its token, may not do this."),
    404: _("There is no such object, or the account may not see it."),
    406: _("The answer cannot be given in the media type that Accept asks for."),
    409: _("The object's state does not allow it now."),
    412: _("If-Match names another version than the present one."),
    413: _("The request is larger than what the server reads."),
    415: _("The body's media type is not one of those that are read."),
    429: _("Too many requests; Retry-After says when to come again."),
    504: _("The host did not answer in time."),
}
EVERYWHERE = (400, 401, 403, 404, 406, 429)
ON_WRITES = (409,)
WITH_BODY = (413, 415)
METHODS = ("get", "post", "put", "patch", "delete")
NOTHING: dict[str, Any] = {"type": "null"}
IF_MATCH = OpenApiParameter(
    "If-Match", str, OpenApiParameter.HEADER,
    description="The ETag that was answered with the object: the change is refused with 412 when it is another by now.",
)  # fmt: skip
# Served beside REST framework, which has no streams.
FULL_LOG: dict[str, Any] = {
    "operationId": "executions_logs_full_retrieve",
    "description": "The whole output, streamed from the host that keeps it. X-Total is its size in bytes.",
    "tags": ["executions"],
    "parameters": [
        {"in": "path", "name": "id", "required": True, "schema": {"type": "integer"}},
        *(
            {"in": "query", "name": name, "schema": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}}
            for name in ("offset", "limit")
        ),
    ],
    "security": [{"token": []}, {"cookieAuth": []}],
    "responses": {
        "200": {"description": "Done", "content": {"text/plain": {"schema": {"type": "string"}}}},
        **{
            str(code): {"$ref": f"#/components/responses/Error{code}"}
            for code in (*EVERYWHERE, 409, 413, 504)
        },
    },
}


class WriteSerializer(serializers.Serializer[Any]):
    """What a body may hold, for the description alone: values are checked where they are used."""


class ApiSchema(AutoSchema):
    """One operation."""

    def get_operation(self, path: str, *args: Any) -> Any:
        operation = super().get_operation(path, *args)
        if operation is None:
            return None
        for code, response in list(operation["responses"].items()):
            if code == "204":  # nothing is answered without a body
                operation["responses"].pop(code)
                code, response = "200", {"content": {"application/json": {"schema": NOTHING}}}
                operation["responses"][code] = response
            response["description"] = response.get("description") or ("Made" if code == "201" else "Done")
            content = response.get("content", {})
            raw = getattr(self.view, "action", "") in getattr(self.view, "raw_actions", ())
            if code.startswith("2") and "application/json" in content and not raw:
                content["application/json"]["schema"] = enveloped(content["application/json"]["schema"])
        codes = set(EVERYWHERE)
        if self.method != "GET":
            codes |= set(ON_WRITES)
        if "requestBody" in operation:
            codes |= set(WITH_BODY)
        if any(parameter["name"] == "If-Match" for parameter in operation.get("parameters", ())):
            codes.add(412)
        for code in sorted(codes):
            operation["responses"].setdefault(str(code), {"$ref": f"#/components/responses/Error{code}"})
        return operation


def enveloped(data: dict[str, Any]) -> dict[str, Any]:
    """The envelope around an answer's data."""
    return {
        "type": "object",
        "required": ["code", "data"],
        "properties": {"code": {"type": "integer", "const": 0}, "data": data},
        "additionalProperties": False,
    }


def plain_paths(endpoints: Any) -> Any:
    """Preprocessing: paths as they are written, without the slash that may follow."""
    return [(path.rstrip("/"), regex, method, callback) for path, regex, method, callback in endpoints]


def finish(result: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """Postprocessing: the errors' components; bodies that refuse what they do not know."""
    components = result["components"]
    components["schemas"]["Error"] = {
        "type": "object",
        "required": ["code", "message"],
        "properties": {
            "code": {"type": "integer", "minimum": 1, "description": "Which kind of error; 0 is none."},
            "message": {"type": "string"},
            "errors": {
                "type": "object",
                "description": "Field → what is wrong with it.",
                "additionalProperties": {"type": "array", "items": {"type": "string"}},
            },
        },
        "additionalProperties": False,
    }
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    components["responses"] = {
        f"Error{code}": {"description": str(text), "content": error} for code, text in ERRORS.items()
    }
    result["paths"]["/api/v1/executions/{id}/logs/full"] = {"get": FULL_LOG}
    for path in result["paths"].values():
        for method in METHODS:
            content = path.get(method, {}).get("requestBody", {}).get("content", {})
            name = content.get("application/json", {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
            if name:
                components["schemas"][name].setdefault("additionalProperties", False)
    return result
