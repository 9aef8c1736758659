// Before anything is drawn: that there are scripts, and the colours that were chosen here, if any.
"use strict"
document.documentElement.classList.add("scripts")
try {
  const chosen = localStorage.getItem("workerjobs-theme")
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen
} catch {
  // Without storage the system's colours it is.
}
