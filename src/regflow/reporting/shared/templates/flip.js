// Pictures to flip between: one method at a time over the fixed image, by mouse or keyboard, offline.
(() => {
  const flipper = document.querySelector(".flipper");
  if (!flipper) return;
  const moving = [...flipper.querySelectorAll(".flip-moving")];
  const inputs = [...flipper.querySelectorAll('input[name="shown"]')];
  const flicker = flipper.querySelector("#flicker");
  let covered = true;
  let timer = 0;

  function draw() {
    const chosen = inputs.findIndex((input) => input.checked);
    moving.forEach((image, number) => { image.hidden = !(covered && number === chosen); });
  }

  function step(by) {
    const chosen = inputs.findIndex((input) => input.checked);
    inputs[(chosen + by + inputs.length) % inputs.length].checked = true;
    draw();
  }

  flipper.addEventListener("change", () => {
    clearInterval(timer);
    covered = true;
    if (flicker.checked) timer = setInterval(() => { covered = !covered; draw(); }, 600);
    draw();
  });
  document.addEventListener("keydown", (event) => {
    if (["search", "text"].includes(event.target.type) || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " ") { event.preventDefault(); covered = false; draw(); }
    else if (event.key === "ArrowRight" && event.target.name !== "shown") step(1);
    else if (event.key === "ArrowLeft" && event.target.name !== "shown") step(-1);
  });
  document.addEventListener("keyup", (event) => { if (event.key === " ") { covered = true; draw(); } });
  draw();
})();
