// A cron expression in words. Whether it is valid is for the server to say (cronsim), the words are cronstrue's.
import { language } from "./dom.js";

export function cronWords(expression) {
  if (!window.cronstrue) return "";
  try {
    return window.cronstrue.toString(expression, {
      locale: language === "en" ? "en" : "zh_CN",
      use24HourTimeFormat: true,
      verbose: false,
    });
  } catch (error) {
    return ""; // valid for us, without words there
  }
}
