// Before anything is drawn: the colours that were chosen here, if any.
"use strict"
try {
  const chosen = localStorage.getItem("workerjobs-theme")
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen
} catch {
  // Without storage the system's colours it is.
}
