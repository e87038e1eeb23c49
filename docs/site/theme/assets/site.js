// What scrolls sideways must be within reach of the keyboard, also what the theme wraps later, or a narrower window cuts.
let asked = 0;
const reach = () => {
  asked = 0;
  for (const each of document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code, .md-sidebar__scrollwrap"))
    if (each.scrollWidth > each.clientWidth || each.matches(".md-typeset__scrollwrap, .md-sidebar__scrollwrap"))
      each.tabIndex = 0;
};
const later = () => (asked ||= requestAnimationFrame(reach));
later();
addEventListener("resize", later);
new MutationObserver(later).observe(document.body, { childList: true, subtree: true });
