// Browsers from the system's packages.

import { existsSync } from "node:fs";

import puppeteer from "puppeteer-core";

const PROGRAMS = {
  chromium: ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"],
  firefox: ["/usr/bin/firefox-esr", "/usr/bin/firefox"],
};

/** A host name of this machine that is not a secure context on plain HTTP, unlike localhost and 127.0.0.1. */
export const INSECURE_HOST = "lan.test";

export const programOf = (name) => PROGRAMS[name].find(existsSync);

export function launch(name) {
  const executablePath = programOf(name);
  if (name === "firefox") {
    const extraPrefsFirefox = {
      "network.dns.localDomains": INSECURE_HOST,
      // Tests run in several tabs, and all but one of them are in the background.
      "dom.min_background_timeout_value": 4,
      "dom.timeout.enable_budget_timer_throttling": false,
      "dom.disable_open_during_load": false,
      "dom.popup_maximum": -1,
    };
    return puppeteer.launch({ browser: "firefox", executablePath, extraPrefsFirefox });
  }
  const args = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-popup-blocking",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
    `--host-resolver-rules=MAP ${INSECURE_HOST} 127.0.0.1`,
  ];
  return puppeteer.launch({ browser: "chrome", executablePath, args });
}
