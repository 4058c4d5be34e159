// The one place for calls to the server: CSRF, JSON, errors in words.
import { $, _ } from "./dom.js";

export class ApiError extends Error {
  constructor(message, status, errors) {
    super(message);
    this.status = status;
    this.errors = errors || {};
  }
}

function csrfToken() {
  const field = $("input[name=csrfmiddlewaretoken]");
  return field ? field.value : "";
}

async function call(url, options) {
  let response;
  try {
    response = await fetch(url, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(_("The server cannot be reached. Check the connection and try again."), 0);
  }
  if (response.redirected && response.url.includes("/login/")) {
    throw new ApiError(_("You are logged out. Log in again and repeat this."), 401);
  }
  if (response.status === 204) return null;
  const isJson = (response.headers.get("content-type") || "").includes("json");
  const body = isJson ? await response.json() : null;
  if (!response.ok) {
    const detail = body && (body.message || body.detail);
    throw new ApiError(detail || _("The server answered with error %(status)s.", { status: response.status }), response.status, body && (body.errors || (body.data && body.data.errors)));
  }
  if (body === null) throw new ApiError(_("The server's answer cannot be read."), response.status);
  return body;
}

/** GET a JSON document; the `data` of the API's envelope where there is one. */
export async function get(url, params, signal) {
  const query = params ? `?${new URLSearchParams(params)}` : "";
  const body = await call(url + query, { headers: { Accept: "application/json", "Accept-Language": document.documentElement.lang }, signal });
  return body && typeof body === "object" && "data" in body ? body.data : body;
}

/** POST a form (an object of fields). */
export function post(url, fields) {
  return call(url, {
    method: "POST",
    headers: { "X-CSRFToken": csrfToken(), "X-Requested-With": "fetch", Accept: "application/json" },
    body: new URLSearchParams(fields || {}),
  });
}

/** POST JSON and care for nothing else: reports of errors. */
export function report(url, document_) {
  return fetch(url, {
    method: "POST",
    credentials: "same-origin",
    keepalive: true,
    headers: { "X-CSRFToken": csrfToken(), "Content-Type": "application/json" },
    body: JSON.stringify(document_),
  });
}
