// The maps in frames follow the page's theme, light or dark; wide code can be scrolled,
// figures opened by themselves.
const theme = () => {
  const chosen = document.body.dataset.theme, dark = matchMedia("(prefers-color-scheme: dark)");
  return chosen === "auto" || !chosen ? (dark.matches ? "dark" : "light") : chosen;
};
const tellFrames = () => document.querySelectorAll("iframe").forEach(frame =>
  frame.contentWindow?.postMessage({ theme: theme() }, "*"));
if (location.protocol === "file:")  // excerpts of what a search finds cannot be fetched
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
addEventListener("DOMContentLoaded", () => {
  for (const code of document.querySelectorAll("pre"))  // by keyboard, too
    if (code.scrollWidth > code.clientWidth) code.tabIndex = 0;
  for (const image of document.querySelectorAll(".cell_output img")) {  // to enlarge it
    const link = Object.assign(document.createElement("a"), { href: image.src });
    image.replaceWith(link);
    link.append(image);
  }
  new MutationObserver(tellFrames).observe(document.body, { attributeFilter: ["data-theme"] });
  document.querySelectorAll("iframe").forEach(frame => frame.addEventListener("load", () =>
    setTimeout(tellFrames, 500)));
  tellFrames();
});
