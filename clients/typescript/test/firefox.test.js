import { browserTests } from "./browser-tests.js";

browserTests("firefox");
