// The viewer: which two pictures lie over one another, and how. Works offline, mouse or keyboard.
(() => {
  const viewer = document.querySelector(".viewer");
  if (!viewer) return;
  const find = (selector) => viewer.querySelector(selector);
  const chosen = (name) => find(`input[name="${name}"]:checked`).value;
  const slider = find("#slider");
  const play = find("#play");
  const now = find("#now");
  const sliders = {
    flicker: { label: "Flips per second", min: 0.5, max: 6, step: 0.5, value: 1.5 },
    blend: { label: "Blend", min: 0, max: 1, step: 0.01, value: 0.5 },
    swipe: { label: "Divide at", min: 0, max: 1, step: 0.01, value: 0.5 },
    checker: { label: "Size of squares", min: 8, max: 60, step: 1, value: 22 },
    difference: null,
  };
  let timer = 0;
  let upper = true;
  let touched = false; // once a first picture was chosen by hand, a change of mode leaves it alone

  const names = (side) => find(`input[name="${side}"]:checked + span`).textContent.trim();

  function draw() {
    const mode = chosen("mode");
    const value = Number(slider.value);
    viewer.dataset.mode = mode;
    for (const image of viewer.querySelectorAll(".layer")) {
      image.classList.toggle("a", image.dataset.layer === chosen("first"));
      image.classList.toggle("b", image.dataset.layer === chosen("second"));
    }
    const mix = mode === "flicker" ? (upper ? 1 : 0) : value;
    viewer.style.setProperty("--mix", mix);
    viewer.style.setProperty("--at", `${value * 100}%`);
    viewer.style.setProperty("--size", `${value}px`);
    const [first, second] = [names("first"), names("second")];
    now.textContent = {
      flicker: `Showing: ${upper ? second : first}`,
      blend: `${first} and ${second}, ${Math.round(value * 100)} % of the second`,
      swipe: `Left ${first}, right ${second}`,
      checker: `${first} and ${second} in turn`,
      difference: `Difference of ${first} and ${second}: black where they agree`,
    }[mode];
  }

  function enter() {
    const mode = chosen("mode");
    const settings = sliders[mode];
    find("#slider-box").hidden = !settings;
    play.hidden = find("#flip").hidden = mode !== "flicker";
    if (settings) {
      find("#slider-label").textContent = settings.label;
      Object.assign(slider, { min: settings.min, max: settings.max, step: settings.step });
      slider.value = settings.value;
    }
    if (!touched) find(`input[name="first"][value="${mode === "flicker" ? (viewer.dataset.before || "initialize") : "fixed"}"]`).checked = true;
    stop();
    upper = true;
    draw();
  }

  function flip() { upper = !upper; draw(); }
  function stop() { clearInterval(timer); timer = 0; play.setAttribute("aria-pressed", "false"); play.textContent = "Play"; }
  function start() {
    clearInterval(timer);
    timer = setInterval(flip, 1000 / Number(slider.value));
    play.setAttribute("aria-pressed", "true");
    play.textContent = "Stop";
  }
  function choose(name, value) {
    const input = find(`input[name="${name}"][value="${value}"]`);
    if (input) { input.checked = true; name === "mode" ? enter() : draw(); }
  }
  function toggle(name) { const box = find(`input[data-class="${name}"]`); if (!box) return; box.checked = !box.checked; show(box); }
  function show(box) { viewer.classList.toggle(box.dataset.class, box.checked); }

  viewer.addEventListener("change", (event) => {
    const input = event.target;
    if (input.name === "mode") enter();
    else if (input.dataset.class) show(input);
    else {
      touched ||= input.name === "first";
      draw();
    }
  });
  slider.addEventListener("input", () => { const mode = chosen("mode"); sliders[mode].value = Number(slider.value); if (timer) start(); draw(); });
  play.addEventListener("click", () => (timer ? stop() : start()));
  find("#flip").addEventListener("click", () => { stop(); flip(); });
  for (const tile of viewer.querySelectorAll("button.tile")) {
    tile.addEventListener("click", () => {
      const big = tile.classList.toggle("big");
      tile.setAttribute("aria-expanded", String(big));
    });
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const kind = event.target.type;
    if (kind === "search" || kind === "text") return;
    const layers = ["fixed", "start", "initialize", "refine"];
    const modes = { f: "flicker", b: "blend", s: "swipe", k: "checker", d: "difference" };
    if (event.key === " " && event.target.tagName !== "BUTTON" && kind !== "checkbox" && event.target.tagName !== "SUMMARY") {
      event.preventDefault();
      if (chosen("mode") === "flicker") { stop(); flip(); }
    } else if (event.key >= "1" && event.key <= "4") choose("second", layers[Number(event.key) - 1]);
    else if (modes[event.key]) choose("mode", modes[event.key]);
    else if (event.key === "p" && chosen("mode") === "flicker") play.click();
    else if (event.key === "c") toggle("with-contours");
    else if (event.key === "g") toggle("with-lattice");
    else if (event.key === "j") toggle("with-jac");
  });
  viewer.classList.add("ready");
  enter();
})();
