// What scrolls sideways must be within reach of the keyboard, also what the theme has just wrapped.
for (const each of document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code, .md-sidebar__scrollwrap"))
  if (each.scrollWidth > each.clientWidth || each.matches(".md-typeset__scrollwrap, .md-sidebar__scrollwrap"))
    each.tabIndex = 0;
