// A page with nothing but copy buttons.
import { start } from "./copy.js";

start();
