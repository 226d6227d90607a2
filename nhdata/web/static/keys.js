// Keys: "/" filter, "n" and "p" pages, "j" and "k" rows, Enter opens. The token leaves the address bar.
"use strict";
const address = new URL(location.href);
if (address.searchParams.has("token")) {
  address.searchParams.delete("token");
  history.replaceState(null, "", address);
}
const rows = () => [...document.querySelectorAll("a.open")];
const step = (by) => {
  const all = rows();
  const next = all.indexOf(document.activeElement) + by;
  all[Math.max(0, Math.min(all.length - 1, next))]?.focus();
};
const actions = {
  "/": () => document.getElementById("where")?.focus(),
  n: () => document.getElementById("next")?.click(),
  p: () => document.getElementById("previous")?.click(),
  j: () => step(1),
  k: () => step(-1),
};
addEventListener("keydown", (event) => {
  const typing = event.target.matches?.("textarea, input");
  if (event.target.id === "where" && event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    event.target.form.requestSubmit();
  } else if (event.key === "Escape" && typing) {
    event.target.blur();
  } else if (!typing && !event.ctrlKey && !event.metaKey && !event.altKey && actions[event.key]) {
    event.preventDefault();
    actions[event.key]();
  }
});
