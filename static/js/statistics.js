// The page of figures: names of tasks are offered while one types.
import * as suggest from "./suggest.js";

suggest.start(document);
