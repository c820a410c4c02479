"use strict";

// The page works without this file, but for window and level, zoom, layers and keys.

const byId = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

function remembered(id, storage) {
  // A checkbox or a slider that stays as it was left from one case to the next.
  const input = byId(id);
  if (!input) return;
  const key = input.type === "checkbox" ? "checked" : "value";
  const before = storage.getItem(id);
  if (before !== null) input[key] = key === "checked" ? before === "true" : before;
  input.addEventListener("input", () => storage.setItem(id, String(input[key])));
}

function layers() {
  if (!byId("heat")) return;
  const show = () => {
    byId("heat").hidden = !byId("show-heat").checked;
    byId("heat").style.opacity = byId("opacity").value / 100;
    byId("lungs").hidden = !byId("show-lungs").checked;
  };
  for (const id of ["show-heat", "opacity", "show-lungs"]) {
    remembered(id, sessionStorage);
    byId(id).addEventListener("input", show);
  }
  show();
}

function gray() {
  // Level and window are shares of the window of the file. They work on the true values once these are there, and until
  // then on the 8 bits of the picture: out = (in - level) / window + 1/2, as in DICOM.
  const level = byId("level");
  const width = byId("window");
  let values = null;
  const show = () => {
    const inverted = byId("invert").checked;
    const plain = !inverted && level.value === level.defaultValue && width.value === width.defaultValue;
    const slope = (inverted ? -1 : 1) * 100 / width.value;
    for (const part of document.querySelectorAll("#gray feComponentTransfer > *")) {
      part.setAttribute("slope", slope);
      part.setAttribute("intercept", 0.5 - slope * level.value / 100);
    }
    byId("xray").style.filter = plain || values ? "" : "url(#gray)";
    byId("xray").classList.toggle("under", !plain && values !== null);
    byId("values").hidden = plain || values === null;
    values?.show(level.value / 100, width.value / 100, inverted);
  };
  const load = async () => {
    const { TrueGray } = await import("/static/gray.js");
    values = await TrueGray.load(byId("values"), byId("window-values"));
    show();
  };
  const begin = () => load().catch(() => {});  // the picture of 8 bits stays
  if (byId("xray").complete) begin();
  else byId("xray").addEventListener("load", begin, { once: true });
  for (const id of ["level", "window", "invert"]) byId(id).addEventListener("input", show);
  return {
    drag(dx, dy) {
      width.value = Number(width.value) + dx * 0.4;
      level.value = Number(level.value) + dy * 0.2;  // down is brighter, as on most workstations
      show();
    },
    reset() {
      level.value = level.defaultValue;
      width.value = width.defaultValue;
      byId("invert").checked = false;
      show();
    },
  };
}

function place() {
  // Where the picture lies: scaled about the middle of the view, then moved.
  const view = byId("view");
  let scale = 1;
  let x = 0;
  let y = 0;
  const show = () => {
    const [farX, farY] = [view.clientWidth * scale / 2, view.clientHeight * scale / 2];
    [x, y] = [clamp(x, -farX, farX), clamp(y, -farY, farY)];
    byId("stage").style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
  };
  return {
    move(dx, dy) {
      x += dx;
      y += dy;
      show();
    },
    zoom(factor, clientX, clientY) {
      // What lies under the pointer stays there.
      const box = view.getBoundingClientRect();
      const fromX = (clientX ?? box.left + box.width / 2) - box.left - box.width / 2;
      const fromY = (clientY ?? box.top + box.height / 2) - box.top - box.height / 2;
      const former = scale;
      scale = clamp(scale * factor, 1, 16);
      x = fromX - (fromX - x) * scale / former;
      y = fromY - (fromY - y) * scale / former;
      if (scale === 1) [x, y] = [0, 0];
      show();
    },
    reset() {
      [scale, x, y] = [1, 0, 0];
      show();
    },
  };
}

