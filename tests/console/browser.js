// Starts Chromium from the system packages; checks that apply to every page.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";

import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
export const url = process.env.ROLLCALL_URL;
const screenshots = process.env.SCREENSHOTS;

export function launch() {
  const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(existsSync);
  assert.ok(executablePath, "Chromium is not installed: apt-get install chromium");
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"] });
}

// Cookies of the browser that opened the demo server's link, which works once.
let opened;

async function openLink(browser) {
  const context = await browser.newContext();
  await context.request.get(process.env.DEMO_LINK);
  const state = await context.storageState();
  await context.close();
  return state;
}

// Opens a page and records script errors, console errors and requests to other hosts in page.errors.
export async function visit(browser, path, options = {}) {
  opened ??= openLink(browser);
  const storageState = await opened;
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, storageState, ...options });
  await context.addInitScript(() => {
    globalThis.shift = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) if (!entry.hadRecentInput) globalThis.shift += entry.value;
    }).observe({ type: "layout-shift", buffered: true });
  });
  const page = await context.newPage();
  page.errors = [];
  page.on("pageerror", (error) => page.errors.push(error.message));
  page.on("console", (message) => message.type() === "error" && page.errors.push(message.text()));
  page.on("request", (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith("data:")) page.errors.push(`request to ${request.url()}`);
  });
  await page.goto(url + path);
  return page;
}

// Checks that the page has no serious accessibility violation.
export async function accessible(page, what) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  const descriptions = serious.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => node.target.join(" ")).join(", ")}`);
  assert.deepEqual(descriptions, [], what);
}

export const screenshot = (page, name) => page.screenshot({ path: `${screenshots}/${name}.png`, fullPage: true });
