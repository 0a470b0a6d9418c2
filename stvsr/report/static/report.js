"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // Tables: a button in each heading sorts; numbers by value, words by spelling, empty cells last.
  const key = (row, column) => row.cells[column].dataset.sort || "";
  const compareKeys = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    if (a === "" || b === "") return a === b ? 0 : a === "" ? Infinity : -Infinity;
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };
  function sortBy(table, column) {
    const headings = all("thead th", table);
    const direction = headings[column].getAttribute("aria-sort") === "ascending" ? -1 : 1;
    headings.forEach((heading) => heading.removeAttribute("aria-sort"));
    headings[column].setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
    const rows = all("tbody tr", table).sort((a, b) => {
      const order = compareKeys(key(a, column), key(b, column));
      return Number.isFinite(order) ? direction * order : order;
    });
    table.tBodies[0].append(...rows);
  }
  for (const table of all("table.sortable")) {
    all("thead th", table).forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = heading.firstElementChild.textContent;
      heading.firstElementChild.replaceChildren(button);
      button.addEventListener("click", () => sortBy(table, column));
    });
  }

  // A box that scrolls sideways can be reached by keyboard; one that does not is no stop on the way.
  const boxes = all(".scroll, .formula, .readout");
  const reachable = () => boxes.forEach((box) => (box.scrollWidth > box.clientWidth + 1 ? (box.tabIndex = 0) : box.removeAttribute("tabindex")));
  new ResizeObserver(reachable).observe(document.body);
  all("details").forEach((details) => details.addEventListener("toggle", reachable));

  // Comparison of two methods.
  function comparison(box, data) {
    const part = Object.fromEntries(all("[data-role]", box).map((element) => [element.dataset.role, element]));
    const stage = box.querySelector(".stage");
    const wipe = box.querySelector(".wipe");
    const sides = ["left", "right"].map((name) => ({ name, image: stage.querySelector(`.layer.${name} img`), tag: stage.querySelector(`.tag.${name}`), select: part[name] }));
    let clip = data.clips[0];
    let timer = 0;
    const option = (value, label) => Object.assign(document.createElement("option"), { value, textContent: label });
    const methodOf = (side) => clip.methods.find((method) => method.name === side.select.value) || clip.methods[0];

    function fill(side, wanted) {
      side.select.replaceChildren(...clip.methods.map((method) => option(method.name, method.label)));
      side.select.value = clip.methods.some((method) => method.name === wanted) ? wanted : clip.methods[0].name;
    }
    function choose(index) {
      const wanted = sides.map((side) => side.select.value || box.dataset[side.name]);
      clip = data.clips[index];
      sides.forEach((side, place) => fill(side, wanted[place]));
      part.frame.max = clip.shown.length - 1;
      part.frame.value = clip.start;
      stage.style.setProperty("--ratio", `${clip.width} / ${clip.height}`);
      stage.style.maxWidth = `min(100%, calc(min(80vh, 46rem) * ${clip.width / clip.height}))`;
      show();
    }
    function show() {
      const place = Number(part.frame.value);
      const frame = clip.shown[place];
      part["frame-output"].textContent = `${frame} of 0\u2013${clip.count - 1}`;
      part.frame.setAttribute("aria-valuetext", `frame ${frame}`);
      part.status.textContent = "";
      for (const side of sides) {
        const method = methodOf(side);
        const address = data.media[method.frames[place]];
        if (side.image.getAttribute("src") !== address) side.image.src = address;
        side.image.alt = `${method.label}, clip ${clip.name}, frame ${frame}`;
        side.tag.textContent = method.label;
      }
      scores(place);
    }
    function scores(place) {
      const methods = sides.map(methodOf);
      const names = [...new Set(methods.flatMap((method) => Object.keys(method.scores)))];
      part.readout.hidden = names.length === 0;
      const cell = (tag, text, scope) => Object.assign(document.createElement(tag), { textContent: text }, scope ? { scope } : {});
      const row = (...cells) => { const line = document.createElement("tr"); line.append(...cells); return line; };
      const head = document.createElement("thead");
      head.append(row(cell("th", `This frame, ${data.protocol}`, "col"), ...names.map((name) => cell("th", name, "col"))));
      const body = document.createElement("tbody");
      methods.forEach((method, index) => {
        const values = names.map((name) => (method.scores[name] || [])[place]);
        body.append(row(cell("th", `${index ? "right" : "left"}: ${method.label}`, "row"), ...values.map((value) => cell("td", value ?? "\u2013"))));
      });
      const table = document.createElement("table");
      table.append(head, body);
      part.readout.replaceChildren(table);
      reachable();
    }
    function zoom() {
      const factor = Number(part.zoom.value);
      stage.style.setProperty("--zoom", factor);
      stage.style.setProperty("--x", `${part.across.value}%`);
      stage.style.setProperty("--y", `${part.down.value}%`);
      stage.classList.toggle("zoomed", factor > 1);
      all(".pan", box).forEach((label) => { label.hidden = factor === 1; });
    }
    function play() {
      const start = !timer;
      clearInterval(timer);
      timer = start ? setInterval(() => { part.frame.value = (Number(part.frame.value) + 1) % clip.shown.length; show(); }, 120) : 0;
      part.play.setAttribute("aria-pressed", String(start));
      part.play.querySelector("span").textContent = start ? "Stop" : "Play";
    }
    function divide() {
      stage.style.setProperty("--p", wipe.value / 100);
      wipe.setAttribute("aria-valuetext", `${Math.round(wipe.value)} percent left`);
    }

    data.clips.forEach((item, index) => part.clip.append(option(index, item.name)));
    part.clip.closest("label").hidden = data.clips.length === 1;
    part.clip.addEventListener("change", () => choose(Number(part.clip.value)));
    sides.forEach((side) => {
      side.select.addEventListener("change", show);
      side.image.addEventListener("error", () => { part.status.textContent = "This frame is in the folder media/, which is not next to this file."; });
    });
    part.swap.addEventListener("click", () => {
      const [left, right] = sides.map((side) => side.select);
      [left.value, right.value] = [right.value, left.value];
      show();
    });
    part.frame.addEventListener("input", show);
    part.play.addEventListener("click", play);
    wipe.addEventListener("input", divide);
    for (const name of ["zoom", "across", "down"]) part[name].addEventListener("input", zoom);
    stage.classList.add("live");
    wipe.hidden = false;
    box.querySelector(".controls").hidden = false;
    choose(0);
    divide();
    zoom();
  }

  // Films of one scene run together: one starts, stops or jumps, the others follow.
  function films(box) {
    const videos = all("video", box);
    const part = Object.fromEntries(all("[data-role]", box).map((element) => [element.dataset.role, element]));
    const frame = 1 / Number(box.querySelector(".film-grid").dataset.rate);
    let leader = null;
    const others = (video) => videos.filter((other) => other !== video);
    const label = (running) => { part.all.querySelector("span").textContent = running ? "Pause all" : "Play all together"; };
    const follow = (video) => others(video).forEach((other) => { if (Math.abs(other.currentTime - video.currentTime) > frame / 2) other.currentTime = video.currentTime; });
    const start = (video) => {
      leader = video;
      follow(video);
      others(video).forEach((other) => { if (other.paused) other.play().catch(() => {}); });
      label(true);
    };
    const stop = () => { leader = null; videos.forEach((video) => video.pause()); label(false); };
    const step = (direction) => {
      stop();
      const now = videos[0].currentTime + direction * frame;
      videos.forEach((video) => { video.currentTime = Math.max(0, Math.min(now, (video.duration || now) - frame / 2)); });
    };
    videos.forEach((video) => {
      video.addEventListener("play", () => { if (!leader) start(video); });
      video.addEventListener("pause", () => { if (leader === video && !video.ended) { stop(); follow(video); } else if (leader) stop(); });
      video.addEventListener("timeupdate", () => { if (leader === video) follow(video); });
      video.addEventListener("seeked", () => { if (!leader && document.activeElement === video) follow(video); });
    });
    part.all.addEventListener("click", () => (leader ? stop() : videos[0].play().catch(() => {})));
    part.back.addEventListener("click", () => step(-1));
    part.forward.addEventListener("click", () => step(1));
    part.speed.addEventListener("change", () => videos.forEach((video) => { video.playbackRate = Number(part.speed.value); }));
    box.querySelector(".film-controls").hidden = false;
  }

  const data = document.getElementById("comparison-data");
  const box = document.getElementById("compare");
  if (data && box) comparison(box, JSON.parse(data.textContent));
  all("[data-films]").forEach(films);
  reachable();

  // On paper, everything that can be unfolded is unfolded.
  addEventListener("beforeprint", () => all("details:not(.notebook)").forEach((details) => { details.open = true; }));
})();
