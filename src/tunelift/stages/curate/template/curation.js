// A link to a reason opens it: browsers go to a closed <details> and leave it closed.
"use strict";
(() => {
  const open = (hash) => {
    const target = hash.length > 1 && document.getElementById(decodeURIComponent(hash.slice(1)));
    if (target && target.tagName === "DETAILS") target.open = true;
  };
  addEventListener("click", (event) => {
    const link = event.target instanceof Element && event.target.closest("a[href^='#']");
    if (link) open(link.hash);
  });
  open(location.hash);
})();
