// Open a page in Chromium, and answer questions about it: a line of JavaScript in, a line of JSON out. The line runs in
// the page; one that begins with "!" runs here, as the body of an async function of "page" and "require".
"use strict"

const readline = require("node:readline")
const { chromium } = require("playwright-core")

const AsyncFunction = (async () => {}).constructor

async function main() {
  const [executablePath, profile, url] = process.argv.slice(2)
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath,
    headless: true,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  })
  const page = await browser.newPage()
  page.on("pageerror", (error) => process.stderr.write(`${error}\n`))
  page.on("console", (message) => process.stderr.write(`${message.text()}\n`))
  await page.goto(url)
  process.stdout.write("null\n")
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const answer = line.startsWith("!")
      ? await new AsyncFunction("page", "require", line.slice(1))(page, require)
      : await page.evaluate(line)
    process.stdout.write(JSON.stringify(answer ?? null) + "\n")
  }
  await browser.close()
}

main().catch((error) => {
  process.stderr.write(`${error}\n`)
  process.exit(1)
})
