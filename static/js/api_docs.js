// The pages of the API's description. The content security policy allows no script within a page.

const place = document.getElementById("api-docs");

if (place.dataset.kind === "swagger") {
  const token = place.querySelector("[name=csrfmiddlewaretoken]").value;
  window.SwaggerUIBundle({
    url: place.dataset.schema,
    domNode: place,
    deepLinking: true,
    docExpansion: "none",
    presets: [window.SwaggerUIBundle.presets.apis],
    requestInterceptor: (request) => {
      request.headers["X-CSRFToken"] = token;
      return request;
    },
  });
} else {
  // The search would start a worker from a blob.
  window.Redoc.init(place.dataset.schema, { disableSearch: true, nativeScrollbars: true, hideLoading: true }, place);
}
