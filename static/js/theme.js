// Runs in <head>, before the first paint: resolves the chosen theme (system, light, dark) to data-theme.
(() => {
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  function apply() {
    const choice = root.dataset.themeChoice || "system";
    root.dataset.theme = choice === "system" ? (dark.matches ? "dark" : "light") : choice;
  }

  apply();
  dark.addEventListener("change", apply);
  document.addEventListener("qf:theme", (event) => {
    root.dataset.themeChoice = event.detail;
    apply();
  });
})();
