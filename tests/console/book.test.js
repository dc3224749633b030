// The documentation as a book (target/book, which docs/build writes): it is accessible in light, dark and on a phone, and
// its search finds what its pages contain.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { dirname, extname, join, normalize } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { accessible, launch, screenshot } from "./browser.js";

const book = join(dirname(fileURLToPath(import.meta.url)), "../../target/book");
const types = { ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml" };
const skip = existsSync(join(book, "index.html")) ? false : "the book is not built: docs/build";
let browser, server, url;

before(async () => {
  server = createServer((request, response) => {
    const file = join(book, normalize(new URL(request.url, "http://x").pathname));
    if (!file.startsWith(book) || !existsSync(file)) return void response.writeHead(404).end();
    response.writeHead(200, { "Content-Type": types[extname(file)] ?? "application/octet-stream" }).end(readFileSync(file));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${server.address().port}`;
  browser = await launch();
});

after(async () => {
  await browser?.close();
  server?.close();
});

for (const [name, options] of [
  ["light", { viewport: { width: 1280, height: 900 } }],
  ["dark", { viewport: { width: 1280, height: 900 }, colorScheme: "dark" }],
  ["phone", { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true }],
]) {
  test(`the book is accessible: ${name}`, { skip }, async () => {
    const context = await browser.newContext(options);
    const page = await context.newPage();
    for (const path of ["index", "quickstart", "guides/nextjs", "reference/sockets", "configuration"]) {
      await page.goto(`${url}/${path}.html`);
      await page.locator("main h1").first().waitFor();
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.ok(overflow <= 0, `${path} is ${overflow} px wider than the screen`);
      await accessible(page, `${path}, ${name}`);
      if (path === "quickstart") await screenshot(page, `book-${name}`);
    }
    await context.close();
  });
}

test("the search of the book finds a setting", { skip }, async () => {
  const page = await browser.newPage();
  await page.goto(`${url}/index.html`);
  await page.keyboard.press("s");
  await page.locator("#mdbook-searchbar").pressSequentially("background_grace");
  await page.locator("#mdbook-searchresults a[href*=configuration]").first().waitFor({ timeout: 60000 });
  await page.close();
});
