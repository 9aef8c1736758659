// What is wrong with how a page lies in its window: an expression whose value is a list of sentences.
(() => {
  const SLACK = 2 // pixels by which lines of text may touch
  const told = (element) => element.outerHTML.slice(0, 140)

  const within = (one, other) => ({
    left: Math.max(one.left, other.left),
    top: Math.max(one.top, other.top),
    right: Math.min(one.right, other.right),
    bottom: Math.min(one.bottom, other.bottom),
  })

  // What elements leave to be seen of what is in them: they may cut it off, or let it be scrolled.
  const frames = new Map([[document.body, { left: -Infinity, top: -Infinity, right: Infinity, bottom: Infinity }]])
  function frame(element) {
    if (!frames.has(element)) {
      const { overflowX, overflowY, position } = getComputedStyle(element)
      const outer = frame(position === "fixed" || position === "sticky" ? document.body : element.parentElement)
      const isOpen = overflowX === "visible" && overflowY === "visible"
      frames.set(element, isOpen ? outer : within(outer, element.getBoundingClientRect()))
    }
    return frames.get(element)
  }

  const isShown = (element) =>
    element.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && !element.closest(".hidden, .skip")

  // Each line of text, each field, button and picture.
  const boxes = []
  const roots = document.querySelector("dialog[open]") ? ["dialog[open]"] : [".top", ".side", "main"]
  for (const root of roots.flatMap((each) => [...document.querySelectorAll(each)])) {
    const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT)
    while (texts.nextNode()) {
      const element = texts.currentNode.parentElement
      if (!texts.currentNode.data.trim() || !isShown(element) || element.closest("svg, datalist")) continue
      const range = document.createRange()
      range.selectNodeContents(texts.currentNode)
      for (const each of range.getClientRects()) boxes.push({ element, root, ...within(each, frame(element)) })
    }
    for (const element of root.querySelectorAll("input, textarea, button, svg, progress, meter")) {
      if (isShown(element)) boxes.push({ element, root, ...within(element.getBoundingClientRect(), frame(element)) })
    }
  }
  const shown = boxes.filter((box) => box.right - box.left >= 1 && box.bottom - box.top >= 1)

  const problems = []
  const more = document.documentElement.scrollWidth - document.documentElement.clientWidth
  if (more > 0) problems.push(`the page is ${more} px too wide`)
  for (const { element, right, left } of shown) {
    if (right > innerWidth + 1 || left < -1) problems.push(`beyond the window: ${told(element)}`)
  }
  shown.sort((one, other) => one.top - other.top)
  shown.forEach((one, index) => {
    for (const other of shown.slice(index + 1)) {
      if (other.top >= one.bottom - SLACK) break
      const isOver = Math.min(one.right, other.right) - Math.max(one.left, other.left) > SLACK
      const isRelated = one.element.contains(other.element) || other.element.contains(one.element)
      const isMeant = one.root !== other.root || one.element.closest(".find") || other.element.closest(".find kbd")
      if (isOver && !isRelated && !isMeant) problems.push(`${told(one.element)} lies over ${told(other.element)}`)
    }
  })
  for (const element of document.querySelectorAll("main :is(button, .button, .state, .badge, th, dt, h1, h2)")) {
    if (isShown(element) && element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).display !== "inline")
      problems.push(`cut off: ${told(element)}`)
  }
  return problems
})()
