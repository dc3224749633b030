import { browserTests } from "./browser-tests.js";

browserTests("chromium");
