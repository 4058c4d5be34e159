// The form of a scheduled report: fields that fit how often it is sent; names of tasks are offered while one types.
import { $ } from "./dom.js";
import { fit } from "./form_parts.js";
import * as suggest from "./suggest.js";

const form = $("#schedule-form");

form.addEventListener("change", () => fit(form));
fit(form);
suggest.start(form);
