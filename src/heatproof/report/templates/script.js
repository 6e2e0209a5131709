(function () {
  var root = document.documentElement, button = document.getElementById("theme");
  var dark = window.matchMedia("(prefers-color-scheme: dark)");
  function now() { return root.dataset.theme || (dark.matches ? "dark" : "light"); }
  function name() { button.textContent = now() === "dark" ? "Light" : "Dark"; }
  try { var kept = localStorage.getItem("heatproof-theme"); if (kept) root.dataset.theme = kept; } catch (error) {}
  button.hidden = false;
  button.addEventListener("click", function () {
    root.dataset.theme = now() === "dark" ? "light" : "dark";
    try { localStorage.setItem("heatproof-theme", root.dataset.theme); } catch (error) {}
    name();
  });
  dark.addEventListener("change", name);
  name();
  var opened = [];
  window.addEventListener("beforeprint", function () {
    opened = Array.prototype.slice.call(document.querySelectorAll("details:not([open])"));
    opened.forEach(function (box) { box.open = true; });
  });
  window.addEventListener("afterprint", function () {
    opened.forEach(function (box) { box.open = false; });
  });
})();
