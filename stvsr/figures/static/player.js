// Comparison of two versions of a clip on one canvas. Everything it draws comes from the page itself.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("frames").textContent);
  const get = (id) => document.getElementById(id);
  const canvas = get("picture"), context = canvas.getContext("2d", { willReadFrequently: true });
  const names = Object.keys(data.clips), count = data.clips[names[0]].length;
  const images = Object.fromEntries(names.map((name) => [name, data.clips[name].map((source) => {
    const image = new Image();
    image.onload = () => draw();
    image.src = source;
    return image;
  })]));
  const state = { mode: "wipe", frame: Math.floor(count / 2), cut: 0.5, x: 0.5, y: 0.5, blink: false, zoom: 4, timer: 0, playing: 0 };
  const left = get("left"), right = get("right");
  names.forEach((name, index) => {
    left.add(new Option(name, name, false, index === 0));
    right.add(new Option(name, name, false, index === names.length - 1));
  });
  get("frame").max = count - 1;
  get("frame").value = state.frame;
  canvas.width = data.width;
  canvas.height = data.height;

  const ready = (image) => image.complete && image.naturalWidth > 0;

  function difference(first, second) {
    context.drawImage(first, 0, 0);
    const a = context.getImageData(0, 0, canvas.width, canvas.height);
    context.drawImage(second, 0, 0);
    const b = context.getImageData(0, 0, canvas.width, canvas.height);
    for (let i = 0; i < a.data.length; i += 4) {
      for (let c = 0; c < 3; c += 1) a.data[i + c] = 128 + 4 * (b.data[i + c] - a.data[i + c]);
    }
    context.putImageData(a, 0, 0);
  }

  function lens(first, second) {
    context.drawImage(first, 0, 0);
    const side = Math.round(Math.min(canvas.width, canvas.height) * 0.4), source = side / state.zoom;
    const x = state.x * canvas.width, y = state.y * canvas.height;
    const from = [Math.min(Math.max(x - source / 2, 0), canvas.width - source), Math.min(Math.max(y - source / 2, 0), canvas.height - source)];
    const to = [x < canvas.width / 2 ? canvas.width - side : 0, 0];
    context.imageSmoothingEnabled = false;
    context.drawImage(first, ...from, source, source, ...to, side, side);
    context.drawImage(second, ...from, source, source, to[0], side, side, side);
    context.imageSmoothingEnabled = true;
    context.strokeStyle = "#fff";
    context.lineWidth = 2;
    context.strokeRect(...from, source, source);
    context.strokeRect(to[0] + 1, 1, side - 2, side - 2);
    context.strokeRect(to[0] + 1, side + 1, side - 2, side - 2);
  }

  function draw() {
    const first = images[left.value][state.frame], second = images[right.value][state.frame];
    if (!ready(first) || !ready(second)) return;
    const cut = Math.round(state.cut * canvas.width);
    if (state.mode === "difference") difference(first, second);
    else if (state.mode === "lens") lens(first, second);
    else if (state.mode === "blink") context.drawImage(state.blink ? second : first, 0, 0);
    else {
      context.drawImage(first, 0, 0);
      if (cut < canvas.width) context.drawImage(second, cut, 0, canvas.width - cut, canvas.height, cut, 0, canvas.width - cut, canvas.height);
      context.fillStyle = "#fff";
      context.fillRect(cut - 1, 0, 2, canvas.height);
    }
    const words = {
      wipe: `${left.value} left of the line, ${right.value} right of it`,
      blink: `now ${state.blink ? right.value : left.value}; it alternates with ${state.blink ? left.value : right.value}`,
      difference: `${right.value} minus ${left.value}, four times, on grey`,
      lens: `${left.value}; enlarged ${state.zoom} times: above ${left.value}, below ${right.value}`,
    }[state.mode];
    get("frame-output").textContent = `${state.frame + 1} of ${count}`;
    get("words").textContent = words;
    canvas.setAttribute("aria-label", `${data.what}, frame ${state.frame + 1} of ${count}: ${words}`);
  }

  function choose(mode) {
    state.mode = mode;
    document.querySelectorAll("[data-mode]").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.mode === mode)));
    clearInterval(state.timer);
    if (mode === "blink") state.timer = setInterval(() => { state.blink = !state.blink; draw(); }, 600);
    get("cut").disabled = mode !== "wipe";
    draw();
  }

  function play() {
    const going = !state.playing;
    clearInterval(state.playing);
    state.playing = going ? setInterval(() => { step(1); }, 1000 / data.rate) : 0;
    get("play").setAttribute("aria-pressed", String(going));
  }

  function step(by) {
    state.frame = (state.frame + by + count) % count;
    get("frame").value = state.frame;
    draw();
  }

  function point(event) {
    const box = canvas.getBoundingClientRect();
    state.x = (event.clientX - box.left) / box.width;
    state.y = (event.clientY - box.top) / box.height;
    if (state.mode === "wipe" && event.buttons) {
      state.cut = Math.min(Math.max(state.x, 0), 1);
      get("cut").value = Math.round(state.cut * 100);
    }
    draw();
  }

  document.querySelectorAll("[data-mode]").forEach((button) => button.addEventListener("click", () => choose(button.dataset.mode)));
  get("frame").addEventListener("input", (event) => { state.frame = Number(event.target.value); draw(); });
  get("cut").addEventListener("input", (event) => { state.cut = event.target.value / 100; draw(); });
  get("play").addEventListener("click", play);
  [left, right].forEach((select) => select.addEventListener("change", draw));
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-0.02, 0], ArrowRight: [0.02, 0], ArrowUp: [0, -0.02], ArrowDown: [0, 0.02] };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const [x, y] = moves[event.key];
    state.x = Math.min(Math.max(state.x + x, 0), 1);
    state.y = Math.min(Math.max(state.y + y, 0), 1);
    if (state.mode === "wipe") { state.cut = Math.min(Math.max(state.cut + x, 0), 1); get("cut").value = Math.round(state.cut * 100); }
    draw();
  });
  const fit = () => { if (window.frameElement) window.frameElement.style.height = `${document.documentElement.scrollHeight}px`; };
  new ResizeObserver(fit).observe(document.querySelector("main"));
  choose("wipe");
  fit();
})();
