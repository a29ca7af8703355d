// Before the page is drawn: the colours that were chosen, if any.
"use strict";
try {
  const chosen = localStorage.getItem("tasksd-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // without storage it is as the system has it
}
