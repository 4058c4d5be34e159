// A cron expression in words. Whether it is valid is for the server to say (cronsim), the words are cronstrue's.
import { language } from "./dom.js";

export function cronWords(expression) {
  if (!window.cronstrue) return "";
  try {
    const words = window.cronstrue.toString(expression, {
      locale: language === "en" ? "en" : "zh_CN",
      use24HourTimeFormat: true,
      verbose: false,
    });
    return language === "en" ? words : words.replace(/^在\s*(?=\d)/, "").replace(/, /g, "，");
  } catch (error) {
    return ""; // valid for us, without words there
  }
}
