// Runs beside the scripts of mdBook, whose names are global.
{
  // Scrollable parts can be reached with the keyboard, and the button of the contents is a button.
  for (const part of document.querySelectorAll("main pre > code, main .table-wrapper")) {
    part.tabIndex = 0;
    part.setAttribute("role", "region");
    part.setAttribute("aria-label", part.matches("code") ? "Example" : "Table");
  }
  const toggle = document.getElementById("mdbook-sidebar-toggle");
  if (toggle) {
    toggle.setAttribute("role", "button");
    toggle.tabIndex = 0;
    toggle.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      toggle.click();
    });
  }
  // Hidden contents take no focus.
  const sidebar = document.getElementById("mdbook-sidebar");
  if (sidebar) {
    const follow = () => { sidebar.inert = sidebar.getAttribute("aria-hidden") === "true"; };
    new MutationObserver(follow).observe(sidebar, { attributeFilter: ["aria-hidden"] });
    follow();
  }
}
