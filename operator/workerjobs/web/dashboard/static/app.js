// What pages do beyond links and forms: stay up to date, ask in dialogues, keys, colours. Everything works without it.
"use strict"

// --- up to date: the API tells of changes, and htmx asks for the page's living part again

const PAUSE_MS = 2000 // between two looks, however much changes
const POLL_MS = 10000 // durations go on also while nothing changes
let events
let lastLook = Date.now()
let planned

function look() {
  planned = undefined
  const live = document.getElementById("live")
  if (!live || "over" in live.dataset || document.hidden) return
  // Not under somebody's hands: a selection, or an open dialogue.
  if (live.querySelector("input:checked") || document.querySelector("dialog[open]")) return
  lastLook = Date.now()
  htmx.trigger(document.body, "news")
}

function plan() {
  planned ??= setTimeout(look, Math.max(0, lastLook + PAUSE_MS - Date.now()))
}

function listen() {
  if (document.hidden) {
    // A browser has few connections to one server: pages that nobody sees leave theirs to others.
    events?.close()
    events = undefined
    return
  }
  if (events || !document.querySelector("#live[hx-get]:not([data-over])")) return
  const shown = document.getElementById("live-state")
  events = new EventSource(document.body.dataset.events)
  events.onopen = () => {
    shown.hidden = false
    shown.classList.remove("away")
    shown.lastElementChild.textContent = "Live"
  }
  events.onerror = () => {
    shown.hidden = false
    shown.classList.add("away")
    shown.lastElementChild.textContent = "Connecting"
  }
  for (const kind of ["job", "pauses", "workers", "resources", "reset"]) events.addEventListener(kind, plan)
}

document.addEventListener("visibilitychange", () => {
  listen()
  if (!document.hidden) plan()
})
setInterval(plan, POLL_MS)
listen()

// --- log lines: those of a running job are asked for after the last one; the list stays where it is, or at its end

const LINES_MS = 1500
const log = document.querySelector(".log")

function askForLines() {
  const follow = document.getElementById("follow")
  if (follow && !document.hidden) htmx.trigger(follow, "more")
}

if (log) {
  let fromEnd // of the upper edge of what is seen
  const see = (top) => {
    if (top !== undefined) log.scrollTop = top
    fromEnd = log.scrollHeight - log.scrollTop
  }
  see(log.querySelector("#more") ? 0 : log.scrollHeight)
  log.addEventListener("scroll", () => see())
  new MutationObserver((changes) => {
    const isEarlier = changes.some((change) => [...change.removedNodes].some((each) => each.id === "earlier"))
    if (isEarlier) see(log.scrollHeight - fromEnd)
    else if (fromEnd <= log.clientHeight + 8) see(log.scrollHeight)
    else see()
    // As many came as come at once: there are more. htmx makes the new list's end ready first.
    if (log.querySelector("#follow a")) setTimeout(askForLines, 50)
  }).observe(log, { childList: true })
  setInterval(askForLines, LINES_MS)
}

// --- dialogues: a link to a page that asks first opens that page's question here

const dialog = document.getElementById("dialog")

async function ask(address) {
  const answer = await fetch(address, { headers: { Accept: "text/html" } })
  const page = new DOMParser().parseFromString(await answer.text(), "text/html")
  const question = page.getElementById("confirm")
  if (!question) return location.assign(address)
  dialog.replaceChildren(question)
  dialog.showModal()
  dialog.querySelector("input:not([type=hidden]), button[type=submit]")?.focus()
}

document.addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return
  if (event.target === dialog || event.target.closest("dialog [data-close]")) {
    event.preventDefault()
    return dialog.close()
  }
  const link = event.target.closest("a[data-dialog]")
  if (link) {
    event.preventDefault()
    ask(link.href)
  }
})

document.addEventListener("submit", (event) => {
  if (!event.target.matches("form[data-dialog]")) return
  event.preventDefault()
  const fields = new FormData(event.target)
  if (event.submitter?.name) fields.append(event.submitter.name, event.submitter.value)
  // Not its property, which the buttons named action take the place of.
  if (fields.has("ids")) ask(`${event.target.getAttribute("action")}?${new URLSearchParams(fields)}`)
})

// --- selecting jobs

function picks() {
  return [...document.querySelectorAll("input[type=checkbox][name=ids]")]
}

function count() {
  const all = document.getElementById("pick-all")
  const bar = document.querySelector(".selected")
  if (!all || !bar) return
  const number = picks().filter((each) => each.checked).length
  all.hidden = false
  all.checked = number > 0 && number === picks().length
  all.indeterminate = number > 0 && !all.checked
  document.getElementById("picked").textContent = number ? `${number} selected:` : "None selected"
  for (const button of bar.querySelectorAll("button")) button.disabled = !number
}

document.addEventListener("change", (event) => {
  if (event.target.id === "pick-all") for (const each of picks()) each.checked = event.target.checked
  if (event.target.matches("#pick-all, input[name=ids]")) count()
})
document.addEventListener("htmx:after:swap", count)
count()

// --- copying

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text)
  } catch {
    // Without TLS, and not on this machine itself, browsers have the older way alone.
    const field = document.createElement("textarea")
    field.value = text
    document.body.append(field)
    field.select()
    document.execCommand("copy")
    field.remove()
  }
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]")
  if (!button) return
  await copy(document.getElementById(button.dataset.copy).textContent)
  button.focus()
  const words = button.lastElementChild
  words.textContent = "Copied"
  setTimeout(() => (words.textContent = "Copy"), 2000)
})

// --- keys

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return
  if (event.target.matches("input, textarea, select")) return
  const find = document.getElementById("find")
  if (find) {
    event.preventDefault()
    find.focus()
  }
})

// --- what was just done is said once

if (document.getElementById("notice")) {
  const address = new URL(location.href)
  for (const name of ["did", "job", "count", "stopping", "kind", "name"]) address.searchParams.delete(name)
  history.replaceState(null, "", address)
}

// --- colours

const THEMES = { "": "as the system has them", light: "light", dark: "dark" }
const button = document.getElementById("theme")

function paint(theme) {
  if (theme) document.documentElement.dataset.theme = theme
  else delete document.documentElement.dataset.theme
  button?.setAttribute("aria-label", `Colours: ${THEMES[theme]}`)
  button?.setAttribute("title", `Colours: ${THEMES[theme]}`)
}

if (button) {
  button.hidden = false
  paint(document.documentElement.dataset.theme ?? "")
  button.addEventListener("click", () => {
    const names = Object.keys(THEMES)
    const next = names[(names.indexOf(document.documentElement.dataset.theme ?? "") + 1) % names.length]
    paint(next)
    try {
      localStorage.setItem("workerjobs-theme", next)
    } catch {
      // It lasts as long as the page does.
    }
  })
}
