// What the other scripts share: the data, elements made of text, the hint under the pointer.
const data = JSON.parse(document.getElementById("data").textContent);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const element = (name, className, text, title) => {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  if (title) made.title = title;
  return made;
};

const tip = document.querySelector(".tip");
const hint = (text, x, y) => {
  tip.hidden = !text;
  if (!text) return;
  tip.textContent = text;
  (document.querySelector("dialog[open]") ?? document.body).append(tip);
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(x + 14, innerWidth - width - 8))}px`;
  tip.style.top = `${y + 18 + height > innerHeight ? Math.max(8, y - height - 12) : y + 18}px`;
};
document.addEventListener("pointermove", event => {
  if (event.target.closest?.("canvas")) return;
  const told = event.target.closest?.("[data-said]");
  hint(told?.dataset.said, event.clientX, event.clientY);
});
document.addEventListener("focusin", event => {
  const told = event.target.closest?.("[data-said]");
  if (!told || !told.matches(":focus-visible")) return hint("");
  const { right, bottom } = told.getBoundingClientRect();
  hint(told.dataset.said, right, bottom);
});
document.addEventListener("keydown", event => { if (event.key === "Escape") hint(""); });
addEventListener("scroll", () => hint(""), { passive: true });
