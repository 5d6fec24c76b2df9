// Live views: the server says that something changed, and this asks for the view again. Without it the page works the same, still.
"use strict";
(() => {
  const main = () => document.getElementById("main");
  if (!main().dataset.live) return;
  const RETRY = 15000;
  let stream = null, again = 0, waiting = false;

  const show = (state, text) => {
    document.getElementById("live").dataset.state = state;
    document.getElementById("live-text").textContent = text;
  };
  const clock = () => new Date().toISOString().slice(11, 19) + " UTC";
  const isBusy = () => {
    const at = document.activeElement;
    return (at && main().contains(at) && /^(INPUT|SELECT|TEXTAREA)$/.test(at.tagName)) || !getSelection().isCollapsed;
  };

  // The same element in the new text: by its id, its address, or its place among its kind.
  const find = (root, at) => {
    if (at.id) return root.querySelector("#" + CSS.escape(at.id));
    if (at.getAttribute("href")) return [...root.querySelectorAll("a")].find((each) => each.getAttribute("href") === at.getAttribute("href"));
    return root.querySelectorAll(at.tagName)[[...main().querySelectorAll(at.tagName)].indexOf(at)];
  };

  const refresh = async () => {
    if (isBusy()) { waiting = true; return; }
    waiting = false;
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!answer.ok) { location.reload(); return; }
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const old = main(), next = fresh.getElementById("main"), at = document.activeElement;
    if (isBusy()) { waiting = true; return; }
    for (const each of old.querySelectorAll("details[open][id]")) fresh.getElementById(each.id)?.setAttribute("open", "");
    const focused = at && old.contains(at) && at !== old ? find(next, at) : null;
    const news = next.dataset.news;
    if (news !== old.dataset.news) document.getElementById("news").textContent = news;
    document.title = fresh.title;
    old.replaceWith(next);
    if (focused) focused.focus({ preventScroll: true });
    else if (at === old) next.focus({ preventScroll: true });
    show("live", "Live, " + clock());
  };
  const tried = () => refresh().catch(() => show("lost", "Not live since " + clock()));

  const open = () => {
    clearTimeout(again);
    if (stream || document.hidden) return;
    stream = new EventSource(main().dataset.live);
    stream.onopen = () => show("live", "Live");
    stream.addEventListener("change", tried);
    stream.addEventListener("over", () => location.reload());
    stream.onerror = () => {
      show("lost", "Not live since " + clock());
      if (stream && stream.readyState === EventSource.CLOSED) { close(); again = setTimeout(open, RETRY); }
    };
  };
  const close = () => { if (stream) stream.close(); stream = null; };

  document.addEventListener("visibilitychange", () => { if (document.hidden) close(); else { open(); tried(); } });
  document.addEventListener("focusout", () => setTimeout(() => { if (waiting) tried(); }, 0));
  addEventListener("pagehide", close);
  open();
})();