function pointers(tone, position) {
  const view = byId("view");
  const down = new Map();
  const spread = () => {
    const [a, b] = [...down.values()];
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, far: Math.hypot(a.x - b.x, a.y - b.y) };
  };
  view.addEventListener("pointerdown", (event) => {
    if (event.button > 1) return;
    event.preventDefault();
    view.setPointerCapture(event.pointerId);
    down.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  view.addEventListener("pointermove", (event) => {
    const before = down.get(event.pointerId);
    if (!before) return;
    const two = down.size === 2 ? spread() : null;
    const [dx, dy] = [event.clientX - before.x, event.clientY - before.y];
    down.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (two) {
      const now = spread();
      position.move(now.x - two.x, now.y - two.y);
      if (two.far > 0) position.zoom(now.far / two.far, now.x, now.y);
    } else if (event.shiftKey || event.buttons === 4 || byId("pan").checked) {
      position.move(dx, dy);
    } else {
      tone.drag(dx, dy);
    }
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    view.addEventListener(kind, (event) => down.delete(event.pointerId));
  }
  view.addEventListener("wheel", (event) => {
    event.preventDefault();
    position.zoom(Math.exp(-event.deltaY / 400), event.clientX, event.clientY);
  }, { passive: false });
}

function missing() {
  // In place of a picture that cannot be shown, the reason that the server gives.
  const picture = byId("xray");
  const tell = async () => {
    const answer = await fetch(picture.src);
    byId("missing").textContent = answer.ok ? document.body.dataset.noPicture : await answer.text();
    byId("missing").hidden = false;
    byId("stage").hidden = true;
  };
  if (picture.complete && !picture.naturalWidth) tell();
  picture.addEventListener("error", tell);
  for (const id of ["heat", "lungs"]) {
    byId(id)?.addEventListener("error", (event) => { event.target.dataset.gone = ""; });
  }
}

function keys(actions) {
  remembered("keys", localStorage);
  document.addEventListener("keydown", (event) => {
    const field = event.target;
    if (event.key === "Escape" && field.form?.id === "verdict") field.blur();
    const typing = field.matches("textarea, select, input:not([type=checkbox], [type=range])");
    const sliding = field.matches("input[type=range]") && event.key.startsWith("Arrow");
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || typing || sliding) return;
    const action = byId("keys").checked || event.key.startsWith("Arrow") ? actions[event.key] : undefined;
    if (!action) return;
    event.preventDefault();
    action();
  });
}

function viewer() {
  const click = (id) => () => byId(id)?.click();
  const verdict = (digit) => () => document.querySelector(`#verdict [data-key="${digit}"]`)?.click();
  const actions = {
    j: click("next"), ArrowRight: click("next"), k: click("previous"), ArrowLeft: click("previous"),
    1: verdict(1), 2: verdict(2), 3: verdict(3), u: click("back"), n: () => byId("note")?.focus(),
    h: click("show-heat"), l: click("show-lungs"), i: click("invert"), r: click("reset"),
    "+": click("larger"), "=": click("larger"), "-": click("smaller"),
  };
  if (byId("view")) {
    const tone = gray();
    const position = place();
    layers();
    pointers(tone, position);
    byId("larger").addEventListener("click", () => position.zoom(1.25));
    byId("smaller").addEventListener("click", () => position.zoom(0.8));
    byId("reset").addEventListener("click", () => {
      tone.reset();
      position.reset();
    });
    missing();
  }
  keys(actions);
  let sent = false;  // a second press before the next case is there would be a second verdict
  byId("verdict")?.addEventListener("submit", (event) => {
    if (sent) event.preventDefault();
    sent = true;
  });
  window.addEventListener("pageshow", () => { sent = false; });
}

function upload() {
  const form = byId("upload");
  form.addEventListener("submit", (event) => {
    const file = byId("image").files[0];
    const largest = Number(form.dataset.max);
    const fits = file.size <= largest;
    if (!fits) event.preventDefault();
    byId("upload-state").textContent = fits
      ? document.body.dataset.screening : document.body.dataset.tooLarge;
  });
}

if (document.body.classList.contains("viewer")) viewer();
if (byId("upload")) upload();
