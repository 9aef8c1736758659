// Runs in each page before its own scripts: notes by what people could do something, and what of it was done. A control's
// name says what it does and to what kind of thing, not to which one.
"use strict"
{
  const PLACES = [".segments a", ".tabs a", ".chips a", "[data-copy]", "[data-close]", "#theme"]
  const CONTROLS = `a.button, a[data-dialog], button, summary, ${PLACES}`

  function name(control) {
    const place = PLACES.find((each) => control.matches(each))
    if (place) return place
    const shown = control.cloneNode(true)
    for (const each of shown.querySelectorAll(".hidden")) each.remove()
    const [word] = shown.textContent.replaceAll(/\d+/g, " ").trim().split(/\s/)
    if (control.matches("summary")) return `details: ${word}`
    const form = control.closest("form")
    const goesTo = new URL(control.getAttribute("href") ?? form.getAttribute("action"), location.href)
    const path = goesTo.pathname.replaceAll(/\d+/g, "N")
    if (control.closest("#notice")) return `notice: ${word} ${path}`
    const kind = goesTo.searchParams.get("kind") ?? form?.elements.kind?.value ?? ""
    return `${word} ${path} ${kind}`.trim()
  }

  function note(list, names) {
    const noted = new Set(JSON.parse(sessionStorage.getItem(list) ?? "[]"))
    for (const each of names) noted.add(each)
    sessionStorage.setItem(list, JSON.stringify([...noted]))
  }

  const see = () => note("seen", [...document.querySelectorAll(CONTROLS)].filter((each) => !each.disabled).map(name))
  document.addEventListener("DOMContentLoaded", see)
  document.addEventListener(
    "click",
    (event) => {
      see()
      const control = event.target.closest?.(CONTROLS)
      if (control) note("used", [name(control)])
    },
    true,
  )
}
